"""C51 as other libraries compute it: their conventions as data, our options that give the same, their bugs.

RLax has no torch beside it: its tests run where it is installed.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrl.kernels.distributional import c51_loss, c51_project, two_hot

Array = NDArray[Any]
V_MIN, V_MAX, N, A, B = -10.0, 10.0, 51, 6, 64
GAMMA = 0.99
Z = np.linspace(V_MIN, V_MAX, N)
SUPPORT = {"v_min": V_MIN, "v_max": V_MAX}

# Who chooses the next action, and what the logarithm of the cross-entropy is taken of.
CONVENTIONS = {
    "CleanRL c51": {"chooser": "target", "log of": "probabilities clamped to [1e-5, 1 - 1e-5]"},
    "CleanRL rainbow": {"chooser": "online", "log of": "probabilities clamped to [1e-5, 1 - 1e-5]"},
    "tianshou": {"chooser": "online", "log of": "probabilities + 1e-8"},
    "torchrl": {"chooser": "online", "log of": "log_softmax"},
    "rlax": {"chooser": "target", "log of": "log_softmax"},
    "rlax double": {"chooser": "online", "log of": "log_softmax"},
}


def batch_of(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    logits, target, online = rng.normal(0, 1.5, (3, B, A, N)).astype(np.float32)
    reward = rng.normal(0, 3, B).astype(np.float32)
    reward[:8] = np.round(reward[:8])
    return {
        "logits": logits,
        "action": rng.integers(A, size=B),
        "target": target,
        "online": online,
        "reward": reward,
        "terminated": rng.random(B) < 0.25,
    }


def ours(x: dict[str, Array], peer: str) -> Any:
    chooser = x["online"] if CONVENTIONS[peer]["chooser"] == "online" else None
    return c51_loss(
        x["logits"], x["action"], x["target"], x["reward"], terminated=x["terminated"], gamma=GAMMA,
        next_selector=chooser, **SUPPORT,
    )  # fmt: skip


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def chosen(x: dict[str, Array], peer: str) -> Array:
    """The next distribution, [B, N]."""
    best = (softmax(x[CONVENTIONS[peer]["chooser"]]) @ Z).argmax(1)
    return softmax(x["target"])[np.arange(B), best]


def projected(x: dict[str, Array], probs: Array) -> Array:
    return np.asarray(c51_project(probs, x["reward"], terminated=x["terminated"], gamma=GAMMA, **SUPPORT))


def row_loop(x: dict[str, Array], next_probs: Array, same: str) -> Array:
    """CleanRL's projection; ``same`` says what it does where an atom lands on another, l == u."""
    torch = pytest.importorskip("torch")
    support, pmfs = torch.linspace(V_MIN, V_MAX, N), torch.from_numpy(next_probs)
    alive = torch.from_numpy(~x["terminated"]).float()[:, None]
    tz = (torch.from_numpy(x["reward"])[:, None] + GAMMA * support * alive).clamp(V_MIN, V_MAX)
    b = (tz - V_MIN) / ((V_MAX - V_MIN) / (N - 1))
    low, up = b.floor().clamp(0, N - 1), b.ceil().clamp(0, N - 1)
    kept = {"u + (l == u) - b": (low == up).float(), "u - b": 0.0}[same]
    to_low, to_up = (up + kept - b) * pmfs, (b - low) * pmfs
    result = torch.zeros(len(pmfs), N)
    for i in range(len(pmfs)):
        result[i].index_add_(0, low[i].long(), to_low[i])
        result[i].index_add_(0, up[i].long(), to_up[i])
    return np.asarray(result)


@pytest.mark.parametrize("peer", ["CleanRL c51", "CleanRL rainbow"])
def test_cleanrl(peer: str) -> None:
    x = batch_of()
    probs = chosen(x, peer)
    target = row_loop(x, probs, "u + (l == u) - b")
    np.testing.assert_allclose(projected(x, probs), target, atol=3e-6)
    taken = softmax(x["logits"])[np.arange(B), x["action"]]
    inside = (taken > 1e-5).all(1)
    assert inside.mean() > 0.5
    loss = -(target * np.log(taken.clip(1e-5, 1 - 1e-5))).sum(1)
    np.testing.assert_allclose(ours(x, peer).loss[inside], loss[inside], rtol=1e-5)


def test_mass_where_an_atom_lands_on_another() -> None:
    """Without the (l == u) term all mass of such an atom is lost; a terminal reward on an atom loses everything."""
    x = batch_of()
    x["terminated"][:8] = True
    x["reward"][:8] = Z[::6][:8].astype(np.float32).round()
    probs = chosen(x, "CleanRL c51")
    lost = row_loop(x, probs, "u - b").sum(1)
    assert (lost[:8] < 0.1).any()
    got = projected(x, probs)
    np.testing.assert_allclose(got.sum(1), 1, atol=2e-6)
    np.testing.assert_allclose(got[:8] @ Z, x["reward"][:8], atol=1e-5)


