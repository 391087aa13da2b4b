"""The torch executor: the native one's gradients, flat views, modules of the user's, convolutions."""

import re

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import fastrl
from fastrl import torch_networks
from fastrl.cnn import ImageActorCritic
from fastrl.distributions import Categorical
from fastrl.evaluate import evaluate
from fastrl.networks import NativeNetwork, NetworkOptions, NetworkSpec, actor_critic
from fastrl.observations import Encoder
from fastrl.optimizers import Adam
from fastrl.policies import build_network
from fastrl.torch_networks import TorchMLP, TorchNetwork

SMALL = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (16,)}
SIX = Categorical(spaces.Discrete(6))
IMAGE = spaces.Box(0, 255, (84, 84, 4), np.uint8)


def seed(n=0):
    return np.random.SeedSequence(n)


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "none"])
def test_gradients_equal_the_native_executors(activation):
    options = NetworkOptions(hidden=(33, 17), activation=activation)
    spec = actor_critic(5, 3, options)
    native = NativeNetwork(spec, np.random.default_rng(0))
    ours = TorchMLP(spec, np.random.default_rng(0), options)
    np.testing.assert_array_equal(native.params, ours.params)
    rng = np.random.default_rng(1)
    for _ in range(2):  # gradients accumulate
        x = rng.standard_normal((40, 5)).astype(np.float32)
        dy = rng.standard_normal((40, 4)).astype(np.float32)
        y, tape = ours.forward(x)
        expected, native_tape = native.forward(x)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        ours.backward(tape, dy)
        native.backward(native_tape, dy)
    assert np.linalg.norm(ours.grad - native.grad) < 1e-5 * np.linalg.norm(native.grad)
    assert ours.named_tensors().keys() != {}
    ours.zero_grad()
    assert all(not p.grad.any() for p in ours.module.parameters())


def test_learning_curves_of_both_engines_agree():
    """The same seed learns alike: the engines differ by rounding alone, which training then amplifies."""
    agents = [fastrl.PPO("CartPole-v1", seed=0, engine=engine) for engine in ("native", "torch")]
    for agent in agents:
        agent.learn(8 * 128 * 2)
    a, b = (agent.policy.network.params for agent in agents)
    assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(a)


@pytest.mark.learning
def test_torch_engine_learns():
    agent = fastrl.PPO("CartPole-v1", seed=0, engine="torch").learn(50_000)
    assert isinstance(agent.policy.network, TorchMLP)
    assert evaluate(agent, 50).mean >= 400


class Shared(nn.Module):
    def __init__(self, outputs=2, split=True):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
        self.policy, self.value = nn.Linear(32, outputs), nn.Linear(32, 1)
        self.split = split

    def forward(self, obs):
        h = self.trunk(obs)
        return (
            (self.policy(h), self.value(h)[:, 0])
            if self.split
            else torch.cat([self.policy(h), self.value(h)], 1)
        )


@pytest.mark.parametrize("split", [True, False])
def test_a_module_of_the_users(split, tmp_path):
    torch.manual_seed(0)
    module = Shared(split=split)
    before = [p.detach().clone() for p in module.parameters()]
    agent = fastrl.PPO("CartPole-v1", policy=module, seed=0, **SMALL).learn(640)
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    path = agent.save(tmp_path / "agent")
    copy = fastrl.PPO.load(path, policy=Shared(split=split))
    obs = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    np.testing.assert_array_equal(copy.policy.value(obs), agent.policy.value(obs))
    agent.total_timesteps = copy.total_timesteps = 1280
    np.testing.assert_array_equal(agent.learn().policy.network.params, copy.learn().policy.network.params)


def test_a_load_without_the_users_module_says_so(tmp_path):
    """Once it named every tensor that fastrl's own network lacks."""
    path = fastrl.PPO("CartPole-v1", policy=Shared(), seed=0, **SMALL).save(tmp_path / "agent")
    message = "load: policy must be a module like the one the agent was made with, got None"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fastrl.PPO.load(path)


