"""The cpprb adapter beside cpprb itself."""

import numpy as np
import pytest

cpprb = pytest.importorskip("cpprb")

from fastrl.integrations import cpprb as ours  # noqa: E402

FIELDS = {
    "obs": {"shape": (3, 2)},
    "act": {"dtype": np.int32},
    "rew": {},
    "next_obs": {"shape": (3, 2)},
    "done": {},
    "more": {"shape": 4, "dtype": np.float64},
}
BUFFERS = ["ReplayBuffer", "PrioritizedReplayBuffer"]


def rows(first, count, *, done=()):
    number = np.arange(first, first + count, dtype=np.float64)
    obs = number[:, None, None] + np.arange(6).reshape(3, 2) / 8
    flags = np.isin(number, done)
    return {
        "obs": obs,
        "act": number.astype(int),
        "rew": number,
        "next_obs": obs + 1,
        "done": flags,
        "more": obs[:, :2],
    }


def pair(name, size=8, fields=FIELDS, **options):
    return getattr(cpprb, name)(size, fields, **options), getattr(ours, name)(size, fields, seed=1, **options)


def assert_equal(theirs, mine):
    assert list(theirs) == list(mine)
    for name, values in theirs.items():
        np.testing.assert_array_equal(mine[name], values, strict=True)


@pytest.mark.parametrize("name", BUFFERS)
def test_rows_are_added_alike(name):
    theirs, mine = pair(name)
    one = {key: value[0] for key, value in rows(0, 1).items()}
    flat = {key: value.ravel() for key, value in rows(1, 2).items()}
    lists = {key: value.tolist() for key, value in rows(3, 2).items()}
    column = {key: value.reshape(len(value), -1) for key, value in rows(5, 2).items()}
    for fields in (one, flat, lists, column, rows(7, 6, done=[9]), rows(13, 1) | {"unknown": 3}):
        assert mine.add(**fields) == theirs.add(**fields)
        assert_equal(theirs.get_all_transitions(), mine.get_all_transitions())
        for method in (
            "get_stored_size",
            "get_buffer_size",
            "get_next_index",
            "get_current_episode_len",
            "is_Nstep",
        ):
            assert getattr(mine, method)() == getattr(theirs, method)()
    for buffer in (mine, theirs):
        with pytest.raises(KeyError):
            buffer.add(obs=np.zeros((3, 2)))
        buffer.on_episode_end()
        assert buffer.get_current_episode_len() == 0
        buffer.clear()
        assert buffer.get_stored_size() == buffer.get_next_index() == 0
    assert mine.add(**one) == theirs.add(**one)


def test_sizes_and_defaults():
    assert (
        ours.ReplayBuffer(1e3, {"a": {}}).get_buffer_size()
        == cpprb.ReplayBuffer(1e3, {"a": {}}).get_buffer_size()
    )
    theirs, mine = pair("ReplayBuffer", 4, {"a": {}, "b": {"shape": (2, 1)}}, default_dtype=np.float64)
    for buffer in (theirs, mine):
        buffer.add(a=0.1, b=[1, 2])
    assert_equal(theirs.get_all_transitions(), mine.get_all_transitions())


@pytest.mark.parametrize("name", BUFFERS)
@pytest.mark.parametrize("batch_size", [1, 5, 40])
def test_batches_are_of_the_same_form(name, batch_size):
    theirs, mine = pair(name)
    for buffer in (theirs, mine):
        buffer.add(**rows(0, 6))
    expected, batch = theirs.sample(batch_size), mine.sample(batch_size)
    everything = mine.get_all_transitions()
    assert set(expected) <= set(batch)
    for key in FIELDS:
        assert (batch[key].shape, batch[key].dtype) == (expected[key].shape, expected[key].dtype)
        np.testing.assert_array_equal(batch[key], everything[key][batch["indexes"]])
    if name == "PrioritizedReplayBuffer":
        assert batch["weights"].shape == expected["weights"].shape
        assert batch["weights"].dtype == expected["weights"].dtype
        assert batch["indexes"].shape == expected["indexes"].shape


