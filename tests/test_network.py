"""The network family: C++ passes against the float64 reference and torch's autograd, Adam against torch's."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl import _core
from fastrl.kernels import network
from fastrl.kernels.network import Dense, Dueling, Plan, reference
from fastrl.networks import Head, NativeNetwork, NetworkSpec, orthogonal
from fastrl.optimizers import Adam


def relative(a, b):
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)


def chain(inputs, hidden, outputs, activation):
    widths = [inputs, *hidden]
    layers = [Dense(i, o, n - 1, -1, activation) for n, (i, o) in enumerate(itertools.pairwise(widths))]
    return Plan(inputs, [*layers, Dense(widths[-1], outputs, len(layers) - 1, 0)])


def check(plan, batch, rng):
    params = (rng.standard_normal(plan.size) * 0.3).astype(np.float32)
    x = rng.standard_normal((batch, plan.inputs)).astype(np.float32)
    dy = rng.standard_normal((batch, plan.outputs)).astype(np.float32)
    y, tape = network.forward(plan, params, x)
    expected, _ = reference.forward(plan, params, x)
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(y, network.infer(plan, params, x))
    grad = np.zeros_like(params)
    dx = network.backward(params, tape, dy, grad=grad, inputs=True)
    expected_grad, expected_dx = reference.backward(plan, params, x, dy.astype(np.float64))
    assert relative(grad, expected_grad) < 1e-5
    assert relative(dx, expected_dx) < 1e-5


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "none"])
@pytest.mark.parametrize("batch", [1, 2, 63, 64, 65, 131])
def test_passes_equal_the_reference(isa, activation, batch):
    check(chain(5, (33, 17), 3, activation), batch, np.random.default_rng(batch))


@pytest.mark.parametrize("widths", [(1,), (512,), (300, 1, 48), (16, 32, 48, 64, 80, 96)])
def test_widths(isa, widths):
    check(chain(7, widths, 2, "tanh"), 70, np.random.default_rng(0))


def test_no_hidden_layer_and_large_batch(isa):
    check(chain(3, (), 2, "tanh"), 65536, np.random.default_rng(0))


@settings(max_examples=60)
@given(
    inputs=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 70), max_size=3),
    outputs=st.integers(1, 40),
    activation=st.sampled_from(network.ACTIVATIONS),
    batch=st.integers(0, 80),
    seed=st.integers(0, 9),
)
def test_any_shape(inputs, hidden, outputs, activation, batch, seed):
    check(chain(inputs, hidden, outputs, activation), batch, np.random.default_rng(seed))


def test_rows_do_not_depend_on_the_batch(isa):
    rng = np.random.default_rng(0)
    plan = chain(4, (64, 64), 3, "tanh")
    params = rng.standard_normal(plan.size).astype(np.float32)
    x = rng.standard_normal((200, 4)).astype(np.float32)
    y = network.infer(plan, params, x)
    for stop in (1, 7, 64, 100):
        np.testing.assert_array_equal(network.infer(plan, params, x[:stop]), y[:stop])


def test_gradient_accumulates():
    rng = np.random.default_rng(0)
    plan = chain(4, (8,), 2, "tanh")
    params = rng.standard_normal(plan.size).astype(np.float32)
    x, dy = (rng.standard_normal((9, n)).astype(np.float32) for n in (4, 2))
    whole, parts = np.zeros_like(params), np.zeros_like(params)
    network.backward(params, network.forward(plan, params, x)[1], dy, grad=whole)
    for rows in (slice(0, 4), slice(4, 9)):
        network.backward(params, network.forward(plan, params, x[rows])[1], dy[rows], grad=parts)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_nan_reaches_the_output():
    plan = chain(2, (16,), 1, "relu")
    params = np.ones(plan.size, np.float32)
    y = network.infer(plan, params, np.array([[np.nan, 1.0], [1.0, 1.0]], np.float32))
    assert np.isnan(y[0])
    assert np.isfinite(y[1])


# ---- specs against autograd ----------------------------------------------------------------------------------------


def torch_forward(net, tensors, x):
    """The same spec built from torch ops, its parameters the given tensors."""
    outputs = []
    for layer, name in zip(net.plan.layers, net._layers.names, strict=True):
        source = x if layer.source < 0 else outputs[layer.source]
        z = source @ tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
        outputs.append(
            {"tanh": torch.tanh, "relu": torch.relu, "silu": torch.nn.functional.silu}.get(
                layer.activation, lambda z: z
            )(z)
        )
    y = torch.zeros(len(x), net.plan.outputs, dtype=x.dtype)
    for layer, out in zip(net.plan.layers, outputs, strict=True):
        if layer.column >= 0:
            y = y.slice_scatter(out, 1, layer.column, layer.column + layer.outputs)
    for d in net.plan.duelings:
        advantage = outputs[d.advantage].view(len(x), d.actions, d.atoms)
        q = outputs[d.value][:, None] + advantage - advantage.mean(1, keepdim=True)
        y = y.slice_scatter(q.reshape(len(x), -1), 1, d.column, d.column + d.actions * d.atoms)
    return y


def as_torch(tensors):
    return {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in tensors.items()}


def flat_grad(net, tensors):
    """Gradients of the torch tensors in the layout of ``net.grad``."""
    copy = NativeNetwork(net.spec, np.random.default_rng(0))
    for name, view in copy.named_tensors().items():
        view[...] = tensors[name].grad.numpy()
    return copy.params


SPECS = {
    "plain": NetworkSpec(inputs=4, heads=(Head(name="q", outputs=3, hidden=(64, 64)),), activation="relu"),
    "actor-critic": NetworkSpec(
        inputs=4,
        heads=(
            Head(name="policy", outputs=2, hidden=(64, 64), gain=0.01),
            Head(name="value", outputs=1, hidden=(64, 64)),
        ),
    ),
    "shared trunk": NetworkSpec(
        inputs=6, trunk=(32,), heads=(Head(name="policy", outputs=5), Head(name="value", outputs=1)),
        activation="silu",
    ),
    "dueling": NetworkSpec(
        inputs=5, trunk=(48,), heads=(Head(name="q", outputs=4, hidden=(32,), dueling=True),)
    ),
    "dueling atoms": NetworkSpec(
        inputs=5, trunk=(48,), heads=(Head(name="q", outputs=4 * 51, hidden=(32,), dueling=True, atoms=51),)
    ),
    "twin": NetworkSpec(
        inputs=7, heads=(Head(name="q", outputs=1, hidden=(32, 32)),), copies=2, activation="relu"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_spec_gradients_equal_autograd(isa, name):
    rng = np.random.default_rng(1)
    net = NativeNetwork(SPECS[name], rng)
    net.params[:] += rng.standard_normal(net.params.size).astype(np.float32) * 0.1
    x = rng.standard_normal((37, net.spec.inputs)).astype(np.float32)
    dy = rng.standard_normal((37, net.spec.outputs)).astype(np.float32)
    y, tape = net.forward(x)
    dx = net.backward(tape, dy, inputs=True)
    tensors = as_torch(net.named_tensors())
    tx = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    ty = torch_forward(net, tensors, tx)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    assert relative(y, ty.detach().numpy()) < 1e-5
    assert relative(net.grad, flat_grad(net, tensors)) < 1e-5
    assert relative(dx, tx.grad.numpy()) < 1e-5


def test_noisy_gradients_equal_autograd():
    rng = np.random.default_rng(2)
    spec = NetworkSpec(inputs=4, heads=(Head(name="q", outputs=3, hidden=(32,)),), noisy=0.5)
    net = NativeNetwork(spec, rng)
    x = rng.standard_normal((16, 4)).astype(np.float32)
    dy = rng.standard_normal((16, 3)).astype(np.float32)
    y, tape = net.forward(x)
    net.backward(tape, dy)
    tensors = as_torch(net.named_tensors())
    noise = dict(zip(tensors, np.split(net._noise, np.cumsum([p.numel() for p in tensors.values()])[:3])[:4],
                     strict=False))  # fmt: skip
    effective = {}
    for key, mu in tensors.items():
        if ".mu_" in key:
            eps = torch.tensor(noise[key], dtype=torch.float64).view(mu.shape)
            effective[key.replace("mu_", "")] = mu + tensors[key.replace("mu_", "sigma_")] * eps
    ty = torch_forward(net, effective, torch.tensor(x, dtype=torch.float64))
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    assert relative(y, ty.detach().numpy()) < 1e-5
    assert relative(net.grad, flat_grad(net, tensors)) < 1e-5
    before = net.infer(x)
    net.resample(rng)
    assert not np.array_equal(before, net.infer(x))


def test_actor_through_critic_equals_autograd():
    """The gradient of Q(s, tanh(mu + sigma eps)) with respect to the actor, the chain SAC's update is made of."""
    rng = np.random.default_rng(3)
    actor = NativeNetwork(
        NetworkSpec(
            inputs=3, trunk=(32,), heads=(Head(name="mean", outputs=2), Head(name="log_std", outputs=2))
        ),
        rng,
    )
    critic = NativeNetwork(NetworkSpec(inputs=5, heads=(Head(name="q", outputs=1, hidden=(32,)),)), rng)
    obs = rng.standard_normal((21, 3)).astype(np.float32)
    eps = rng.standard_normal((21, 2)).astype(np.float32)

    out, actor_tape = actor.forward(obs)
    mean, log_std = out[:, :2], out[:, 2:]
    action = np.tanh(mean + np.exp(log_std) * eps)
    _, critic_tape = critic.forward(np.concatenate([obs, action], 1))
    dx = critic.backward(critic_tape, np.ones((21, 1), np.float32), params=False, inputs=True)
    du = dx[:, 3:] * (1 - action**2)
    actor.backward(actor_tape, np.concatenate([du, du * np.exp(log_std) * eps], 1))
    assert not critic.grad.any()

    ta, tc = as_torch(actor.named_tensors()), as_torch(critic.named_tensors())
    to = torch.tensor(obs, dtype=torch.float64)
    tout = torch_forward(actor, ta, to)
    taction = torch.tanh(tout[:, :2] + tout[:, 2:].exp() * torch.tensor(eps, dtype=torch.float64))
    torch_forward(critic, tc, torch.cat([to, taction], 1)).sum().backward()
    assert relative(actor.grad, flat_grad(actor, ta)) < 1e-5


