"""Replay buffers against a model of rows in lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from fastrl.kernels.replay import reference
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


def filled(count=10, size=10, **options):
    buffer = ReplayBuffer(size, FIELDS, seed=3, **options)
    buffer.add(**steps(0, count))
    return buffer


def prioritized(priorities, **options):
    buffer = PrioritizedReplayBuffer(len(priorities), FIELDS, **({"seed": 3, "eps": 0.0} | options))
    buffer.add(priorities=priorities, **steps(0, len(priorities)))
    return buffer


def test_a_batch_holds_the_rows_it_names():
    buffer = filled()
    batch = buffer.sample(100)
    assert list(batch) == [*FIELDS, "indexes"]
    assert batch["indexes"].dtype == np.int64
    everything = buffer.get_all_transitions()
    for name, options in FIELDS.items():
        assert batch[name].dtype == options.get("dtype", np.float32)
        np.testing.assert_array_equal(batch[name], everything[name][batch["indexes"]])


@pytest.mark.parametrize("stored", [1, 2, 7, 1000])
def test_uniform_draws_are_uniform(stored):
    buffer = ReplayBuffer(1000, {"x": {}}, seed=1)
    buffer.add(x=np.zeros(stored))
    counts = np.bincount(buffer.sample(200_000)["indexes"], minlength=stored)
    assert len(counts) == stored
    if stored > 1:
        assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("batch_size", "stored"), [(0, 5), (1, 5), (3, 5), (5, 5), (900, 1000), (1000, 1000)]
)
def test_draws_without_replacement_are_permutations(batch_size, stored):
    buffer = ReplayBuffer(1000, {"x": {}}, seed=1)
    buffer.add(x=np.zeros(stored))
    rows = buffer.sample(batch_size, replacement=False)["indexes"]
    assert len(set(rows)) == batch_size
    assert set(rows) <= set(range(stored))


def test_each_order_is_as_likely_without_replacement():
    buffer = ReplayBuffer(4, {"x": {}}, seed=1)
    buffer.add(x=np.zeros(4))
    counts = {}
    for _ in range(12_000):
        order = tuple(buffer.sample(2, replacement=False)["indexes"])
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 12
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_a_seed_repeats_the_draws():
    def rows(seed):
        buffer = ReplayBuffer(100, {"x": {}}, seed=seed)
        buffer.add(x=np.zeros(100))
        return [buffer.sample(5)["indexes"].tolist() for _ in range(3)]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)
    assert len({tuple(row) for row in rows(1)}) == 3
    assert rows(None) != rows(None)


@pytest.mark.parametrize("stratified", [True, False])
def test_priorities_are_drawn_in_proportion(stratified, isa):
    priorities = np.array([1, 0, 2, 3, 0, 10, 0.5])
    buffer = prioritized(priorities, alpha=0.7, stratified=stratified)
    counts = np.bincount(buffer.sample(100_000)["indexes"], minlength=7)
    probability = priorities**0.7 / (priorities**0.7).sum()
    assert counts[priorities == 0].sum() == 0
    expected = probability * 100_000
    assert np.abs(counts - expected).max() < (2 if stratified else 5 * np.sqrt(expected.max()))


@pytest.mark.parametrize("normalize", ["batch", "buffer", None])
@pytest.mark.parametrize("beta", [0, 0.4, 1])
def test_weights_are_the_reference(normalize, beta):
    priorities = np.array([1, 0, 2, 3, 0, 10, 0.5])
    buffer = prioritized(priorities, alpha=0.5, normalize=normalize)
    batch = buffer.sample(4, beta)
    leaf = reference.leaves(priorities, 0.0, 0.5)
    expected = reference.importance_weights(leaf, batch["indexes"], beta, normalize)
    np.testing.assert_allclose(batch["weights"], expected, rtol=1e-6)


def test_alpha_and_eps_are_applied_once():
    buffer = prioritized([1.0, 4.0], alpha=0.5, eps=0.25, stratified=False)
    buffer.update_priorities([0], [9.0])
    buffer.add(**steps(2, 1))  # replaces row 0, at the largest priority so far
    counts = np.bincount(buffer.sample(100_000)["indexes"])
    assert buffer.get_max_priority() == 9
    np.testing.assert_allclose(counts[0] / counts[1], np.sqrt(9.25 / 4.25), rtol=0.03)


def test_alpha_0_draws_uniformly():
    counts = np.bincount(prioritized([1, 1000, 0.0, 5], alpha=0, eps=1e-4).sample(4000)["indexes"])
    np.testing.assert_allclose(counts, 1000, atol=1)


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("add"), st.lists(st.none() | st.sampled_from([0.0, 0.5, 2.0, 7.0]), max_size=5)
            ),
            st.tuples(
                st.just("update"), st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.5, 3.0])))
            ),
            st.tuples(st.just("clear"), st.none()),
        )
    ),
    st.sampled_from(["ever", "stored"]),
)
def test_priorities_follow_a_list(history, new_priority):
    buffer = PrioritizedReplayBuffer(6, {"x": {}}, alpha=1, eps=0, new_priority=new_priority)
    leaves, largest, added = {}, 1.0, 0
    for action, values in history:
        if action == "add":
            for value in values:
                if value is None:
                    new = largest if new_priority == "ever" else max(leaves.values(), default=1.0) or 1.0
                    buffer.add(x=0)
                else:
                    new, largest = value, max(largest, value)
                    buffer.add(x=0, priorities=value)
                leaves[added % 6] = new
                added += 1
        elif action == "update":
            pairs = [pair for pair in values if pair[0] < len(leaves)]
            buffer.update_priorities([row for row, _ in pairs], [value for _, value in pairs])
            leaves |= dict(pairs)
            largest = max([largest, *(value for _, value in pairs)])
        else:
            buffer.clear()
            leaves, largest, added = {}, 1.0, 0
        stored = buffer.state()
        order = [(added - len(leaves) + i) % 6 for i in range(len(leaves))]
        assert stored["leaves"].tolist() == [leaves[row] for row in order]
        assert buffer.get_max_priority() == largest


def test_out_is_written_and_returned():
    buffer = filled(Nstep=N_STEP)
    other = filled(Nstep=N_STEP)
    expected = other.sample(4)
    out = {name: np.zeros_like(values) for name, values in expected.items()}
    before = dict(out)
    assert buffer.sample(4, out=out) is out
    for name, values in expected.items():
        assert out[name] is before[name]
        np.testing.assert_array_equal(out[name], values)


def test_tensors_are_written_and_returned():
    torch = pytest.importorskip("torch")
    expected = prioritized([1.0, 2, 3]).sample(4)
    buffer = prioritized([1.0, 2, 3])
    out = {
        name: torch.zeros(values.shape, dtype=getattr(torch, values.dtype.name))
        for name, values in expected.items()
    }
    assert buffer.sample(4, out=out) is out
    fresh = prioritized([1.0, 2, 3]).sample(4, output="torch")
    for name, values in expected.items():
        np.testing.assert_array_equal(out[name].numpy(), values)
        assert torch.equal(fresh[name], out[name])


NUMBERS = [
    (np.float32, 1.5),
    (np.float32, 3),
    (np.float32, True),
    (np.float32, np.float64(0.1)),
    (np.float32, np.float32(0.1)),
    (np.float16, 0.1),
    (np.float64, 2**60),
    (np.int8, -128),
    (np.uint8, 255),
    (np.uint16, np.int64(65535)),
    (np.int32, np.int32(-5)),
    (np.uint64, 2**63 - 1),
    (np.uint64, 2**64 - 1),
    (np.int64, np.uint8(7)),
    (np.bool_, True),
    (np.bool_, np.True_),
    (np.bool_, 1),
    (np.complex64, 1 + 2j),
    (np.complex64, 2.5),
]


@pytest.mark.parametrize(("dtype", "number"), NUMBERS)
def test_numbers_are_stored_as_numpy_would(dtype, number):
    buffer = ReplayBuffer(3, {"x": {"dtype": dtype}, "y": {"dtype": dtype, "shape": 2}})
    buffer.add(x=number, y=[number, number])
    buffer.add(x=[number], y=np.array([[number, number]]))
    stored = buffer.get_all_transitions()
    assert stored["x"].dtype == dtype
    np.testing.assert_array_equal(stored["x"], np.array([number, number]).astype(dtype))
    np.testing.assert_array_equal(stored["y"], np.array([[number] * 2] * 2).astype(dtype))


def test_any_memory_layout_gives_the_same_rows():
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(x.shape)
    unaligned[:] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    layouts = {
        "transposed": np.asfortranarray(x),
        "strided": np.repeat(x, 2, axis=0)[::2],
        "reversed": x[::-1].copy()[::-1],
        "swapped": x.astype(">f4"),
        "wide": x.astype(np.float64),
        "read-only": read_only,
        "unaligned": unaligned,
        "repeated": None,
    }
    for name, layout in layouts.items():
        source = x if layout is None else layout
        buffer = ReplayBuffer(4, {"x": {"shape": (2, 3)}, "y": {"shape": (2, 3)}})
        buffer.add(x=source, y=source)  # one array for two fields
        for values in buffer.get_all_transitions().values():
            np.testing.assert_array_equal(values, x, err_msg=name)


def test_a_field_may_have_any_other_name():
    for kind in (ReplayBuffer, PrioritizedReplayBuffer):
        buffer = kind(4, {"self": {}, "fields": {}, "discount": {}})
        buffer.add(**{"self": 1, "fields": 2, "discount": 3})
        batch = buffer.sample(1)
        assert (batch["self"], batch["fields"], batch["discount"]) == (1, 2, 3)