def test_flat_vectors_are_the_modules_memory():
    module = Shared()
    network = TorchNetwork(module)
    network.params[:] = 0.125
    assert all((p == 0.125).all() for p in module.parameters())
    y, tape = network.forward(np.ones((2, 4), np.float32))
    network.backward(tape, np.ones_like(y))
    assert network.grad.any()
    adam = Adam(network)
    adam.learning_rate = 0.1
    adam.step()
    assert not (next(module.parameters()) == 0.125).all()
    assert not network.grad.any()
    module.load_state_dict(Shared().state_dict())
    assert network.params[0] == module.trunk[0].weight[0, 0]


def test_user_modules_that_do_not_fit():
    with pytest.raises(
        ValueError, match=r"the module must give \[B, 3\].* for 2 observations it gave \[2, 6\]"
    ):
        fastrl.PPO("CartPole-v1", policy=Shared(outputs=5), **SMALL)
    with pytest.raises(ValueError, match="must have parameters"):
        TorchNetwork(nn.Identity())
    with pytest.raises(
        ValueError, match=r"parameter trunk\.0\.weight must be float32 on cpu, got torch\.float64"
    ):
        TorchNetwork(Shared().double())
    with pytest.raises(ValueError, match="cannot run a module of your own"):
        fastrl.PPO("CartPole-v1", policy=Shared(), engine="native", **SMALL)
    network = TorchNetwork(Shared())
    y, tape = network.forward(np.ones((2, 4), np.float32))
    with pytest.raises(NotImplementedError, match="dL/dx is not offered"):
        network.backward(tape, y, inputs=True)
    noisy = NetworkSpec(inputs=2, heads=actor_critic(2, 2, NetworkOptions()).heads, noisy=0.5)
    with pytest.raises(ValueError, match="native executor only"):
        TorchMLP(noisy, np.random.default_rng(0), NetworkOptions())


@pytest.mark.parametrize("trunk", ["nature", "impala"])
@pytest.mark.parametrize("shape", [(84, 84, 4), (4, 84, 84)])
def test_image_networks(trunk, shape):
    encoder = Encoder(spaces.Box(0, 255, shape, np.uint8))
    network = build_network(encoder, SIX, NetworkOptions(trunk=trunk), seed())
    again = build_network(encoder, SIX, NetworkOptions(trunk=trunk), seed())
    np.testing.assert_array_equal(network.params, again.params)
    x = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    y, tape = network.forward(x)
    assert y.shape == (3, 7)
    assert np.abs(y[:, :6]).max() < 0.5  # the policy starts near uniform
    network.backward(tape, np.ones_like(y))
    assert network.grad.any()
    np.testing.assert_allclose(network.infer(x), y, rtol=1e-4, atol=1e-5)


def test_image_layouts_agree():
    """Channels first or last, the same image gives the same output."""
    first, last = (
        build_network(Encoder(spaces.Box(0, 255, shape, np.uint8)), SIX, NetworkOptions(), seed())
        for shape in ((4, 84, 84), (84, 84, 4))
    )
    x = np.random.default_rng(0).integers(0, 256, (2, 84, 84, 4), dtype=np.uint8)
    np.testing.assert_allclose(
        first.infer(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), last.infer(x), rtol=1e-4, atol=1e-5
    )


def test_bfloat16_is_near_float32():
    x = np.random.default_rng(0).integers(0, 256, (4, 84, 84, 4), dtype=np.uint8)
    exact = build_network(Encoder(IMAGE), SIX, NetworkOptions(), seed()).infer(x)
    network = build_network(Encoder(IMAGE), SIX, NetworkOptions(bf16=True), seed())
    assert network.params.dtype == np.float32
    np.testing.assert_allclose(network.infer(x), exact, atol=0.05)


