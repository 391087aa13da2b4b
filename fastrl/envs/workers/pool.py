"""Worker processes: started, asked, watched, and ended whatever happens."""

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from typing import Any, NoReturn

from fastrl.envs.foreign import EnvironmentFailure
from fastrl.envs.workers import channel as ops
from fastrl.envs.workers.channel import Channel

START = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = json.loads(sys.argv[1]); from fastrl.envs.workers.process import main; "
    "main(*map(int, sys.argv[2:]))"
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CLOSE_SECONDS = 10.0
CRASH_SECONDS = 2.0


class WorkerError(EnvironmentFailure):
    """An environment in a worker raised an exception, which is the cause of this one, or its worker died."""


class WorkerPool:
    """Processes that answer requests, each its own.

    They are fresh interpreters (no fork: threads and locks of this process do not reach them) that import
    nothing but what their environments need: no ``if __name__ == "__main__"`` is called for. They end with
    :meth:`close`, with the garbage collection of the pool, with the interpreter, and by themselves when
    this process is gone.

    Args:
        owner: name of the owner, for messages.
        parts: first and last env, and one more, of each worker.
        memory: descriptor that they get.
    """

    def __init__(self, owner: str, parts: Sequence[tuple[int, int]], memory: int) -> None:
        self.owner = owner
        self.parts = parts
        self._number = 0
        self._pid = os.getpid()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channels: list[Channel] = []
        self._finalizer = weakref.finalize(
            self, _end, self._pid, self._processes, self._channels, CLOSE_SECONDS
        )
        try:
            self._start(memory)
        except BaseException:
            self.close(0.0)
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process in self._processes]

    @property
    def closed(self) -> bool:
        """Whether the workers have been ended."""
        return not self._finalizer.alive

    def ask(self, what: str, operation: bytes, payloads: Sequence[bytes] | None = None) -> None:
        """Send every worker a request; a reply to an earlier one that still comes is dropped.

        Args:
            what: the request, for messages.
            operation: the request.
            payloads: of each worker; None: nothing.

        Raises:
            WorkerError: a worker is dead; all are ended.
        """
        self._what = what
        if os.getpid() != self._pid:
            raise WorkerError(f"{self.owner}: belongs to process {self._pid}; a fork of it cannot use it")
        if any(channel.torn for channel in self._channels):
            self.close(CRASH_SECONDS)
            raise WorkerError(f"{self.owner}: was interrupted in the middle of a message; it is closed")
        self._number = (self._number + 1) % 2**32
        for i, channel in enumerate(self._channels):
            try:
                channel.send(operation, self._number, payloads[i] if payloads is not None else b"")
            except ConnectionError:
                self._dead(i)

    def replies(self, timeout: float | None = None) -> list[Any]:
        """What every worker answers to the last request, None for nothing.

        Args:
            timeout: seconds for all; None: as long as the workers live.

        Raises:
            WorkerError: an environment raised, and all workers have answered; or a worker died, and all are
                ended.
            TimeoutError: not all answered in time; all are ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        values: list[Any] = []
        failures = []
        for i, channel in enumerate(self._channels):
            operation, payload = self._reply(i, channel, timeout, deadline)
            if operation == ops.ERROR:
                failures.append((i, payload))
            values.append(pickle.loads(payload) if operation == ops.VALUE else None)
        if failures:
            self._failed(*failures[0])
        return values

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Ask the workers to close their environments and end; those that have not in time are killed."""
        if self._finalizer.detach() is not None:
            _end(self._pid, self._processes, self._channels, timeout)

    def _reply(
        self, i: int, channel: Channel, timeout: float | None, deadline: float | None
    ) -> tuple[bytes, bytes]:
        while True:
            try:
                channel.wait(self._require_alive, deadline)
                operation, number, payload = channel.receive()
            except EOFError:
                self._dead(i)
            except TimeoutError:
                self.close(CRASH_SECONDS)
                late = f"{self._name(i)} did not answer within {timeout} s"
                raise TimeoutError(f"{self.owner} {self._what}: {late}; it is closed") from None
            if number == self._number:
                return operation, payload

    def _require_alive(self) -> None:
        for i, process in enumerate(self._processes):
            if process.poll() is not None:
                self._dead(i)

    def _name(self, i: int) -> str:
        first, end = self.parts[i]
        envs = f"env {first}" if end == first + 1 else f"envs {first} to {end - 1}"
        return f"worker {i} ({envs})"

    def _dead(self, i: int) -> NoReturn:
        process = self._processes[i]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(CRASH_SECONDS)
        self.close(CRASH_SECONDS)
        code = process.returncode
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        raise WorkerError(
            f"{self.owner} {self._what}: {self._name(i)}, process {process.pid}, died, {how}; it is closed"
        ) from None

    def _failed(self, i: int, payload: bytes) -> NoReturn:
        env, summary, text, sent = pickle.loads(payload)
        cause = None
        with contextlib.suppress(Exception):  # its class may be of a module that is not here
            cause = pickle.loads(sent)
        raise WorkerError(
            f"{self.owner} {self._what}: env {env}, in worker {i}, raised {summary}\n\nIn the worker:\n{text}"
        ) from cause

    def _start(self, memory: int) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI_"))}
        environment |= {name: "1" for name in THREADS if name not in os.environ}
        flags = [f"-W{option}" for option in sys.warnoptions]
        for _ in self.parts:
            ours, theirs = socket.socketpair()
            self._channels.append(Channel(ours))
            with theirs:
                numbers = map(str, (theirs.fileno(), memory, self._pid))
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, *flags, "-c", START, json.dumps(sys.path), *numbers],
                        stdin=subprocess.DEVNULL,
                        pass_fds=(theirs.fileno(), memory),
                        env=environment,
                    )
                )


def _end(pid: int, processes: list[subprocess.Popen[bytes]], channels: list[Channel], timeout: float) -> None:
    """Ends the workers, by hanging up; in a fork of their parent only lets go of them."""
    for channel in channels:
        channel.close(hang_up=os.getpid() == pid)
    if os.getpid() != pid:
        return
    deadline = time.monotonic() + timeout
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
