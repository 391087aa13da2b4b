"""How others do prioritized replay, as data: each convention is reproduced by options of SumTree and compared with the
library, where it is installed. Then what they get wrong, and SumTree does not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl.kernels import SumTree

Array = NDArray[Any]
ALPHA, BETA, STORED = 0.6, 0.7, 12
EPS32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Convention:
    """All apply alpha when a priority is written, and give new items the largest priority ever, at first 1."""

    source: str
    eps: float
    absolute: bool
    """It takes the magnitude of what it is given."""
    new: Literal["raw", "with eps", "leaf"]
    """The largest of what: then eps and alpha are applied; or eps is in it, and only alpha is; or neither."""
    stratified: bool
    normalize: Literal["batch", "buffer"] | None
    """None: it returns probabilities."""


CONVENTIONS = {
    "cpprb": Convention("cpprb 11.0.0", 1e-4, False, "raw", True, "buffer"),
    "torchrl": Convention(
        "torchrl 0.14.1 data/replay_buffers/samplers/prioritized.py", 1e-8, False, "raw", False, "buffer"
    ),
    "tianshou": Convention("tianshou 2.0.1 data/buffer/prio.py", EPS32, True, "with eps", False, "batch"),
    "cleanrl": Convention("cleanrl rainbow_atari.py, April 2026", 1e-6, True, "with eps", True, "batch"),
    "flashbax": Convention("flashbax 0.1.3 buffers/sum_tree.py", 0.0, False, "leaf", True, None),
    "author": Convention("T. Schaul in chainer/chainerrl#278", 0.01, True, "raw", True, "batch"),
}

ERRORS = [np.array([3.0, -0.25, 0.5, -1.5]), np.array([0.04, 5.0, -0.7, 0.3])]
INDICES = [np.array([0, 1, 2, 3]), np.array([4, 1, 5, 0])]


class Ours:
    """A convention over SumTree."""

    def __init__(self, convention: Convention, seed: int = 0, size: int = STORED) -> None:
        self._convention = convention
        applied = convention.new == "raw"
        self.tree = SumTree(size, alpha=ALPHA, eps=convention.eps if applied else 0.0, seed=seed)
        self._largest, self._stored = 1.0, 0

    def add(self) -> None:
        at = np.array([self._stored])
        if self._convention.new == "leaf":
            self.tree.set_leaves(at, np.array([self._largest]))
        else:
            self.tree.update(at, np.array([self._largest]))
        self._stored += 1

    def update(self, index: Array, error: Array) -> None:
        p = np.abs(error) if self._convention.absolute else error
        if self._convention.new == "with eps":
            p = p + self._convention.eps
        self.tree.update(index, p)
        seen = self.tree[index] if self._convention.new == "leaf" else p
        self._largest = max(self._largest, seen.max())

    def leaves(self) -> Array:
        return self.tree.leaves

    def draw(self, size: int) -> tuple[Array, Array]:
        how = self._convention
        return self.tree.sample(size, beta=BETA, stratified=how.stratified, normalize=how.normalize)


class Cpprb:
    def __init__(self, size: int = STORED) -> None:
        module = pytest.importorskip("cpprb")
        self.buffer = module.PrioritizedReplayBuffer(size, {"x": {"shape": 1}}, alpha=ALPHA)
        self._size = size

    def add(self) -> None:
        self.buffer.add(x=0)

    def update(self, index: Array, error: Array) -> None:
        self.buffer.update_priorities(index, error)

    def leaves(self) -> Array:
        """But for a factor: it shows weights alone."""
        drawn = self.buffer.sample(20_000, beta=1.0)
        leaf = np.zeros(self._size)
        leaf[drawn["indexes"].astype(int)] = 1 / drawn["weights"]
        return leaf

    def draw(self, size: int) -> tuple[Array, Array]:
        drawn = self.buffer.sample(size, beta=BETA)
        return drawn["indexes"].astype(int), drawn["weights"]


class Tianshou:
    def __init__(self, size: int = STORED, **options: Any) -> None:
        self._data = pytest.importorskip("tianshou.data")
        self.buffer = self._data.PrioritizedReplayBuffer(size, ALPHA, BETA, **options)

    def add(self) -> None:
        row = {
            "obs": 0.0,
            "act": 0,
            "rew": 0.0,
            "terminated": False,
            "truncated": False,
            "obs_next": 0.0,
            "info": {},
        }
        self.buffer.add(self._data.Batch(**row))

    def update(self, index: Array, error: Array) -> None:
        self.buffer.update_weight(index, error)

    def leaves(self) -> Array:
        return self.buffer.weight[np.arange(self.buffer.maxsize)]

    def draw(self, size: int) -> tuple[Array, Array]:
        batch, index = self.buffer.sample(size)
        return index, batch.weight


class TorchRL:
    def __init__(self, sampler: Any, size: int = STORED) -> None:
        import torch
        from tensordict import TensorDict
        from torchrl.data import LazyTensorStorage, ReplayBuffer

        self._torch, self._row = torch, TensorDict({"x": torch.zeros(1)}, [1])
        self.buffer = ReplayBuffer(
            storage=LazyTensorStorage(size), sampler=sampler(size, ALPHA, BETA, dtype=torch.float64)
        )
        self._size = size

    def add(self) -> None:
        index = self.buffer.extend(self._row)
        self.buffer.mark_update(index)

    def update(self, index: Array, error: Array) -> None:
        self.buffer.update_priority(self._torch.from_numpy(index), self._torch.from_numpy(error))

    def leaves(self) -> Array:
        return self.buffer._sampler._sum_tree[self._torch.arange(self._size)].numpy()

    def draw(self, size: int) -> tuple[Array, Array]:
        info = self.buffer.sample(size, return_info=True)[1]
        return info["index"].numpy(), info["priority_weight"].numpy()


@pytest.fixture
def peer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    if request.param != "torchrl":
        return {"cpprb": Cpprb, "tianshou": Tianshou}[request.param]
    pytest.importorskip("torchrl")
    from _torchrl_trees import runnable_sampler

    sampler = runnable_sampler(monkeypatch)
    return lambda size=STORED: TorchRL(sampler, size)


installed = pytest.mark.parametrize(
    ("name", "peer"), [(x, x) for x in ("cpprb", "torchrl", "tianshou")], indirect=["peer"]
)


def history(buffer: Any, absolute: bool) -> None:
    """New items before and after errors; one error twice, larger and smaller."""
    for number, index, error in zip((4, 3), INDICES, ERRORS, strict=True):
        for _ in range(number):
            buffer.add()
        buffer.update(index, error if absolute else np.abs(error))
    buffer.add()


@installed
def test_leaves(name: str, peer: Callable[..., Any]) -> None:
    """When alpha, which eps, which magnitude, what a new item gets."""
    convention = CONVENTIONS[name]
    ours, theirs = Ours(convention), peer()
    for buffer in (ours, theirs):
        history(buffer, convention.absolute)
    got, expected = (x.leaves() / x.leaves().max() for x in (ours, theirs))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@installed
def test_weights(name: str, peer: Callable[..., Any]) -> None:
    convention = CONVENTIONS[name]
    ours, theirs = Ours(convention), peer()
    for buffer in (ours, theirs):
        history(buffer, convention.absolute)
    leaf = ours.leaves()
    for buffer in (ours, theirs):
        index, weight = buffer.draw(64)
        least = leaf[leaf > 0].min() if convention.normalize == "buffer" else leaf[index].min()
        np.testing.assert_allclose(weight, (leaf[index] / least) ** -BETA, rtol=1e-5)


@installed
def test_draws(name: str, peer: Callable[..., Any]) -> None:
    """Items alike: one from each stratum, or independent."""
    convention = CONVENTIONS[name]
    for buffer in (Ours(convention, size=1000), peer(1000)):
        for _ in range(1000):
            buffer.add()
        index = np.sort(buffer.draw(100)[0])
        assert (index // 10 == np.arange(100)).all() == convention.stratified


def formula(convention: Convention, added: int, updates: list[tuple[Array, Array]]) -> Array:
    """Leaves as the source writes them, one after another."""
    leaf, largest, stored = np.zeros(STORED), 1.0, 0
    transform = {
        "raw": lambda p: ((p + convention.eps) ** ALPHA, p),
        "with eps": lambda p: ((p + convention.eps) ** ALPHA, p + convention.eps),
        "leaf": lambda p: (p**ALPHA, p**ALPHA),
    }[convention.new]
    first = {
        "raw": lambda: (largest + convention.eps) ** ALPHA,
        "with eps": lambda: largest**ALPHA,
        "leaf": lambda: largest,
    }[convention.new]
    for number, (index, error) in zip((4, 3), updates, strict=True):
        leaf[stored : stored + number] = first()
        stored += number
        for i, p in zip(index, np.abs(error), strict=True):
            leaf[i], seen = transform(p)
            largest = max(largest, seen)
    leaf[stored : stored + added] = first()
    return leaf


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_is_its_formula(name: str) -> None:
    """Those of libraries that are not installed too; of flashbax, probabilities are leaves over their sum."""
    convention = CONVENTIONS[name]
    ours = Ours(convention)
    history(ours, convention.absolute)
    expected = formula(convention, 1, list(zip(INDICES, ERRORS, strict=True)))
    np.testing.assert_allclose(ours.leaves(), expected, rtol=1e-13)
    index, weight = ours.draw(50)
    if convention.normalize == "batch":
        assert weight.max() == 1
    if convention.normalize is None:
        chance = expected / expected.sum()
        np.testing.assert_allclose(weight, (np.count_nonzero(expected) * chance[index]) ** -BETA, rtol=1e-6)


def test_cpprb_cannot_be_seeded() -> None:
    drawn = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        theirs = Cpprb(1000)
        for _ in range(1000):
            theirs.add()
        drawn.append(theirs.draw(50)[0].tolist())
    assert drawn[0] != drawn[1]
    ours = [Ours(CONVENTIONS["cpprb"], seed=5, size=1000) for _ in range(2)]
    for buffer in ours:
        for _ in range(1000):
            buffer.add()
    assert ours[0].draw(50)[0].tolist() == ours[1].draw(50)[0].tolist()


def test_cpprb_takes_negative_priorities_and_gives_nan() -> None:
    theirs, ours = Cpprb(), Ours(CONVENTIONS["cpprb"])
    for buffer in (theirs, ours):
        for _ in range(3):
            buffer.add()
    theirs.update(np.array([0]), np.array([-4.0]))
    assert np.isnan(theirs.draw(20)[1]).all()
    with pytest.raises(ValueError, match="priority must be finite and >= 0, got -4"):
        ours.update(np.array([0]), np.array([-4.0]))
    assert np.isfinite(ours.draw(20)[1]).all()


def test_tianshou_draws_a_leaf_of_zero_for_the_mass_zero() -> None:
    data = pytest.importorskip("tianshou.data")
    theirs, ours = data.SegmentTree(4), SumTree(4)
    for tree in (theirs, ours):
        tree[np.arange(4)] = np.array([0.0, 1.0, 0.0, 1.0])
    assert theirs.get_prefix_sum_idx(0.0) == 0
    assert ours.prefix_index(0.0) == 1


def test_tianshous_unnormalised_weights_have_another_scale() -> None:
    """It divides p^alpha by the least p: the scale is wrong by p_min^(1 - alpha), and that least never rises again."""
    theirs = Tianshou(4, weight_norm=False)
    theirs.buffer._alpha, theirs.buffer._beta = 0.5, 1.0
    for _ in range(4):
        theirs.add()
    p = np.array([0.04, 0.16, 0.36, 1.0])
    theirs.update(np.arange(4), p)
    np.testing.assert_allclose(theirs.buffer.get_weight(np.arange(4)), [0.2, 0.1, 0.2 / 3, 0.04], rtol=1e-5)
    ours = SumTree(4, alpha=0.5, seed=0)
    ours.update(np.arange(4), p)
    index, weight = ours.sample(64, beta=1.0, normalize="buffer")
    np.testing.assert_allclose(weight, np.array([1, 0.5, 1 / 3, 0.2])[index], rtol=1e-6)
    index, weight = ours.sample(64, beta=1.0, normalize=None)
    np.testing.assert_allclose(
        weight, 0.55 / np.sqrt(p[index]), rtol=1e-6
    )  # total 2.2 over N = 4 and the leaf


@pytest.mark.parametrize("stored", [1, 2, 1000, 1024])
def test_the_last_item_is_drawn(stored: int) -> None:
    """openai/baselines#171, hill-a/stable-baselines#941: their total left out the last item."""
    tree = SumTree(1024, seed=0)
    tree.update(np.arange(stored), np.ones(stored))
    counts = np.bincount(tree.sample(200 * stored)[0], minlength=1024)
    np.testing.assert_array_equal(counts[:stored], 200)  # strata of a 200th of an item
    assert counts[stored:].sum() == 0