def test_network_and_observations_must_fit():
    with pytest.raises(ValueError, match="network='mlp' does not read observations of Box"):
        build_network(Encoder(IMAGE), SIX, NetworkOptions(trunk="mlp"), seed())
    small = Encoder(spaces.Box(0, 255, (8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="images of 8x8 are too small"):
        build_network(small, SIX, NetworkOptions(), seed())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while compiling
def test_compiled_equals_eager():
    options = NetworkOptions(hidden=(16,), compiled=True)
    spec = actor_critic(4, 2, options)
    eager = TorchMLP(spec, np.random.default_rng(0), NetworkOptions(hidden=(16,)))
    compiled = TorchMLP(spec, np.random.default_rng(0), options)
    x = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
    for network in (eager, compiled):
        y, tape = network.forward(x)
        network.backward(tape, np.ones_like(y))
    np.testing.assert_allclose(compiled.grad, eager.grad, rtol=1e-4, atol=1e-5)
    assert list(compiled.module.state_dict()) == list(eager.module.state_dict())


def test_pixels_are_scaled_to_one():
    network = build_network(Encoder(IMAGE), SIX, NetworkOptions(), seed())
    module = network.module
    x = np.random.default_rng(0).integers(0, 256, (2, 84, 84, 4), dtype=np.uint8)
    trunk = module.trunk
    first = trunk.convolutions[0]
    with torch.no_grad():
        scaled = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255.0
        y = nn.functional.conv2d(scaled, first.weight, first.bias, first.stride)
        features = torch.relu(trunk.dense(trunk.convolutions[1:](y)))
        expected = torch.cat([module.policy(features), module.value(features)], 1)
    np.testing.assert_allclose(network.infer(x), expected, rtol=1e-4, atol=1e-5)


def test_large_inputs_go_through_in_smaller_chunks():
    small, atari, large = ((44, 44, 3), (4, 84, 84), (3, 1024, 1024))
    chunks = [TorchNetwork(Shared(), shape=shape).chunk for shape in ((4,), small, atari, large)]
    assert chunks == [256, 256, 128, 8]


def test_threads_are_one_for_small_networks_of_vectors_and_are_put_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        seen = []
        vectors, images = Shared(), ImageActorCritic("nature", (4, 84, 84), 6, 0)
        for module, shape in ((vectors, (4,)), (images, (4, 84, 84))):
            network = TorchNetwork(module, shape=shape)
            module.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
            y, tape = network.forward(np.ones((2, *shape), np.float32))
            tape.register_hook(lambda _: seen.append(torch.get_num_threads()))
            network.backward(tape, y)
            network.infer(np.ones((2, *shape), np.float32))
            seen.append(str(network))
        assert seen == [1, 1, 1, "torch, eager, 1 thread", 2, 2, 2, "torch, eager, 2 threads"]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bfloat16_that_would_be_emulated_is_spoken_of(monkeypatch):
    monkeypatch.setattr(torch_networks, "_flags", lambda: {"avx2", "avx512f"})
    with pytest.warns(RuntimeWarning, match="no bfloat16 instructions"):
        network = TorchNetwork(Shared(), bf16=True)
    assert str(network) == "torch, bfloat16, eager, 1 thread"
    monkeypatch.setattr(torch_networks, "_flags", lambda: {"avx512_bf16"})
    TorchNetwork(Shared(), bf16=True)


def test_compiling_that_fails_falls_back_to_eager_and_says_so(monkeypatch):
    def fails(*_):
        raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", lambda _: fails)
    module = Shared()
    network = TorchNetwork(module, compiled=True)
    assert str(network) == "torch, compiled, 1 thread"
    x = np.ones((2, 4), np.float32)
    with pytest.warns(RuntimeWarning, match="torch.compile failed, the network runs eagerly: .*no C"):
        y = network.infer(x)
    np.testing.assert_array_equal(y, TorchNetwork(module).infer(x))
    assert str(network) == "torch, eager, 1 thread"
    network.forward(x)  # says it once
    broken = TorchNetwork(Shared(), compiled=True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # the module's own error
        broken.infer(np.ones((2, 5), np.float32))


class Given(nn.Module):
    """Gives what a function makes of a linear layer's output."""

    def __init__(self, change):
        super().__init__()
        self.layer, self.change = nn.Linear(4, 3), change

    def forward(self, x):
        return self.change(self.layer(x))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("MlpPolicy", "policy: must be a torch module, got 'MlpPolicy'"),
        (Shared, "policy: must be a torch module, got <class"),
        (Given(lambda y: {"y": y}), "must give a tensor or a tuple of tensors, got dict"),
        (Given(lambda y: [y]), "must give a tensor or a tuple of tensors, got list"),
        (Given(lambda y: (y, None)), "must give a tensor or a tuple of tensors, got Tensor, NoneType"),
    ],
)
def test_what_is_no_module_or_gives_no_tensor(policy, message):
    with pytest.raises(TypeError, match=message):
        fastrl.PPO("CartPole-v1", policy=policy, **SMALL)


def test_outputs_that_no_action_can_be_drawn_from():
    for bad in (float("nan"), float("inf")):
        agent = fastrl.PPO("CartPole-v1", policy=Given(lambda y, bad=bad: y + bad), **SMALL)
        with pytest.raises(FloatingPointError, match="the policy's output is not finite in row 0"):
            agent.learn(64)
    masks = Given(lambda y: y + torch.tensor([0.0, -torch.inf, 0.0]))
    assert not fastrl.PPO("CartPole-v1", policy=masks, **SMALL).source.next().action.any()


def test_a_tensor_with_the_name_of_the_distributions_own_vector():
    """It was missing from checkpoints."""
    module = nn.Linear(3, 2)
    module.log_std = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match=r"policy: the module must have no tensor log_std: that is the name"):
        fastrl.PPO("Pendulum-v1", policy=module, **SMALL)
    wide = nn.Linear(3, 3)
    wide.log_std = nn.Parameter(torch.zeros(1))
    agent = fastrl.PPO("Pendulum-v1", policy=wide, state_dependent_std=True, **SMALL)
    assert agent.network.named_tensors()["log_std"].shape == (1,)


