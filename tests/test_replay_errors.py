"""What replay buffers refuse: one clear error, and the buffer as it was."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer, memory

FIELDS = {"obs": {"shape": 2}, "act": {"dtype": np.uint8}, "rew": {}, "done": {}}
ROWS = {"obs": np.ones((3, 2), np.float32), "act": [1, 2, 3], "rew": [0.5, 0, 1], "done": [0, 0, 1]}
N_STEP = {"size": 2, "rew": "rew"}


def make(**options):
    buffer = PrioritizedReplayBuffer(5, FIELDS, seed=7, **options)
    buffer.add(**ROWS, priorities=[1.0, 2.0, 3.0])
    return buffer


def same(a, b):
    """Whether two states are equal."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def refused(buffer, error, message, call):
    before = buffer.state()
    with pytest.raises(error, match=message) as caught:
        call()
    assert same(buffer.state(), before)
    assert "\n" not in str(caught.value)


BAD_ROWS = [
    ({"rew": None}, TypeError, "add: rew must be float32, got NoneType None"),
    ({"rew": "high"}, TypeError, "add: rew must be float32, got str 'high'"),
    ({"rew": [1j, 0, 0]}, TypeError, "add: rew must be float32, got complex128 [3]"),
    ({"act": [0.5, 1, 2]}, TypeError, "add: act must be uint8, got float64 [3]"),
    ({"act": [0, 256, 2]}, ValueError, "add: act must fit uint8, [0, 255], got 256"),
    ({"act": [0, -1, 2]}, ValueError, "add: act must fit uint8, [0, 255], got -1"),
    ({"rew": [1.0, 2.0]}, ValueError, "add: rew must have as many rows as obs, 3, got list"),
    ({"rew": np.ones(4)}, ValueError, "add: rew must have as many rows as obs, 3, got float64 [4]"),
    ({"rew": 1.0}, ValueError, "add: rew must have as many rows as obs, 3, got float 1.0"),
    ({"obs": np.ones((3, 3))}, ValueError, "add: obs must be float32 [n, 2] or one row, got float32 [3, 3]"),
    ({"obs": np.ones(3)}, ValueError, "add: obs must be float32 [n, 2] or one row, got float32 [3]"),
    (
        {"obs": np.ones((1, 3, 2))},
        ValueError,
        "add: obs must be float32 [n, 2] or one row, got float32 [1, 3, 2]",
    ),
    (
        {"obs": [[1, 2], [3]]},
        ValueError,
        "add: obs must be an array of float32, got setting an array element",
    ),
    ({"other": 1}, ValueError, "add: fields must be obs, act, rew, done, got obs, act, rew, done, other"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_ROWS)
def test_add_refuses(change, error, message):
    buffer = make()
    refused(buffer, error, re.escape(message), lambda: buffer.add(**(ROWS | change)))


@pytest.mark.parametrize("name", FIELDS)
def test_add_refuses_a_missing_field(name):
    buffer = make()
    rows = {key: value for key, value in ROWS.items() if key != name}
    refused(buffer, ValueError, "add: fields must be obs, act, rew, done, got", lambda: buffer.add(**rows))
    misspelt = rows | {name + "_": ROWS[name]}
    refused(
        buffer, ValueError, "add: fields must be obs, act, rew, done, got", lambda: buffer.add(**misspelt)
    )


def test_add_wants_rows_of_all_environments():
    buffer = ReplayBuffer(6, FIELDS, num_envs=2)
    refused(
        buffer,
        ValueError,
        "add: fields must have rows of all 2 environments, got 3",
        lambda: buffer.add(**ROWS),
    )
    row = {"obs": [1, 2], "act": 1, "rew": 0, "done": 0}
    refused(
        buffer,
        ValueError,
        "add: fields must have rows of all 2 environments, got 1",
        lambda: buffer.add(**row),
    )


BAD_PRIORITIES = [
    ([1, np.nan, 1], ValueError, "got nan at 1"),
    ([1, 1, np.inf], ValueError, "got inf at 2"),
    ([-1e-300, 1, 1], ValueError, "got -1e-300 at 0"),
    (np.array([1, -1, 1], np.float32), ValueError, "got -1.0 at 1"),
    ([1.0, 2.0], ValueError, r"priorities must be float \[3\], got list"),
    (np.ones((3, 1)), ValueError, r"priorities must be float \[3\], got float64 \[3, 1\]"),
    (1.0, ValueError, r"priorities must be float \[3\], got float 1.0"),
    ("high", TypeError, r"priorities must be float \[3\]"),
    ([1j, 0, 0], TypeError, r"priorities must be float \[3\], got complex128"),
]


@pytest.mark.parametrize(("priorities", "error", "message"), BAD_PRIORITIES)
def test_priorities_refused(priorities, error, message):
    buffer = make()
    refused(buffer, error, "^add: .*" + message, lambda: buffer.add(**ROWS, priorities=priorities))
    call = lambda: buffer.update_priorities([0, 1, 2], priorities)  # noqa: E731
    refused(buffer, error, "^update_priorities: .*" + message, call)


def test_a_priority_too_large_to_be_raised_to_alpha():
    buffer = make(alpha=3)
    refused(buffer, ValueError, "got 1e\\+300 at 1", lambda: buffer.update_priorities([0, 1], [1, 1e300]))


BAD_INDEXES = [
    ([0, 3], IndexError, r"indexes must be in \[0, 3\), the rows stored, got 3 at 1"),
    ([-1, 0], IndexError, r"indexes must be in \[0, 3\), the rows stored, got -1 at 0"),
    ([2**62, 0], IndexError, r"indexes must be in \[0, 3\)"),
    (np.array([2**63, 0], np.uint64), IndexError, "indexes must be rows stored, got 9223372036854775808"),
    ([0.0, 1.0], TypeError, r"indexes must be integers \[B\], got float64 \[2\]"),
    ([[0, 1]], ValueError, r"indexes must be integers \[B\], got int64 \[1, 2\]"),
    ("01", TypeError, r"indexes must be integers \[B\]"),
]


@pytest.mark.parametrize(("indexes", "error", "message"), BAD_INDEXES)
def test_indexes_refused(indexes, error, message):
    buffer = make()
    call = lambda: buffer.update_priorities(indexes, [1.0, 1.0])  # noqa: E731
    refused(buffer, error, "^update_priorities: " + message, call)
    refused(buffer, error, "^gather: " + message, lambda: buffer.gather(indexes))


def test_nothing_to_draw():
    for buffer in (ReplayBuffer(5, FIELDS), PrioritizedReplayBuffer(5, FIELDS)):
        refused(
            buffer, ValueError, "sample: the buffer must hold rows, it is empty", lambda b=buffer: b.sample(1)
        )
        assert len(buffer.sample(0)["obs"]) == 0
    buffer = ReplayBuffer(5, FIELDS)
    buffer.add(**ROWS)
    message = "sample: batch_size without replacement must be <= the 3 rows stored, got 4"
    refused(buffer, ValueError, message, lambda: buffer.sample(4, replacement=False))
    refused(
        buffer, ValueError, r"sample: batch_size must be in \[0, 2\^31\), got -1", lambda: buffer.sample(-1)
    )
    buffer = PrioritizedReplayBuffer(5, FIELDS, eps=0)
    buffer.add(**ROWS, priorities=[0, 0, 0])
    refused(buffer, ValueError, "sample: a stored priority must be > 0, all are 0", lambda: buffer.sample(1))


@pytest.mark.parametrize("beta", [-0.1, np.nan, np.inf])
def test_beta_refused(beta):
    buffer = make()
    refused(buffer, ValueError, "sample: beta must be finite and >= 0, got", lambda: buffer.sample(1, beta))


def bad_outs():
    good = make().sample(4)
    read_only = np.zeros((4, 2), np.float32)
    read_only.flags.writeable = False
    shared = np.zeros((8, 2), np.float32)
    return {
        "no dict": (list(good), TypeError, "out must be a dict of arrays or tensors, got list"),
        "missing": ({k: v for k, v in good.items() if k != "rew"}, ValueError, "out must have obs, act, rew, done, indexes, weights"),
        "other": ({k.replace("rew", "reward"): v for k, v in good.items()}, ValueError, "out must have rew"),
        "dtype": (good | {"rew": np.zeros(4)}, ValueError, r"out\['rew'\] must be a C-contiguous, aligned, writeable float32 \[4\], got float64 \[4\]"),
        "swapped": (good | {"rew": np.zeros(4, ">f4")}, ValueError, r"out\['rew'\] must be"),
        "shape": (good | {"obs": np.zeros((4, 3), np.float32)}, ValueError, r"float32 \[4, 2\], got float32 \[4, 3\]"),
        "rows": (good | {"obs": np.zeros((5, 2), np.float32)}, ValueError, r"float32 \[4, 2\], got float32 \[5, 2\]"),
        "strided": (good | {"obs": np.zeros((4, 4), np.float32)[:, ::2]}, ValueError, "C-contiguous"),
        "unaligned": (good | {"rew": np.zeros(17, np.uint8)[1:].view(np.float32)}, ValueError, "aligned"),
        "read-only": (good | {"obs": read_only}, ValueError, "got a read-only array"),
        "list": (good | {"rew": [0.0] * 4}, TypeError, r"out\['rew'\] must be an array or a CPU tensor, got list"),
        "aliased": (good | {"obs": shared[:4], "rew": shared[3:5].reshape(-1)}, ValueError, "arrays apart, got .* share memory"),
    }  # fmt: skip


@pytest.mark.parametrize("case", bad_outs())
def test_out_refused(case):
    out, error, message = bad_outs()[case]
    buffer = make()
    refused(buffer, error, "^sample: .*" + message, lambda: buffer.sample(4, out=out))


def test_tensors_refused():
    torch = pytest.importorskip("torch")
    buffer = make()
    out = {name: torch.from_numpy(x) for name, x in make().sample(4).items()}
    for tensor in (torch.zeros(4).to_sparse(), torch.zeros(4, dtype=torch.complex64).conj().imag):
        wrong = out | {"rew": tensor}
        refused(buffer, TypeError, r"^sample: out\['rew'\]", lambda wrong=wrong: buffer.sample(4, out=wrong))
    for tensor in (torch.zeros(3).to_sparse(), torch.zeros(3, device="meta")):
        rows = ROWS | {"rew": tensor}
        message = r"^add: rew must be an array of float32, got float32 \[3\]"
        refused(buffer, TypeError, message, lambda rows=rows: buffer.add(**rows))
    for tensor, message in [
        (torch.zeros(4, requires_grad=True), "must not require grad"),
        (torch.zeros(4, device="meta"), "must be on the CPU, got meta"),
        (torch.zeros(4, dtype=torch.float64), r"float32 \[4\], got float64 \[4\]"),
        (torch.zeros(8)[::2], "C-contiguous"),
    ]:
        refused(
            buffer, ValueError, message, lambda tensor=tensor: buffer.sample(4, out=out | {"rew": tensor})
        )
    refused(buffer, ValueError, "output must be one of numpy, torch", lambda: buffer.sample(4, output="jax"))


BAD_BUFFERS = [
    ({"size": 0}, ValueError, "size must be in"),
    ({"size": 2.5}, TypeError, "replay: size must be an integer, got float 2.5"),
    ({"num_envs": "2"}, TypeError, "replay: num_envs must be an integer, got str '2'"),
    ({"seed": 1.5}, TypeError, "replay: seed must be an integer, got float 1.5"),
    ({"env_dict": {1: {}}}, TypeError, "replay: a field's name must be a str, got int 1"),
    ({"env_dict": {"x": {"dtype": "foo"}}}, TypeError, "the dtype of x must be one of .*, got foo"),
    ({"env_dict": {"x": {}}, "next_of": "y"}, ValueError, "a field that next_of names must be one of x, got 'y'"),
    ({"Nstep": N_STEP | {"size": 2.5}}, TypeError, "replay: Nstep's size must be an integer, got float 2.5"),
    ({"Nstep": N_STEP | {"size": 2**64}}, ValueError, r"Nstep's size must be < 2\^63"),
    ({"Nstep": N_STEP | {"gamma": "a"}}, TypeError, "replay: Nstep's gamma must be a number, got str 'a'"),
    ({"Nstep": N_STEP, "next_of": "rew"}, ValueError, "next_of and stack_compress must name no field that Nstep sums, got rew"),
    ({"Nstep": N_STEP | {"rew": "next_rew"}, "next_of": "rew"}, ValueError, "no field that Nstep sums, got next_rew"),
    ({"alpha": "a"}, TypeError, "replay: alpha must be a number, got str 'a'"),
    ({"alpha": 3, "eps": 1e200}, ValueError, r"replay: \(1 \+ eps\)\^alpha, of a new row, must be at most 2\^960, got alpha = 3.0"),
    ({"size": 2**31 + 1}, ValueError, "size must be in"),
    ({"num_envs": 0}, ValueError, "num_envs >= 1"),
    ({"num_envs": 6}, ValueError, r"size must be in \[num_envs = 6, 2\^31\]"),
    ({"env_dict": {}}, TypeError, "env_dict must be a dict of fields"),
    ({"env_dict": {"rew": {}, "done": {}, "discount": {}}, "Nstep": N_STEP}, ValueError, r"none of .*, discount, got discount"),
    ({"env_dict": {"weights": {}}}, ValueError, "none of indexes, weights"),
    ({"env_dict": {"x": {"dtypes": int}}}, ValueError, "x must be a dict of shape, dtype"),
    ({"env_dict": {"x": {"shape": (2, 0)}}}, ValueError, "the shape of x must be at least 1"),
    ({"env_dict": {"x": {"shape": "large"}}}, TypeError, "the shape of x must be integers"),
    ({"env_dict": {"x": {"dtype": object}}}, TypeError, "the dtype of x must be one of"),
    ({"env_dict": {"done": {}, "terminated": {}}}, ValueError, "got both"),
    ({"env_dict": {"done": {"shape": 2}}}, ValueError, "done must be one real number a row"),
    ({"seed": -1}, ValueError, "seed must be in"),
    ({"Nstep": {"size": 3}}, ValueError, "Nstep must be a dict of size, gamma, rew and next"),
    ({"Nstep": N_STEP | {"n": 3}}, ValueError, "Nstep must be a dict of size, gamma, rew and next"),
    ({"Nstep": N_STEP | {"size": 0}}, ValueError, "Nstep's size must be >= 1"),
    ({"Nstep": N_STEP | {"gamma": 1.1}}, ValueError, "Nstep's gamma must be in"),
    ({"Nstep": N_STEP | {"rew": "reward"}}, ValueError, "a field that Nstep names must be one of obs, act"),
    ({"Nstep": N_STEP | {"rew": "act"}}, TypeError, "act, which Nstep sums, must be float32 or float64"),
    ({"Nstep": N_STEP, "env_dict": {"rew": {}}}, ValueError, "Nstep needs a field done or terminated"),
    ({"alpha": -1}, ValueError, "alpha must be finite"),
    ({"eps": np.inf}, ValueError, "eps must be finite"),
    ({"normalize": "sum"}, ValueError, "normalize must be one of"),
    ({"normalize": np.ones(2)}, ValueError, r"normalize must be one of batch, buffer, None, got float64 \[2\]"),
    ({"next_of": 3}, TypeError, "replay: fields must be named by a str or several, got int 3"),
    ({"stack_compress": ["obs", 3]}, TypeError, "replay: fields must be named by a str or several, got int 3"),
    ({"Nstep": N_STEP | {"next": ["obs", "rew"]}}, ValueError, "sums must not be one of which it returns the last, got rew"),
    ({"Nstep": N_STEP | {"rew": ["rew", "done"]}}, ValueError, "sums must not be one of which it returns the last, got done"),
    ({"new_priority": "mean"}, ValueError, "new_priority must be one of"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD_BUFFERS)
def test_options_refused(change, error, message):
    with pytest.raises(error, match=message):
        PrioritizedReplayBuffer(**({"size": 5, "env_dict": FIELDS} | change))


def test_no_such_environment():
    buffer = ReplayBuffer(6, FIELDS, num_envs=2)
    for env in (-1, 2):
        with pytest.raises(ValueError, match=rf"on_episode_end: env must be in \[0, 2\), got {env}"):
            buffer.on_episode_end(env)


def test_a_buffer_too_large_for_memory_names_its_bytes(monkeypatch, tmp_path):
    (tmp_path / "max").write_text("1000000\n")
    (tmp_path / "current").write_text("500000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")  # a cache, which makes room
    monkeypatch.setattr(memory, "_LIMITS", ((tmp_path / "max", tmp_path / "current", "inactive_file"),))
    assert memory.available_memory() == 600_000
    (tmp_path / "memory.stat").unlink()
    (tmp_path / "current").write_text("400000\n")
    assert memory.available_memory() == 600_000
    ReplayBuffer(100, {"x": {"shape": 1000}})
    message = "a buffer of 1,000 rows of 4,001 bytes needs 4,001,000 bytes .0.0 GB., available are 600,000"
    with pytest.raises(MemoryError, match=message):
        ReplayBuffer(1000, {"x": {"shape": 1000}})
    (tmp_path / "max").write_text("max\n")
    ReplayBuffer(1000, {"x": {"shape": 1000}})


ANYTHING = st.one_of(
    st.none(),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=3),
    st.lists(st.floats(width=32) | st.integers(-300, 300), max_size=4),
    st.lists(st.lists(st.floats(width=32), max_size=3), max_size=4),
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "x"]), ANYTHING), ANYTHING, ANYTHING)
def test_anything_is_right_or_refused(fields, indexes, priorities):
    buffer = make()
    before = buffer.state()
    for call in (
        lambda: buffer.add(**(ROWS | fields), priorities=priorities),
        lambda: buffer.update_priorities(indexes, priorities),
    ):
        try:
            call()
        except (TypeError, ValueError, IndexError):
            assert same(buffer.state(), before)
        else:
            before = buffer.state()
            assert np.isfinite(before["leaves"]).all()


