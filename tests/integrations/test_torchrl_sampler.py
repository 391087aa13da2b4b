"""The prioritized sampler beside TorchRL's own, over stand-ins for its compiled trees."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _torchrl_trees import runnable_sampler

pytest.importorskip("torchrl")

from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import PrioritizedSampler as TorchRLSampler

from fastrl.integrations.torchrl import PrioritizedSampler


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    return runnable_sampler(monkeypatch)


SIZE = 50


def buffers(theirs: Any, **options: Any) -> list[Any]:
    made = []
    for kind in (PrioritizedSampler, theirs):
        sampler = kind(SIZE, **({"alpha": 0.6, "beta": 0.4, "dtype": torch.float64} | options))
        made.append(TensorDictReplayBuffer(storage=LazyTensorStorage(SIZE), sampler=sampler, batch_size=16))
    return made


def rows(begin: int, number: int) -> TensorDict:
    return TensorDict({"obs": torch.arange(begin, begin + number, dtype=torch.float32)}, [number])


def drawn(buffer: Any, seed: int) -> TensorDict:
    np.random.seed(seed)  # noqa: NPY002  # what TorchRL draws masses from
    return buffer.sample()


@pytest.mark.parametrize(
    "options",
    [{}, {"alpha": 1.0, "beta": 1.0}, {"alpha": 0.0}, {"eps": 0.1}, {"max_priority_within_buffer": True}],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_whole_buffer(theirs: Any, options: dict[str, Any], dtype: Any) -> None:
    pair = buffers(theirs, dtype=dtype, **options)
    for i in range(30):
        for buffer in pair:
            buffer.extend(rows(7 * i, 7))
            if i == 3:
                buffer.add(rows(-1, 1)[0])
        ours, other = (drawn(buffer, i) for buffer in pair)
        np.testing.assert_array_equal(ours["index"], other["index"])
        np.testing.assert_array_equal(ours["obs"], other["obs"])
        torch.testing.assert_close(
            ours["priority_weight"], other["priority_weight"].to(dtype), rtol=1e-6, atol=0
        )
        error = torch.rand(16, generator=torch.Generator().manual_seed(i)) * 3
        for buffer, batch in zip(pair, (ours, other), strict=True):
            batch["td_error"] = error
            buffer.update_tensordict_priority(batch)
        one, two = (float(buffer._sampler.default_priority) for buffer in pair)
        assert one == pytest.approx(two, rel=1e-6)
        if i == 20 and options.get("alpha", 1):
            for buffer in pair:
                buffer._sampler.alpha = 0.3
                buffer._sampler.beta = 0.9
    assert isinstance(pair[0]._sampler, TorchRLSampler)


def test_indices_of_every_form(theirs: Any) -> None:
    pair = [kind(SIZE, 0.7, 0.5, dtype=torch.float64) for kind in (PrioritizedSampler, theirs)]
    calls = [
        (torch.arange(5), torch.arange(5.0)),
        (torch.arange(5), torch.arange(5)),
        (torch.tensor([3, 4, 3]), torch.tensor([1.0, 2.0, 3.0])),
        (7, 2.5),
        (torch.tensor(8), torch.tensor(0.5)),
        (torch.tensor([1, -1, 9]), torch.tensor([4.0, 9.0, 6.0])),
        (torch.tensor([-1]), torch.tensor([1.0])),
        (torch.tensor([10, 11]), 0.25),
        (torch.tensor([12, 13]), torch.rand(2, 1)),
        (torch.tensor([14, 15]), torch.rand(2, requires_grad=True)),
    ]
    for index, priority in calls:
        for sampler in pair:
            sampler.update_priority(index, priority)
        every = torch.arange(SIZE)
        torch.testing.assert_close(pair[0]._sum_tree[every], pair[1]._sum_tree[every], rtol=1e-6, atol=0)
    assert float(pair[0].default_priority) == float(pair[1].default_priority) == 6


@pytest.mark.parametrize("within", [False, True])
def test_state(tmp_path: Path, within: bool) -> None:
    (buffer,) = buffers(PrioritizedSampler, max_priority_within_buffer=within)[:1]
    buffer.extend(rows(0, 40))
    batch = drawn(buffer, 0)
    batch["td_error"] = torch.rand(16) * 5
    buffer.update_tensordict_priority(batch)
    sampler = buffer._sampler
    torch.save(sampler.state_dict(), tmp_path / "state.pt")
    sampler.dumps(tmp_path / "sampler")
    state, folder = (PrioritizedSampler(SIZE, 0.1, 0.1, max_priority_within_buffer=within) for _ in range(2))
    state.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    folder.loads(tmp_path / "sampler")
    whole = TensorDictReplayBuffer(
        storage=LazyTensorStorage(SIZE),
        sampler=PrioritizedSampler(SIZE, 0.6, 0.4, dtype=torch.float64),
        batch_size=16,
    )
    buffer.dumps(tmp_path / "buffer")
    whole.loads(tmp_path / "buffer")
    expected = drawn(buffer, 5)
    for twin in (state, folder, whole._sampler, copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert (twin.alpha, twin.beta) == (0.6, 0.4)
        assert float(twin.default_priority) == pytest.approx(float(sampler.default_priority), rel=1e-6)
        np.random.seed(5)  # noqa: NPY002
        index, info = twin.sample(buffer._storage, 16)
        np.testing.assert_array_equal(index, expected["index"])
        torch.testing.assert_close(
            info["priority_weight"].double(), expected["priority_weight"], rtol=1e-6, atol=0
        )


def test_a_folder_that_was_cut_short(tmp_path: Path) -> None:
    sampler = PrioritizedSampler(10, 0.5, 0.5)
    sampler.update_priority(torch.arange(10), torch.ones(10))
    sampler.dumps(tmp_path)
    (tmp_path / "sumtree.memmap").write_bytes(b"12345678" * 9)
    other = PrioritizedSampler(10, 0.7, 0.5)
    with pytest.raises(ValueError, match=r"leaf must be float64 \[capacity\] = \[10\], got float64 \[9\]"):
        other.loads(tmp_path)
    assert other.alpha == 0.7
    with pytest.raises(RuntimeError, match="max capacity of loaded metadata"):
        PrioritizedSampler(11, 0.5, 0.5).loads(tmp_path)


def test_storages_of_two_axes() -> None:
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(20, ndim=2), sampler=PrioritizedSampler(20, 1.0, 1.0), batch_size=64
    )
    buffer.extend(TensorDict({"obs": torch.arange(20.0).view(2, 10)}, [2, 10]))
    _, info = buffer.sample(return_info=True)
    index = torch.stack(info["index"], -1) if isinstance(info["index"], tuple) else info["index"]
    buffer.update_priority(index, torch.full((64,), 1e-3))
    assert buffer._sampler._sum_tree.query(0, 20) < 20


def test_an_index_beyond_an_axis_is_no_other_item() -> None:
    storage = LazyTensorStorage(20, ndim=2)
    storage.set(range(2), TensorDict({"obs": torch.zeros(2, 10)}, [2, 10]))
    sampler = PrioritizedSampler(20, 1.0, 1.0)
    sampler.update_priority(torch.arange(20), torch.ones(20))
    before = sampler._sum_tree[torch.arange(20)]
    for index in ([[0, 10]], [[2, 0]], [[0, 1], [1, 12]], [[0, 0, 1]]):
        with pytest.raises(ValueError, match=r"PrioritizedSampler: index must be in \[2, 10\], got"):
            sampler.update_priority(torch.tensor(index), 9.0, storage=storage)
    torch.testing.assert_close(sampler._sum_tree[torch.arange(20)], before)
    sampler = PrioritizedSampler(20, 1.0, 1.0, eps=0.0)
    sampler.update_priority(torch.tensor([[1, 2], [1, -1], [-1, -1]]), torch.ones(3), storage=storage)
    assert sampler._sum_tree[torch.arange(20)].nonzero().tolist() == [[12]]


def test_a_generator_of_the_buffers() -> None:
    draws = []
    for _ in range(2):
        buffer = ReplayBuffer(
            storage=LazyTensorStorage(SIZE), sampler=PrioritizedSampler(SIZE, 1.0, 1.0), batch_size=32
        )
        buffer.extend(rows(0, SIZE))
        buffer.set_rng(torch.Generator().manual_seed(3))
        draws.append(buffer.sample(return_info=True)[1]["index"].tolist())
    assert draws[0] == draws[1]


def test_items_of_priority_zero_are_never_drawn() -> None:
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(SIZE), sampler=PrioritizedSampler(SIZE, 1.0, 1.0, eps=0.0), batch_size=1000
    )
    buffer.extend(rows(0, SIZE))
    buffer.update_priority(torch.arange(SIZE), (torch.arange(SIZE) % 2).float())
    index = buffer.sample(return_info=True)[1]["index"]
    assert (index % 2 == 1).all()


@pytest.mark.parametrize("priority", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: torch.tensor([1.0, x]), lambda x: torch.tensor([x]).half()]
)
def test_bad_priorities(priority: float, form: Any) -> None:
    sampler = PrioritizedSampler(10, 0.5, 0.5)
    sampler.update_priority(torch.arange(10), torch.ones(10))
    value = form(priority)
    index = torch.arange(value.numel()) if isinstance(value, torch.Tensor) else 3
    with pytest.raises(ValueError, match="priority must be finite and >= 0"):
        sampler.update_priority(index, value)
    assert sampler._sum_tree.query(0, 10) == pytest.approx(10)
    assert float(sampler.default_priority) == 1


def test_what_it_refuses() -> None:
    for options, error in [
        ({"alpha": -1.0}, ValueError),
        ({"beta": -1.0}, ValueError),
        ({"dtype": torch.float16}, NotImplementedError),
        ({"device": "cuda"}, NotImplementedError),
    ]:
        with pytest.raises(error):
            PrioritizedSampler(**({"max_capacity": 5, "alpha": 1.0, "beta": 1.0} | options))
    sampler = PrioritizedSampler(5, 1.0, 1.0, eps=0)
    storage = LazyTensorStorage(5)
    with pytest.raises(RuntimeError, match="empty storage"):
        sampler.sample(storage, 2)
    storage.set(range(5), rows(0, 5))
    with pytest.raises(RuntimeError, match="non-positive p_sum"):
        sampler.sample(storage, 2)
    with pytest.raises(KeyError):
        sampler.load_state_dict({})
