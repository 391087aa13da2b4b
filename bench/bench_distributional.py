"""Time of the distributional family beside what users run today: ``python bench/bench_distributional.py``.

Peers that are not installed are left out; RLax wants an environment of its own.
"""

import _harness

# isort: split
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from _atoms import GAP, GAUSSIANS, SIGMA, SUPPORT, TWO_HOTS, V_MAX, V_MIN, A, Array, Builder, N, Z, module

from fastrl.kernels.distributional import (
    C51Loss,
    QuantileHuberLoss,
    c51_loss,
    c51_project,
    expectation,
    hl_gauss,
    quantile_huber,
    two_hot,
)

# ---- projection: probs [B, N], reward [B], discount [B]


def project_rows(probs: Any, reward: Any, discount: Any, torch: Any) -> Any:
    """CleanRL: two index_add_ a row."""
    low, up, to_low, to_up = neighbours(probs, reward, discount, torch)
    result = torch.zeros_like(probs)
    for i in range(len(probs)):
        result[i].index_add_(0, low[i].long(), to_low[i])
        result[i].index_add_(0, up[i].long(), to_up[i])
    return result


def neighbours(probs: Any, reward: Any, discount: Any, torch: Any) -> tuple[Any, ...]:
    z = torch.linspace(V_MIN, V_MAX, N)
    b = ((reward[:, None] + discount[:, None] * z).clamp(V_MIN, V_MAX) - V_MIN) / GAP
    low, up = b.floor().clamp(0, N - 1), b.ceil().clamp(0, N - 1)
    return low, up, (up + (low == up).float() - b) * probs, (b - low) * probs


def project_flat(probs: Any, reward: Any, discount: Any, torch: Any) -> Any:
    """TorchRL: one index_add_ over flat rows."""
    low, up, to_low, to_up = neighbours(probs, reward, discount, torch)
    offset = (torch.arange(len(probs)) * N)[:, None]
    result = torch.zeros_like(probs)
    result.view(-1).index_add_(0, (low.long() + offset).view(-1), to_low.view(-1))
    result.view(-1).index_add_(0, (up.long() + offset).view(-1), to_up.view(-1))
    return result


def project_dense(probs: Any, reward: Any, discount: Any, torch: Any) -> Any:
    """[B, N, N] as Tianshou and DeepRL."""
    z = torch.linspace(V_MIN, V_MAX, N)
    land = (reward[:, None] + discount[:, None] * z).clamp(V_MIN, V_MAX)
    hat = 1 - (land[:, None, :] - z[None, :, None]).abs() / GAP
    return (hat.clamp(0, 1) * probs[:, None, :]).sum(-1)


def projection(name: str, compiled: bool = False) -> Builder:
    def build(probs: Array, reward: Array, discount: Array) -> Callable[[], Any]:
        torch = module("torch")
        project = globals()[name]
        tensors = [torch.from_numpy(x) for x in (probs, reward, discount)]
        if compiled:
            project = torch.compile(project)
        return lambda: project(*tensors, torch)

    return build


def project_tianshou(probs: Array, reward: Array, discount: Array) -> Callable[[], Any]:
    torch, c51 = module("torch"), module("tianshou.algorithm.modelfree.c51").C51
    batch_of = module("tianshou.data").Batch
    support, after = torch.from_numpy(Z), torch.from_numpy(probs)[:, None]
    chosen = np.zeros(len(probs), int)
    follows = SimpleNamespace(act=chosen, logits=after)

    class Policy:
        def __call__(self, batch: Any) -> Any:
            return follows

    policy: Any = Policy()
    policy.support, policy.v_min, policy.v_max = support, V_MIN, V_MAX
    returns = torch.from_numpy(reward[:, None] + discount[:, None] * Z)
    batch = batch_of(obs_next=np.zeros((len(probs), 1)), returns=returns)
    algorithm = SimpleNamespace(policy=policy, use_target_network=False, delta_z=GAP)
    return lambda: c51._target_dist(algorithm, batch)