@pytest.mark.parametrize("options", [{}, {"alpha": 0.4, "eps": 0.1}, {"alpha": 1.0, "eps": 1e-6}])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_of_the_same_priorities_are_equal(options, beta):
    theirs, mine = pair("PrioritizedReplayBuffer", **options)
    seen = []
    for buffer in (theirs, mine):
        buffer.add(**rows(0, 2))
        buffer.add(**rows(2, 3), priorities=[0.5, 3.0, 2.0])
        buffer.add(**rows(5, 1))  # at the largest so far
        assert buffer.get_max_priority() == 3
        buffer.update_priorities([0, 4], np.array([[0.3], [7.0]]))
        assert buffer.get_max_priority() == 7
        batch = buffer.sample(2000, beta)
        seen.append(dict(zip(batch["indexes"].tolist(), batch["weights"].tolist(), strict=True)))
    assert seen[0].keys() == seen[1].keys() == set(range(6))
    for row, weight in seen[0].items():
        assert seen[1][row] == pytest.approx(weight, rel=1e-5)


def test_draws_are_as_frequent():
    theirs, mine = pair("PrioritizedReplayBuffer")
    counts = []
    for buffer in (theirs, mine):
        buffer.add(**rows(0, 5), priorities=[0.1, 1, 2, 0, 10])
        counts.append(np.bincount(buffer.sample(10_000)["indexes"].astype(int), minlength=5))
    np.testing.assert_allclose(counts[0], counts[1], atol=3)


def test_rows_written_since_the_sample_keep_their_priorities():
    theirs, mine = pair("PrioritizedReplayBuffer", check_for_update=True)
    seen = []
    for buffer in (theirs, mine):
        buffer.add(**rows(0, 6))
        buffer.sample(4)
        buffer.add(**rows(6, 4))  # rows 6, 7, 0, 1
        buffer.update_priorities([0, 1, 2, 5, 6], [50.0, 50.0, 5.0, 9.0, 50.0])
        batch = buffer.sample(5000)
        seen.append(dict(zip(batch["indexes"].tolist(), batch["weights"].tolist(), strict=True)))
    assert seen[0] == pytest.approx(seen[1], rel=1e-5)


@pytest.mark.parametrize("options", [None, {"size": 1, "rew": "rew", "next": "next_obs"}])
def test_n_step_of_one_step(options):
    theirs, mine = pair("ReplayBuffer", Nstep=options)
    assert mine.is_Nstep() is theirs.is_Nstep() is (options is not None)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_n_step_of_terminated_episodes_is_equal(gamma):
    theirs, mine = pair("ReplayBuffer", Nstep={"size": 3, "gamma": gamma, "rew": "rew", "next": "next_obs"})
    for buffer in (theirs, mine):
        for first, count in ((0, 4), (4, 2)):
            for step in range(count):
                buffer.add(**rows(first + step, 1, done=[first + count - 1]))
            buffer.on_episode_end()
    assert mine.is_Nstep() is theirs.is_Nstep() is True
    expected, stored = theirs.get_all_transitions(), mine.get_all_transitions()
    for name in ("obs", "act", "rew", "more"):
        np.testing.assert_allclose(stored[name], expected[name], rtol=1e-6)
    goes_on = stored["done"][:, 0] == 0  # else nobody looks at what follows
    np.testing.assert_array_equal(stored["next_obs"][goes_on], expected["next_obs"][goes_on])
    assert (expected["done"][goes_on] == 0).all()  # cpprb's others: tests/conformance/peers/test_n_step.py