BAD_CALLS = [
    (lambda b: b.sample(3.5), TypeError, "sample: batch_size must be an integer, got float 3.5"),
    (lambda b: b.sample("3"), TypeError, "sample: batch_size must be an integer, got str '3'"),
    (lambda b: b.sample(2**70), ValueError, r"sample: batch_size must be in \[0, 2\^31\), got 1180591620"),
    (lambda b: b.sample(2, "a"), TypeError, "sample: beta must be a number, got str 'a'"),
    (lambda b: b.sample(2, None), TypeError, "sample: beta must be a number, got NoneType None"),
    (lambda b: b.on_episode_end("a"), TypeError, "on_episode_end: env must be an integer, got str 'a'"),
    (lambda b: b.on_episode_end(2**70), ValueError, r"on_episode_end: env must be in \[0, 1\), got 1180591620"),
    (lambda b: b.gather([[1], [2, 3]]), ValueError, r"gather: indexes must be integers \[B\], got setting an"),
    (lambda b: b.update_priorities([1], [[1], [1, 2]]), ValueError, r"priorities must be float \[1\], got setting"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_calls_refused(call, error, message):
    buffer = make()
    refused(buffer, error, message, lambda: call(buffer))


def test_tensors_that_numpy_has_not_are_taken():
    torch = pytest.importorskip("torch")
    buffer = make()
    buffer.add(obs=torch.full((2,), 1.5, dtype=torch.bfloat16), act=1, rew=0, done=0)
    assert (buffer.gather([3])["obs"] == 1.5).all()
    buffer.update_priorities([0], torch.full((1,), 6.0, dtype=torch.bfloat16))
    assert buffer.get_max_priority() == 6
    negative = torch.full((1,), 2j).conj().imag  # of memory that holds 2
    buffer.add(obs=[[0, 0]], act=[1], rew=negative, done=[0])
    assert buffer.gather([4])["rew"] == -2
    complex_ones = ReplayBuffer(3, {"x": {"dtype": np.complex64}})
    complex_ones.add(x=torch.full((3,), 1 + 2j).conj())
    assert (complex_ones.get_all_transitions()["x"] == 1 - 2j).all()


def test_an_unpickled_batch_is_filled():
    buffer = make()
    out = pickle.loads(pickle.dumps(buffer.sample(4)))
    assert buffer.sample(4, out=out) is out


def test_a_window_longer_than_the_buffer_takes_no_memory():
    buffer = ReplayBuffer(5, FIELDS, Nstep={"size": 2**62, "gamma": 0.5, "rew": "rew"})
    for _ in range(7):
        buffer.add(obs=[1, 2], act=0, rew=1, done=0)
    batch = buffer.gather([buffer.get_next_index()])
    assert batch["rew"] == sum(0.5**k for k in range(5))
    assert batch["discount"] == 0.5**5


def test_nothing_is_drawn_for_no_rows():
    for buffer in (ReplayBuffer(5, FIELDS), make()):
        before = buffer.state()["counter"]
        buffer.sample(0)
        assert buffer.state()["counter"] == before