def project_rlax(probs: Array, reward: Array, discount: Array) -> Callable[[], Any]:
    jax, rlax = module("jax"), module("rlax")
    arrays = [jax.numpy.asarray(x) for x in (probs, reward, discount)]
    project = jax.jit(
        jax.vmap(lambda p, r, d: rlax.categorical_l2_project(r + d * Z, p, jax.numpy.asarray(Z)))
    )
    return lambda: project(*arrays).block_until_ready()


def project_ours(probs: Array, reward: Array, discount: Array) -> Callable[[], Any]:
    tensors = [module("torch").from_numpy(x) for x in (probs, reward, discount)]
    return lambda: c51_project(*tensors, **SUPPORT)


# ---- loss: logits [B, A, N], action [B], next_logits [B, A, N], reward [B], discount [B]


def loss_of(
    projection: Callable[..., Any], torch: Any, logits: Any, action: Any, after: Any, *bellman: Any
) -> Any:
    row = torch.arange(len(action))
    with torch.no_grad():
        p = torch.softmax(after, -1)
        target = projection(p[row, (p * torch.linspace(V_MIN, V_MAX, N)).sum(-1).argmax(-1)], *bellman, torch)
    return -(target * torch.log_softmax(logits[row, action], -1)).sum(-1)


def loss_torch(name: str, compiled: bool = False) -> Builder:
    def build(*arrays: Array) -> Callable[[], Any]:
        torch = module("torch")
        logits, *rest = (torch.from_numpy(x) for x in arrays)
        logits = logits.clone().requires_grad_()
        project = globals()[name]

        def loss(logits: Any, *rest: Any) -> Any:
            return loss_of(project, torch, logits, *rest)

        function = torch.compile(loss) if compiled else loss

        def run() -> Any:
            value = function(logits, *rest)
            return value.detach(), torch.autograd.grad(value.mean(), logits)[0]

        return run

    return build


def loss_rlax(*arrays: Array) -> Callable[[], Any]:
    jax, rlax = module("jax"), module("rlax")
    z = jax.numpy.asarray(Z)
    one = jax.vmap(lambda y, a, t, r, d: rlax.categorical_q_learning(z, y, a, r, d, z, t))

    def mean(logits: Any, *rest: Any) -> Any:
        losses = one(logits, *rest)
        return losses.mean(), losses

    step = jax.jit(jax.value_and_grad(mean, has_aux=True))
    inputs = [jax.numpy.asarray(x) for x in arrays]

    def run() -> Any:
        (_, losses), gradient = jax.block_until_ready(step(*inputs))
        return losses, gradient

    return run


def loss_ours(*arrays: Array) -> Callable[[], Any]:
    torch = module("torch")
    logits, *rest = (torch.from_numpy(x) for x in arrays)
    logits = logits.clone().requires_grad_()

    def run() -> Any:
        loss = c51_loss(logits, *rest, **SUPPORT).loss
        return loss.detach(), torch.autograd.grad(loss.mean(), logits)[0]

    return run


def refilled(
    call: Callable[[], Any], arrays: Sequence[Array], batches: Sequence[Sequence[Array]]
) -> Callable[[], Any]:
    """The call with other contents of these arrays each time, which a processor cannot learn by heart."""
    following = itertools.cycle(batches)

    def run() -> Any:
        for array, fresh in zip(arrays, next(following), strict=True):
            array[...] = fresh
        return call()

    return run


# ---- quantile Huber: quantiles [B, N], targets [B, M]; the gradient of the mean loss


def quantiles_sb3(compiled: bool) -> Builder:
    def build(quantiles: Array, targets: Array) -> Callable[[], Any]:
        torch = module("torch")
        loss = module("sb3_contrib.common.utils").quantile_huber_loss
        loss = torch.compile(loss) if compiled else loss
        leaf, target = torch.from_numpy(quantiles).clone().requires_grad_(), torch.from_numpy(targets)
        return lambda: torch.autograd.grad(loss(leaf, target), leaf)[0]

    return build


