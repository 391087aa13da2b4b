"""Replay buffers between Python's threads: no transition is torn, no call waits for ever."""

import contextlib
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer

FIELDS = {"obs": {"shape": 300}, "number": {"dtype": np.int64}, "next_obs": {"shape": 3}, "done": {}}


LONG = pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])


def together(seconds, *works):
    """Run each again and again at the same time, for so long and until each has run some times."""
    counts, errors, end = [0] * len(works), [], time.monotonic() + seconds

    def loop(i, work):
        try:
            while (time.monotonic() < end or min(counts) < 6) and not errors:
                work()
                counts[i] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 60)
        assert not thread.is_alive(), "a call waits for ever"
    if errors:
        raise errors[0]


class Users:
    """What threads do with one buffer: rows of a number in three ways."""

    def __init__(self, buffer):
        self.buffer, self.added = buffer, 0

    def add(self):
        n = 3 * (1 + self.added % 40)
        number = self.added + np.arange(n)
        self.buffer.add(
            obs=np.broadcast_to(number[:, None], (n, 300)).astype(np.float32),
            number=number,
            next_obs=np.broadcast_to(number[:, None] + 1, (n, 3)).astype(np.float32),
            done=number % 7 == 0,
        )
        self.added = (self.added + n) % 2**20  # exact in float32

    def sample(self):
        batch = self.buffer.sample(60)
        number = batch["number"]
        assert (batch["obs"] == number[:, None]).all()
        assert (batch["next_obs"] == number[:, None] + 1).all()
        assert (batch["done"] == (number % 7 == 0)).all()
        return batch

    def sample_and_update(self):
        batch = self.sample()
        self.buffer.update_priorities(batch["indexes"], batch["number"] % 5 + 0.5)

    def look(self):
        stored = self.buffer.get_all_transitions()
        assert (stored["obs"] == stored["number"][:, None]).all()
        assert len(stored["number"]) <= len(self.buffer)
        self.buffer.on_episode_end()


@LONG
def test_one_writer_and_several_samplers(seconds):
    users = Users(ReplayBuffer(999, FIELDS, num_envs=3, seed=1))
    users.add()
    together(seconds, users.add, users.sample, users.sample, users.look)


@LONG
@pytest.mark.parametrize("new_priority", ["ever", "stored"])
def test_priorities_change_meanwhile(new_priority, seconds):
    users = Users(PrioritizedReplayBuffer(999, FIELDS, num_envs=3, seed=1, new_priority=new_priority))
    users.add()
    together(seconds, users.add, users.sample_and_update, users.sample_and_update, users.sample)


def test_states_taken_meanwhile_are_whole():
    buffer = PrioritizedReplayBuffer(999, FIELDS, num_envs=3, seed=1)
    users = Users(buffer)

    def take():
        other = PrioritizedReplayBuffer(999, FIELDS, num_envs=3)
        other.load_state(buffer.state())
        assert len(Users(other).buffer) == 0 or Users(other).sample()

    together(2, users.add, take)


def test_draws_of_many_threads_are_those_of_one():
    def make():
        buffer = ReplayBuffer(1000, {"x": {}}, seed=4)
        buffer.add(x=np.arange(1000))
        return buffer

    alone, shared, drawn = make(), make(), []
    together(0.3, *[lambda: drawn.append(tuple(shared.sample(3)["indexes"]))] * 4)
    assert sorted(drawn) == sorted(tuple(alone.sample(3)["indexes"]) for _ in drawn)


def test_a_child_of_fork_is_not_held_up():
    buffer = ReplayBuffer(2048, {"x": {"shape": 2048}}, seed=1)
    row = np.ones(2048, np.float32)
    buffer.add(x=np.ones((2048, 2048), np.float32))
    end = threading.Event()

    def draw():
        out = buffer.sample(1024)
        while not end.is_set():
            buffer.sample(1024, out=out)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(5):
            time.sleep(0.01)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads
                pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                buffer.add(x=row)
                buffer.sample(4)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        buffer.add(x=row)
    finally:
        end.set()
        thread.join()


def test_indexes_that_change_meanwhile_are_harmless():
    buffer = PrioritizedReplayBuffer(2**14, {"x": {"shape": 16}}, seed=1)
    buffer.add(x=np.zeros((2**14, 16), np.float32))
    indexes, out = np.zeros(2**13, np.int64), buffer.sample(2**13)

    def change():
        for x in (indexes, out["indexes"]):
            for _ in range(100):
                x[-1] = 2**40
                x[-1] = 0

    def refused_or_right(call):
        with contextlib.suppress(IndexError):
            call()

    together(
        2,
        change,
        lambda: refused_or_right(lambda: buffer.gather(indexes)),
        lambda: refused_or_right(lambda: buffer.update_priorities(indexes, np.ones(len(indexes)))),
        lambda: buffer.sample(len(indexes), out=out),
    )