def test_tianshou() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("tianshou")
    from tianshou.algorithm.modelfree.c51 import C51
    from tianshou.data import Batch

    x = batch_of()
    online, target = (torch.from_numpy(softmax(x[name])) for name in ("online", "target"))
    best = (online @ torch.linspace(V_MIN, V_MAX, N)).argmax(1).numpy()

    class Policy:
        support = torch.linspace(V_MIN, V_MAX, N)
        v_min, v_max = V_MIN, V_MAX

        def __call__(self, batch: Any, model: Any = None) -> Any:
            return SimpleNamespace(act=best, logits=online if model is None else target)

    algorithm = SimpleNamespace(
        policy=Policy(), use_target_network=True, model_old="old", delta_z=(V_MAX - V_MIN) / (N - 1)
    )
    alive = (~x["terminated"]).astype(np.float32)[:, None]
    returns = torch.from_numpy(x["reward"][:, None] + GAMMA * alive * Z[None].astype(np.float32))
    got = C51._target_dist(algorithm, Batch(obs_next=np.zeros((B, 1)), returns=returns))  # type: ignore[arg-type]
    np.testing.assert_allclose(projected(x, chosen(x, "tianshou")), got, atol=3e-6)
    taken = softmax(x["logits"])[np.arange(B), x["action"]]
    loss = -(got.numpy() * np.log(taken + 1e-8)).sum(1)
    np.testing.assert_allclose(ours(x, "tianshou").loss, loss, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_torchrl() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchrl")
    from tensordict import TensorDict
    from torchrl.modules import DistributionalQValueActor
    from torchrl.objectives import DistributionalDQNLoss

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Its observations are the logits, [B, A, N]; the online network has those of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.which = torch.nn.Parameter(torch.ones(1))

        def forward(self, observation: Any) -> Any:
            logits = self.which * observation[..., 0] + (1 - self.which) * observation[..., 1]
            return torch.log_softmax(logits, -1).transpose(-1, -2)

    x = batch_of()
    actor = DistributionalQValueActor(
        module=Net(),
        support=torch.linspace(V_MIN, V_MAX, N),
        in_keys=["observation"],
        action_space="categorical",
    )
    loss = DistributionalDQNLoss(actor, gamma=GAMMA, delay_value=True, reduction="none")
    for name, parameter in loss.target_value_network_params.flatten_keys(".").items():
        if name.endswith("which"):
            parameter.data.zero_()
    now = torch.from_numpy(np.stack([x["logits"], x["logits"]], -1)).requires_grad_()
    after = torch.from_numpy(np.stack([x["online"], x["target"]], -1))
    done = torch.from_numpy(x["terminated"])[:, None]
    following = {
        "observation": after,
        "reward": torch.from_numpy(x["reward"])[:, None],
        "done": done,
        "terminated": done,
    }
    data = TensorDict({"observation": now, "action": torch.from_numpy(x["action"]), "next": following}, [B])
    want = loss(data)["loss"]
    got = ours(x, "torchrl")
    np.testing.assert_allclose(got.loss, want.detach().reshape(-1), rtol=1e-5)
    (gradient,) = torch.autograd.grad(want.mean(), now)
    np.testing.assert_allclose(got.d_logits, gradient[..., 0], atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", ["rlax", "rlax double"])
def test_rlax(peer: str) -> None:
    jax = pytest.importorskip("jax")
    rlax = pytest.importorskip("rlax")
    x = batch_of()
    discount = np.where(x["terminated"], 0, GAMMA).astype(np.float32)
    z = jax.numpy.asarray(Z, np.float32)

    def mean_loss(logits: Any) -> Any:
        arrays = (logits, x["action"], x["reward"], discount, x["target"], x["online"])
        if peer == "rlax":
            one = lambda y, a, r, d, t, _: rlax.categorical_q_learning(z, y, a, r, d, z, t)  # noqa: E731
        else:
            one = lambda y, a, r, d, t, o: rlax.categorical_double_q_learning(  # noqa: E731
                z, y, a, r, d, z, t, jax.nn.softmax(o) @ z
            )
        losses = jax.vmap(one)(*map(jax.numpy.asarray, arrays))
        return losses.mean(), losses

    (_, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(jax.numpy.asarray(x["logits"]))
    got = ours(x, peer)
    np.testing.assert_allclose(got.loss, losses, rtol=1e-5)
    np.testing.assert_allclose(got.d_logits, gradient, atol=1e-7)


def test_rlax_projects_on_another_support() -> None:
    jax = pytest.importorskip("jax")
    rlax = pytest.importorskip("rlax")
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(9), 20).astype(np.float32)
    source, target = np.sort(rng.normal(0, 3, (2, 9)), axis=1).astype(np.float32)
    target = np.concatenate([target, [7.0, 8.5]]).astype(np.float32)
    reward = rng.normal(size=20).astype(np.float32)
    project = jax.vmap(
        lambda p, r: rlax.categorical_l2_project(r + 0.9 * source, p, jax.numpy.asarray(target))
    )
    got = c51_project(probs, reward, gamma=0.9, support=source, target_support=target)
    np.testing.assert_allclose(got, project(probs, reward), atol=2e-6)


def test_two_hot_of_rlax() -> None:
    """Which places values in float32."""
    rlax = pytest.importorskip("rlax")
    x = np.linspace(V_MIN - 2, V_MAX + 2, 97, dtype=np.float32)
    np.testing.assert_allclose(
        two_hot(x, **SUPPORT, atoms=N), rlax.transform_to_2hot(x, V_MIN, V_MAX, N), atol=1e-4
    )