def quantiles_tianshou(quantiles: Array, targets: Array) -> Callable[[], Any]:
    torch, qrdqn = module("torch"), module("tianshou.algorithm.modelfree.qrdqn").QRDQN
    batch_of = module("tianshou.data").Batch
    leaf, target = torch.from_numpy(quantiles)[:, None].clone().requires_grad_(), torch.from_numpy(targets)
    n = quantiles.shape[1]
    gradient: list[Any] = []

    def step(loss: Any) -> None:
        gradient[:] = torch.autograd.grad(loss, leaf)

    algorithm = SimpleNamespace(
        _periodically_update_lagged_network_weights=lambda: None,
        policy=lambda batch: SimpleNamespace(logits=leaf),
        tau_hat=((torch.arange(n) + 0.5) / n).view(1, -1, 1),
        optim=SimpleNamespace(step=step),
    )
    batch = batch_of(act=np.zeros(len(quantiles), int), returns=target)

    def run() -> Any:
        qrdqn._update_with_batch(algorithm, batch)
        return gradient[0][:, 0]

    return run


def quantiles_rlax(quantiles: Array, targets: Array) -> Callable[[], Any]:
    jax, rlax = module("jax"), module("rlax")
    tau = jax.numpy.asarray((np.arange(quantiles.shape[1], dtype=np.float32) + 0.5) / quantiles.shape[1])
    one = jax.vmap(lambda q, t: rlax.quantile_regression_loss(q, tau, t, 1.0))
    step = jax.jit(jax.grad(lambda q, t: one(q, t).mean()))
    inputs = [jax.numpy.asarray(x) for x in (quantiles, targets)]
    return lambda: step(*inputs).block_until_ready()


def quantiles_ours(quantiles: Array, targets: Array) -> Callable[[], Any]:
    torch = module("torch")
    leaf, target = torch.from_numpy(quantiles).clone().requires_grad_(), torch.from_numpy(targets)
    return lambda: torch.autograd.grad(quantile_huber(leaf, target).loss.mean(), leaf)[0]


# What is compiled: the dense projection, sb3-contrib's loss, DreamerV3's two-hot, the listing of HL-Gauss
PROJECTIONS = {
    "ours, torch": project_ours,
    "CleanRL row loop": projection("project_rows"),
    "flat index_add (TorchRL)": projection("project_flat"),
    "dense (tianshou)": project_tianshou,
    "torch.compile": projection("project_dense", compiled=True),
    "rlax jit": project_rlax,
}
LOSSES = {
    "ours, torch": loss_ours,
    "CleanRL row loop": loss_torch("project_rows"),
    "flat index_add (TorchRL)": loss_torch("project_flat"),
    "dense (tianshou)": loss_torch("project_dense"),
    "torch.compile": loss_torch("project_dense", compiled=True),
    "rlax jit": loss_rlax,
}
QUANTILES = {
    "ours, torch": quantiles_ours,
    "sb3-contrib": quantiles_sb3(compiled=False),
    "torch.compile": quantiles_sb3(compiled=True),
    "tianshou QRDQN": quantiles_tianshou,
    "rlax jit": quantiles_rlax,
}


def peers_of(builders: dict[str, Builder], *arrays: Array) -> dict[str, Callable[[], Any]]:
    """Those that are installed."""
    found = {}
    for name, build in builders.items():
        try:
            found[name] = build(*arrays)
        except ImportError as error:
            print(f"left out: {name}, {error}")
    return found


def agree(ours: Any, peer: Any) -> bool:
    """Arrays, or a loss and its gradient."""
    if isinstance(ours, tuple):
        return all(map(agree, ours, peer))
    ours, peer = np.asarray(ours), np.asarray(peer)
    return ours.shape == peer.shape and np.allclose(ours, peer, rtol=1e-3, atol=1e-4 * np.abs(ours).max())