def test_no_index_beyond_the_end() -> None:
    """torchrl's ``scan_lower_bound`` returns the size for a mass just over the total, and a zero leaf for 0; so do
    walks over sums of rounded floats. pytorch/rl, tensorforce#45, instadeepai/flashbax#52.
    """
    p = np.random.default_rng(0).random(1000).astype(np.float32) * 0.1
    p[::7] = p[-1] = 0
    tree = SumTree(1000)
    tree.update(np.arange(1000), p)
    assert (
        tree.prefix_index(tree.total)
        == np.flatnonzero(p)[-1]
        == tree.prefix_index(math.nextafter(tree.total, 0))
    )
    with pytest.raises(ValueError, match="mass must be in"):
        tree.prefix_index(math.nextafter(tree.total, math.inf))


def test_alpha_is_applied_once_to_new_items() -> None:
    """pytorch/rl#3925: new items had ((p + eps)^alpha + eps)^alpha."""
    pytest.importorskip("torchrl")
    from fastrl.integrations.torchrl import PrioritizedSampler

    buffer = TorchRL(PrioritizedSampler)
    buffer.add()
    buffer.update(np.array([0]), np.array([9.0]))
    buffer.add()
    np.testing.assert_allclose(buffer.leaves()[:2], (9 + 1e-8) ** ALPHA)
