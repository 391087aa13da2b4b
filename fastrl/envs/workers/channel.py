"""Messages between a vector environment and its workers, over a stream socket."""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable

HEADER = struct.Struct("=cIQ")  # operation, number of the request, bytes of the payload
TICK_MS = 500

BUILD, MAP, RESET, STEP, STEP_GIVEN, CALL, SET = (bytes([c]) for c in b"BMRSGCA")
"""Requests: make the envs, map the memory, reset, step with the actions in memory or in the message, call a
method, set an attribute."""
DONE, VALUE, ERROR = (bytes([c]) for c in b"dve")
"""Replies: without content, with a pickled value, with a pickled failure."""


class Channel:
    """Sends and receives ``(operation, number, payload)``.

    A reply carries the number of its request, so that one whose request was interrupted is told apart and
    dropped. Waiting blocks in ``poll``: an idle end costs no processor time.

    Args:
        sock: a connected stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.torn = False
        """Whether an exception, as Ctrl-C raises one, came in the middle of a message: nothing that follows
        can be understood."""

    def send(self, operation: bytes, number: int, payload: bytes = b"") -> None:
        """Sends one message.

        Raises:
            ConnectionError: the other end is gone.
        """
        self.torn = True
        self._socket.sendall(HEADER.pack(operation, number, len(payload)) + payload)
        self.torn = False

    def wait(self, alive: Callable[[], None], deadline: float | None = None) -> None:
        """Returns when a message comes, or the other end is gone. An interrupt here tears nothing.

        Args:
            alive: called twice a second while nothing comes; raises to end the wait.
            deadline: value of ``time.monotonic`` at which to give up; None: never.

        Raises:
            TimeoutError: nothing came in time.
        """
        wait = TICK_MS
        if deadline is not None:
            wait = min(TICK_MS, max(0, int(1000 * (deadline - time.monotonic()))))
        while not self._poll.poll(wait):
            alive()
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError
                wait = min(TICK_MS, int(1000 * remaining) + 1)

    def receive(self) -> tuple[bytes, int, bytes]:
        """The next message, however long it takes to come.

        Raises:
            EOFError: the other end is gone.
        """
        self.torn = True
        operation, number, length = HEADER.unpack(self._exactly(HEADER.size))
        payload = self._exactly(length) if length else b""
        self.torn = False
        return operation, number, payload

    def close(self, hang_up: bool = True) -> None:
        """Closes this end; ``hang_up`` ends the connection even if forks of this process still hold it."""
        if hang_up:
            self.hang_up()
        self._socket.close()

    def hang_up(self) -> None:
        """Ends the connection: both ends see the end of it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _exactly(self, count: int) -> bytes:
        try:
            data = self._socket.recv(count)
            if len(data) == count:
                return data
            received = bytearray(data)
            while data and len(received) < count:
                data = self._socket.recv(count - len(received))
                received += data
        except ConnectionError:
            raise EOFError from None
        if len(received) < count:
            raise EOFError
        return bytes(received)
