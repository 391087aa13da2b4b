"""Which arrays and tensors may share memory, and which ``out=`` ops therefore refuse."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastrl.kernels import c51_project, vtrace
from fastrl.kernels._check import share_memory

torch = pytest.importorskip("torch")


class Plain(torch.Tensor):
    """A subclass that holds its numbers itself, as torch.nn.Parameter does."""


class Wrapper(torch.Tensor):
    """A subclass that holds another tensor."""

    @staticmethod
    def __new__(cls, x: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, x.shape, dtype=x.dtype, device=x.device)

    @classmethod
    def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


KINDS = {
    "array": lambda x: x,
    "tensor": torch.from_numpy,
    "parameter": lambda x: torch.nn.Parameter(torch.from_numpy(x), requires_grad=False),
    "subclass": lambda x: torch.from_numpy(x).as_subclass(Plain),
}


@pytest.mark.parametrize("one", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("other", KINDS.values(), ids=KINDS)
def test_memory_is_shared_where_addresses_meet(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    memory = np.zeros((6, 4), np.float32)
    for x, y, shared in (
        (memory, memory, True),
        (memory[:4], memory[3:], True),
        (memory[:3], memory[3:], False),
        (memory[:, :2], memory[:, 2:], True),  # by their ranges: they might
        (memory[:, 1:2], memory[5, 2:], False),
        (memory[2:2], memory, False),
        (memory, np.zeros(4, np.float32), False),
    ):
        assert share_memory(one(x), other(y)) == share_memory(other(y), one(x)) == shared


def test_reversed_arrays_share_memory() -> None:
    memory = np.zeros(9, np.float32)
    assert share_memory(memory[4::-1], memory[4:])
    assert not share_memory(memory[3::-1], memory[4:])


@pytest.mark.filterwarnings("error")
def test_tensors_without_memory_of_their_own_share_none() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = torch.zeros(4)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
        assert not share_memory(fake, fake)
    for y in (x.to("meta"), Wrapper(x), fake):
        assert not share_memory(y, y)
    traced = []
    torch.vmap(lambda y: (traced.append(share_memory(y, y)), y)[1])(x[None])
    torch.func.functionalize(lambda y: (traced.append(share_memory(y, y)), y)[1])(x)
    assert traced == [False, False]


@pytest.mark.parametrize("kind", ["parameter", "subclass"])
def test_subclasses_as_out_that_overlap_are_refused(kind: str) -> None:
    of = KINDS[kind]
    probs, reward = np.full((2, 3), 1 / 3, np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="c51_project: out must not share memory with an input"):
        c51_project(of(probs), of(reward), gamma=0.9, v_min=0.0, v_max=1.0, out=of(probs))
    real, flags, room = np.zeros((5, 2), np.float32), of(np.zeros((5, 2), bool)), np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match="vtrace: out must be two arrays apart"):
        vtrace(*(of(real.copy()) for _ in range(4)), flags, out=(of(room), of(room)))