def test_a_module_that_the_user_compiled_keeps_its_names(tmp_path):
    torch.manual_seed(0)
    module = Shared()
    compiled = torch.compile(module, backend="eager")
    agent = fastrl.PPO("CartPole-v1", policy=compiled, **SMALL).learn(64)
    assert str(agent.network) == "torch, compiled, 1 thread"
    assert agent.network.named_tensors().keys() == module.state_dict().keys()
    loaded = fastrl.PPO.load(agent.save(tmp_path / "agent"), policy=Shared())
    np.testing.assert_array_equal(loaded.network.params, agent.network.params)


def test_only_learning_is_in_training_mode():
    """Predictions were drawn through Dropout, and changed BatchNorm's statistics."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    frozen = nn.BatchNorm1d(4).eval()
    agent = fastrl.PPO("CartPole-v1", policy=nn.Sequential(frozen, module), **SMALL)
    statistics = module[1].running_mean
    obs = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    value = agent.policy.value(obs)
    np.testing.assert_array_equal(agent.policy.value(obs), value)
    np.testing.assert_allclose(agent.policy.value(obs[:1]), value[:1], rtol=1e-5)  # whatever the batch
    batch = agent.source.next()
    evaluate(agent, 2)
    assert not statistics.any()
    agent.update(batch)
    assert statistics.any()
    assert not frozen.running_mean.any()  # given in evaluation mode, it stays so
    changed = statistics.clone()
    agent.predict(obs)
    np.testing.assert_array_equal(statistics, changed)
    forwards = [agent.network.forward(obs)[0] for _ in range(2)]
    assert not np.array_equal(*forwards)


def test_a_gradient_that_is_not_finite():
    agent = fastrl.PPO("CartPole-v1", engine="torch", **SMALL)
    before = agent.network.params.copy()
    agent.network.grad[3] = np.nan
    with pytest.raises(FloatingPointError, match="Adam: the gradient's norm is nan at step 1"):
        agent.optimizer.step(1e-3)
    np.testing.assert_array_equal(agent.network.params, before)
    assert not agent.network.grad.any()  # it is not in the next one, too
