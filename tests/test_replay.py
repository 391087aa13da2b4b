"""Replay buffers against a model of rows in lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl.kernels.replay.reference_n_step import n_step, n_step_window
from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer

FIELDS = {
    "obs": {"shape": (2, 3)},
    "act": {"dtype": np.int8},
    "rew": {"dtype": np.float64},
    "next_obs": {"shape": (2, 3)},
    "done": {"dtype": bool},
    "truncated": {},
}
N_STEP = {"size": 3, "gamma": 0.9, "rew": "rew", "next": "next_obs"}


def steps(first, count, *, done=False, truncated=False):
    """Transitions that are all different."""
    number = np.arange(first, first + count, dtype=np.float32)
    obs = number[:, None, None] + np.arange(6, dtype=np.float32).reshape(2, 3) / 8
    return {
        "obs": obs,
        "act": (number % 100).astype(np.int8),
        "rew": np.sin(number.astype(np.float64)),
        "next_obs": obs + 0.5,
        "done": np.broadcast_to(np.asarray(done, bool), count).copy(),
        "truncated": np.broadcast_to(np.asarray(truncated, bool), count).astype(np.float32),
    }


class Model:
    """What a buffer is: rows, episode ends, and who was written last."""

    def __init__(self, size, streams):
        self.streams, self.size = streams, size
        self.clear()

    def clear(self):
        self.rows, self.ends, self.added = {}, np.zeros(self.size, bool), 0

    def add(self, transitions):
        for i in range(len(transitions["done"])):
            row = self.added % self.size
            self.rows[row] = {name: values[i] for name, values in transitions.items()}
            self.ends[row] = transitions["done"][i] or transitions["truncated"][i]
            self.added += 1

    @property
    def newest(self):
        return (self.added - self.streams + np.arange(self.streams)) % self.size

    def end(self, stream):
        if self.added:
            self.ends[self.newest[stream]] = True

    def column(self, name):
        return np.array([self.rows[row][name] for row in range(len(self.rows))])


@st.composite
def histories(draw):
    """Sizes, and what is done to a buffer."""
    streams = draw(st.integers(1, 3))
    size = streams * draw(st.integers(1, 7))
    flags = st.lists(
        st.sampled_from([(False, False)] * 3 + [(True, False), (False, True), (True, True)]), max_size=8
    )
    actions = st.one_of(
        st.tuples(st.just("add"), flags),
        st.tuples(st.just("end"), st.integers(0, streams - 1)),
        st.just(("clear", 0)),
    )
    return streams, size, draw(st.lists(actions, max_size=12))


def replayed(history, make):
    """A buffer and its model after a history."""
    streams, size, actions = history
    buffer, model, count = make(size, streams), Model(size, streams), 0
    for action, value in actions:
        if action == "add":
            flags = (value * streams)[: len(value) * streams]
            transitions = steps(
                count, len(flags), done=[d for d, _ in flags], truncated=[t for _, t in flags]
            )
            assert buffer.add(**transitions) == model.added % size
            model.add(transitions)
            count += len(flags)
        elif action == "end":
            buffer.on_episode_end(value)
            model.end(value)
        else:
            buffer.clear()
            model.clear()
        assert len(buffer) == len(model.rows)
        assert buffer.get_next_index() == model.added % size
    return buffer, model


@given(histories())
def test_rows_are_those_last_added(history):
    buffer, model = replayed(history, lambda size, envs: ReplayBuffer(size, FIELDS, num_envs=envs))
    stored = buffer.get_all_transitions()
    for name, values in stored.items():
        np.testing.assert_array_equal(values, model.column(name).reshape(values.shape))


@given(histories(), st.integers(1, 5), st.sampled_from([0.0, 0.9, 1.0]))
def test_n_step_is_the_reference(history, n, gamma):
    def make(size, envs):
        return ReplayBuffer(size, FIELDS, num_envs=envs, Nstep=N_STEP | {"size": n, "gamma": gamma})

    buffer, model = replayed(history, make)
    rows = np.arange(len(model.rows))
    batch = buffer.gather(rows)
    for row in rows:
        window = n_step_window(int(row), n, model.ends, model.newest)
        target, discount = n_step(window, model.column("rew"), model.column("done"), gamma)
        np.testing.assert_allclose(batch["rew"][row], target, rtol=1e-15)
        for name in ("obs", "act"):
            np.testing.assert_array_equal(batch[name][row], model.rows[row][name])
        for name in ("next_obs", "done", "truncated"):
            np.testing.assert_array_equal(batch[name][row], model.rows[window[-1]][name])
        if n > 1:
            assert batch["discount"][row] == np.float32(discount)
    for name, values in buffer.get_all_transitions().items():
        np.testing.assert_array_equal(values, model.column(name).reshape(values.shape))
