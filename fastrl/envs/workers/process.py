"""The worker process: serves a vector environment's requests until it hangs up or is gone."""

import contextlib
import os
import pickle
import select
import signal
import socket
import threading
import time
import traceback
from typing import Any

import cloudpickle
import gymnasium

from fastrl.envs.workers import channel as ops
from fastrl.envs.workers.channel import Channel
from fastrl.envs.workers.chunk import Chunk
from fastrl.envs.workers.shared import shared_buffers

ORPHAN_SECONDS = 5.0  # to close the environments in


def main(descriptor: int, memory: int, parent: int) -> None:
    """Serve requests.

    Args:
        descriptor: of the socket to the parent.
        memory: of the file in memory that is shared.
        parent: process id.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer; it reaches both
    channel = Channel(socket.socket(fileno=descriptor))
    threading.Thread(target=_end_after, args=(parent, channel), daemon=True).start()
    server = _Server(channel, memory)
    with contextlib.suppress(EOFError, ConnectionError):
        server.serve()
    server.close()


def _end_after(parent: int, channel: Channel) -> None:
    """Ends this process when its parent is gone: even if forks of the parent hold the other end, and in the
    end even if an environment never returns from a step.
    """
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            watch = select.poll()
            watch.register(os.pidfd_open(parent), select.POLLIN)
            watch.poll()
    while os.getppid() == parent:
        time.sleep(1.0)
    channel.hang_up()
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


class _Server:
    def __init__(self, channel: Channel, memory: int) -> None:
        self._channel = channel
        self._memory = memory
        self._chunk: Chunk | None = None

    def serve(self) -> None:
        while True:
            operation, number, payload = self._channel.receive()
            if self._chunk is not None:
                self._chunk.current = 0
            try:
                value = self._answer(operation, payload)
                reply = b"" if value is None else _dumps(value)
            except (Exception, SystemExit) as error:
                self._channel.send(ops.ERROR, number, self._failure(error))
                continue
            self._channel.send(ops.VALUE if reply else ops.DONE, number, reply)

    def close(self) -> None:
        if self._chunk is not None:
            self._chunk.close()
        self._channel.close()

    def _answer(self, operation: bytes, payload: bytes) -> Any:
        """What to reply; None for nothing."""
        if operation == ops.BUILD:
            request = pickle.loads(payload)
            for spec in map(_spec, request["specs"]):
                if spec is not None:
                    gymnasium.registry.setdefault(spec.id, spec)
            self._chunk = Chunk(request["first"], request["mode"])
            return self._chunk.build(pickle.loads(request["makers"]))
        chunk = self._chunk
        assert chunk is not None
        if operation == ops.STEP:
            return chunk.step() or None
        if operation == ops.STEP_GIVEN:
            return chunk.step(pickle.loads(payload)) or None
        request = pickle.loads(payload)
        if operation == ops.MAP:
            num_envs, obs_space, action_space = request
            buffers = shared_buffers(self._memory, obs_space, action_space, num_envs, create=False)
            chunk.attach(buffers.part(chunk.first, chunk.first + len(chunk.envs)))
            return None
        if operation == ops.RESET:
            return chunk.reset(*request) or None
        if operation == ops.CALL:
            return chunk.call(*request)
        assert operation == ops.SET
        return chunk.set(*request)

    def _failure(self, error: BaseException) -> bytes:
        chunk = self._chunk
        env = chunk.first + chunk.current if chunk is not None else None
        text = "".join(traceback.format_exception(error)).rstrip()
        summary = f"{type(error).__name__}: {error}"
        try:
            sent = _dumps(error)
        except Exception:
            sent = b""
        return pickle.dumps((env, summary, text, sent))


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # a lambda, or a class of __main__
        return bytes(cloudpickle.dumps(value))


def _spec(sent: bytes) -> Any:
    """An environment's registration, None where this process cannot understand it."""
    try:
        return pickle.loads(sent)
    except Exception:
        return None