# ---- optimiser -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_adam_equals_torch(isa, max_norm):
    rng = np.random.default_rng(0)
    net = NativeNetwork(SPECS["actor-critic"], rng)
    tensor = torch.tensor(net.params.astype(np.float64), requires_grad=True)
    peer = torch.optim.Adam([tensor], lr=3e-3, eps=1e-5)
    ours = Adam(net, eps=1e-5)
    ours.learning_rate = 3e-3
    for _ in range(20):
        net.grad[:] = rng.standard_normal(net.grad.size)
        tensor.grad = torch.tensor(net.grad.astype(np.float64))
        expected = torch.nn.utils.clip_grad_norm_([tensor], max_norm)
        assert ours.step(max_norm) == pytest.approx(expected.item(), rel=1e-6)
        peer.step()
    np.testing.assert_allclose(net.params, tensor.detach().numpy(), rtol=2e-5, atol=2e-6)
    assert not net.grad.any()


def test_adam_equals_the_reference():
    rng = np.random.default_rng(0)
    params, grad, m, v = rng.standard_normal((4, 1003)).astype(np.float32)
    v = np.abs(v)
    options = {"t": 7, "learning_rate": 0.01, "betas": (0.8, 0.99), "eps": 1e-3, "max_grad_norm": 2.0}
    expected = reference.adam_step(*(x.astype(np.float64) for x in (params, grad, m, v)), **options)
    network.adam_step(params, grad, m, v, **options)
    for got, want in zip((params, m, v), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_non_finite_gradient_changes_nothing():
    net = NativeNetwork(SPECS["plain"], np.random.default_rng(0))
    adam = Adam(net)
    before = net.params.copy()
    net.grad[3] = np.nan
    with pytest.raises(FloatingPointError, match="norm is nan at step 1"):
        adam.step()
    np.testing.assert_array_equal(net.params, before)
    assert adam.t == 0
    assert not adam.m.any()


def test_polyak():
    rng = np.random.default_rng(0)
    target, params = rng.standard_normal((2, 77)).astype(np.float32)
    expected = target + 0.005 * (params.astype(np.float64) - target)
    network.polyak(target, params, tau=0.005)
    np.testing.assert_allclose(target, expected, rtol=1e-6)


# ---- initialisation, names, errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 2)])
def test_orthogonal(shape):
    w = orthogonal(np.random.default_rng(0), *shape, gain=np.sqrt(2)).astype(np.float64)
    gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(gram, 2 * np.eye(min(shape)), atol=1e-5)


def test_named_tensors_are_views_and_load_back():
    net = NativeNetwork(SPECS["actor-critic"], np.random.default_rng(0))
    tensors = net.named_tensors()
    assert set(tensors) == {f"{h}.{n}.{k}" for h in ("policy", "value") for n in (0, 1, "out") for k in
                            ("weight", "bias")}  # fmt: skip
    assert sum(t.size for t in tensors.values()) == net.params.size
    tensors["value.out.bias"][:] = 5.0
    assert net.infer(np.zeros((1, 4), np.float32))[0, 2] == 5.0
    other = NativeNetwork(SPECS["actor-critic"], np.random.default_rng(1))
    other.load_tensors(tensors)
    np.testing.assert_array_equal(other.params, net.params)
    tensors.pop("value.out.bias")
    with pytest.raises(ValueError, match=r"missing or unknown: value\.out\.bias"):
        other.load_tensors(tensors)
    with pytest.raises(ValueError, match=r"policy\.0\.bias must be \[64\], got \[2\]"):
        other.load_tensors({**net.named_tensors(), "policy.0.bias": np.zeros(2, np.float32)})


def test_columns():
    spec = SPECS["actor-critic"]
    assert spec.columns("value") == slice(2, 3)
    assert SPECS["twin"].columns("q", copy=1) == slice(1, 2)
    with pytest.raises(KeyError, match="no head 'q': the heads are policy, value"):
        spec.columns("q")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: network.infer(PLAN, PARAMS, X.astype(np.float64)), TypeError, r"x must be float32 \[B, 4\], got"),
        (lambda: network.infer(PLAN, PARAMS, X[:, :3].copy()), ValueError, r"x must be \[5, 4\], got \[5, 3\]"),
        (lambda: network.infer(PLAN, PARAMS, X[:, ::-1]), ValueError, "x must be C-contiguous"),
        (lambda: network.infer(PLAN, PARAMS[:-1].copy(), X), ValueError, r"params must be \[58\], got \[57\]"),
        (lambda: network.forward(PLAN, PARAMS, X, out=X), ValueError, r"y must be \[5, 2\], got \[5, 4\]"),
        (lambda: network.backward(PARAMS, TAPE, X), ValueError, r"dy must be \[5, 2\], got \[5, 4\]"),
        (lambda: Plan(4, [Dense(3, 2)]), ValueError, "width must match"),
        (lambda: Plan(4, [Dense(4, 2, 0)]), ValueError, "earlier layer"),
        (lambda: Plan(4, [Dense(4, 2, -1, 0, "gelu")]), ValueError, "activation must be one of .* got 'gelu'"),
        (lambda: Plan(4, []), ValueError, "1 to 64 layers, got 0"),
        (lambda: Plan(4, [Dense(4, 1), Dense(4, 5)], [Dueling(0, 1, 0, 3)]), ValueError, "dueling widths"),
        (lambda: NetworkSpec(inputs=0, heads=(Head(name="q", outputs=1),)), ValueError, "inputs must be >= 1"),
        (lambda: NetworkSpec(inputs=1, heads=()), ValueError, "at least one head"),
        (lambda: NetworkSpec(inputs=1, heads=(Head(name="q", outputs=0),)), ValueError, "widths must be >= 1"),
        (lambda: network.adam_step(PARAMS, PARAMS[1:], PARAMS, PARAMS, t=1, learning_rate=1), ValueError, "grad must"),
        (lambda: network.polyak(PARAMS.copy(), PARAMS, tau=1.5), ValueError, r"tau must be in \[0, 1\]"),
    ],
)  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_unaligned_arrays_are_refused():
    def off_by_a_byte(x):
        memory = np.zeros(x.nbytes + 1, np.uint8)
        memory[1:] = x.reshape(-1).view(np.uint8)
        return memory[1:].view(x.dtype).reshape(x.shape)

    params, x, dy = off_by_a_byte(PARAMS), off_by_a_byte(X), off_by_a_byte(np.zeros((5, 2), np.float32))
    for call in (
        lambda: network.infer(PLAN, params, X),
        lambda: network.infer(PLAN, PARAMS, x),
        lambda: network.backward(PARAMS, TAPE, dy),
        lambda: network.polyak(params, PARAMS, tau=0.5),
        lambda: network.adam_step(params, PARAMS, PARAMS.copy(), PARAMS.copy(), t=1, learning_rate=1),
        lambda: _core.act(PLAN.core, params, X, 0, 0),
        lambda: _core.act(PLAN.core, PARAMS, x, 0, 0),
    ):
        with pytest.raises(ValueError, match="must be aligned in memory"):
            call()


PLAN = chain(4, (8,), 2, "tanh")
PARAMS = np.zeros(PLAN.size, np.float32)
X = np.zeros((5, 4), np.float32)
TAPE = network.forward(PLAN, PARAMS, X)[1]