def test_n_step_without_rewards():
    for buffer in pair("ReplayBuffer", fields={"done": {}}, Nstep={"size": 3, "gamma": 0.5}):
        for done in (0, 0, 0, 0, 1):
            buffer.add(done=done)
        buffer.on_episode_end()
        done = buffer.get_all_transitions()["done"][:, 0].tolist()
        assert (done[:2], done[3:]) == ([0, 0], [1, 1])
    assert done[2] == 1  # cpprb's is not right


@pytest.mark.parametrize("options", [{"next_of": "obs"}, {"next_of": "obs", "stack_compress": "obs"}])
def test_shared_memory_is_returned_alike(options):
    fields = {"obs": {"shape": (5, 3)}, "done": {}}
    theirs, mine = pair("ReplayBuffer", 8, fields, **options)
    stack = lambda i: np.broadcast_to(np.arange(i, i + 3.0), (5, 3))  # noqa: E731
    for buffer in (theirs, mine):
        for i in range(6):
            buffer.add(obs=stack(i), next_obs=stack(i + 1), done=0)
    expected, stored = theirs.get_all_transitions(), mine.get_all_transitions()
    assert set(expected) == set(stored)
    for name, values in expected.items():
        np.testing.assert_array_equal(stored[name], values, strict=True)


@pytest.mark.parametrize("name", BUFFERS)
def test_transitions_are_saved_and_loaded(name, tmp_path):
    _, mine = pair(name)
    mine.add(**rows(0, 11))
    mine.save_transitions(tmp_path / "saved")
    _, other = pair(name)
    other.load_transitions(tmp_path / "saved")
    assert_equal(mine.get_all_transitions(), other.get_all_transitions())
    assert_equal(mine.sample(5), other.sample(5))


def test_all_transitions_shuffled():
    _, mine = pair("ReplayBuffer", 100)
    mine.add(**rows(0, 100))
    shuffled = mine.get_all_transitions(shuffle=True)
    assert not np.array_equal(shuffled["rew"], np.sort(shuffled["rew"], axis=0))
    np.testing.assert_array_equal(np.sort(shuffled["rew"], axis=0), mine.get_all_transitions()["rew"])
    np.testing.assert_array_equal(shuffled["act"], shuffled["rew"].astype(int))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": np.inf}, ValueError, "replay: size must be finite, got inf"),
        ({"size": "8"}, TypeError, "replay: size must be a number, got str '8'"),
        ({"env_dict": [("a", {})]}, TypeError, "replay: env_dict must be a dict of fields"),
        (
            {"env_dict": {"a": 3}},
            ValueError,
            "replay: a must be a dict of shape, dtype and stack_axis, got 3",
        ),
        ({"stack_compress": 3}, TypeError, "replay: fields must be named by a str or several, got int 3"),
    ],
)
@pytest.mark.parametrize("name", BUFFERS)
def test_what_the_buffers_refuse(name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(ours, name)(**({"size": 8, "env_dict": {"a": {}}} | options))


def test_priorities_of_other_forms():
    torch = pytest.importorskip("torch")
    _, mine = pair("PrioritizedReplayBuffer", eps=0)
    mine.add(**rows(0, 2), priorities=torch.tensor([[2.0], [3.0]], requires_grad=True))
    mine.update_priorities(torch.tensor([[0]]), torch.tensor([5.0], dtype=torch.bfloat16))
    assert mine.get_max_priority() == 5
    before = mine.state()["leaves"].tolist()
    mine.update_priorities([], [])
    mine.update_priorities(np.array([1.0]), [4.0])
    assert mine.state()["leaves"].tolist() == [before[0], 4**0.6]
    before = mine.state()["leaves"].tolist()
    for indexes, priorities in (([0.5], [1.0]), ([[0], [0, 1]], [1.0]), ([0], ["a"])):
        with pytest.raises(
            (TypeError, ValueError), match=r"^update_priorities: (indexes|priorities) must be"
        ):
            mine.update_priorities(indexes, priorities)
    assert mine.state()["leaves"].tolist() == before