def cases() -> Iterator[_harness.Case]:
    warnings.filterwarnings("ignore", message="Using a target size")  # tianshou's broadcast
    rng = np.random.default_rng(0)
    for batch in (32, 256, 4096):
        probs = rng.dirichlet(np.ones(N), batch).astype(np.float32)
        reward = rng.normal(size=batch).astype(np.float32)
        discount = np.where(rng.random(batch) < 0.02, 0, 0.99).astype(np.float32)
        out = np.empty_like(probs)
        x = (probs, reward, discount)
        yield _harness.Case(
            name=f"c51_project [{batch}, {N}]",
            ours=lambda x=x: c51_project(*x, **SUPPORT),
            peers={"ours, out=": lambda x=x, out=out: c51_project(*x, **SUPPORT, out=out)}
            | peers_of(PROJECTIONS, *x),
            agree=agree,
            bytes=2 * probs.nbytes + 8 * batch,
        )
        logits, after = rng.normal(size=(2, batch, A, N)).astype(np.float32)
        y = (logits, rng.integers(A, size=batch), after, reward, discount)
        room = C51Loss(np.empty(batch, np.float32), np.empty_like(logits))
        yield _harness.Case(
            name=f"C51: select, project, cross-entropy, gradient to logits [{batch}, {A}, {N}]",
            ours=lambda y=y: tuple(c51_loss(*y, **SUPPORT)),
            peers={"ours, out=": lambda y=y, room=room: tuple(c51_loss(*y, **SUPPORT, out=room))}
            | peers_of(LOSSES, *y),
            agree=agree,
            bytes=2 * logits.nbytes + logits.nbytes // A + 20 * batch,  # reads one action's logits
        )
        if batch != 256:
            continue
        own = [array.copy() for array in y[3:]]
        others = [(rng.normal(size=batch), np.where(rng.random(batch) < 0.02, 0, 0.99)) for _ in range(256)]
        batches = [tuple(array.astype(np.float32) for array in other) for other in others]
        shared = {
            name: peer for name, peer in LOSSES.items() if "jit" not in name
        }  # JAX copies its arguments
        calls = {"ours": lambda y=y, own=own: tuple(c51_loss(*y[:3], *own, **SUPPORT))}
        calls |= peers_of(shared, *y[:3], *own)
        calls = {name: refilled(call, own, batches) for name, call in calls.items()}
        yield _harness.Case(
            name=f"C51, other rewards at each call [{batch}, {A}, {N}]",
            ours=calls.pop("ours"),
            peers=calls,
            agree=agree,
            bytes=2 * logits.nbytes + logits.nbytes // A + 20 * batch,
        )
    for batch, n, m in (
        (32, 200, 200),
        (256, 200, 200),
        (256, 32, 32),
        (256, 51, 51),
        (256, 64, 64),
        (256, 64, 32),
    ):
        q, t = (rng.normal(size=(batch, k)).astype(np.float32) for k in (n, m))
        space = QuantileHuberLoss(np.empty(batch, np.float32), np.empty_like(q))
        same = {k: v for k, v in QUANTILES.items() if n == m or "tianshou" not in k}  # else another reduction
        yield _harness.Case(
            name=f"quantile_huber, loss and gradient, quantiles [{batch}, {n}], targets [{batch}, {m}]",
            ours=lambda q=q, t=t: quantile_huber(q, t).d_quantiles,
            peers={"ours, out=": lambda q=q, t=t, space=space: quantile_huber(q, t, out=space).d_quantiles}
            | peers_of(same, q, t),
            agree=agree,
            bytes=2 * q.nbytes + t.nbytes,
        )
    x = rng.normal(0, 4, 256).astype(np.float32)
    probs = two_hot(x, **SUPPORT, atoms=N)
    yield _harness.Case(
        name=f"expectation [256, {N}]",
        ours=lambda: expectation(probs, **SUPPORT),
        peers={"numpy": lambda: probs @ Z},
        agree=agree,
        bytes=probs.nbytes,
    )
    yield _harness.Case(
        name=f"two_hot [256, {N}]",
        ours=lambda: two_hot(x, **SUPPORT, atoms=N),
        peers=peers_of(TWO_HOTS, x),
        agree=agree,
        bytes=probs.nbytes + x.nbytes,
    )
    inside = np.clip(x, V_MIN, V_MAX)  # far outside, the paper's is 0 / 0
    yield _harness.Case(
        name=f"hl_gauss [256, {N}]",
        ours=lambda: hl_gauss(inside, sigma=SIGMA, **SUPPORT, atoms=N),
        peers=peers_of(GAUSSIANS, inside),
        agree=agree,
        bytes=probs.nbytes + x.nbytes,
    )


if __name__ == "__main__":
    packages = ["torch", "stable-baselines3", "sb3-contrib", "tianshou", "torchrl", "rlax", "jax"]
    _harness.main("distributional", cases, packages)
