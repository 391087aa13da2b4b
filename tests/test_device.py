"""PPO on a device: the whole path, here on CPU tensors with Triton's interpreter, beside the torch executor.

CUDA graphs and the device itself need a GPU: what is marked ``cuda`` runs where there is one.
"""

import numpy as np
import pytest

import fastrl

torch = pytest.importorskip("torch")

SMALL = {"num_envs": 4, "num_steps": 8, "minibatch_size": 12, "hidden": (16,), "update_epochs": 2, "seed": 3}

INTERPRETED = """
import gymnasium
import numpy as np
import torch

import fastrl
from fastrl import torch_device
from fastrl.envs import VectorEnv

torch_device.cuda_device = lambda name: torch.device("cpu")  # "cpu:0" takes the path of devices
SMALL = {"num_envs": 4, "num_steps": 8, "minibatch_size": 12, "hidden": (16,), "update_epochs": 2, "seed": 3}

class Switches(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.random(3, np.float32), {}

    def step(self, action):
        self.t += 1
        return self.np_random.random(3, np.float32), float(action.sum()), False, self.t == 5, {}

CASES = [
    ("CartPole-v1", {"clip_value": 0.2, "target_kl": 0.5}),
    ("Pendulum-v1", {"normalize_obs": True, "normalize_reward": True}),
    ("Pendulum-v1", {"state_dependent_std": True, "kl_coef": 0.1}),
    (Switches, {}),
    (lambda: VectorEnv("CartPole-v1", 4, autoreset_mode="NextStep"), {}),
]
for env, options in CASES:
    agents, metrics = {}, {}
    for device in ("cpu:0", "cpu"):
        made = env() if getattr(env, "__name__", "") == "<lambda>" else env
        agent = fastrl.PPO(made, engine="torch", device=device, **SMALL, **options)
        kind = type(agent.optimizer).__name__
        assert kind == ("DeviceAdam" if device == "cpu:0" else "Adam"), kind
        rows = []
        agent.learn(96, callback=lambda _, m: rows.append(m))
        agents[device], metrics[device] = agent, rows
    for ours, theirs in zip(metrics["cpu:0"], metrics["cpu"], strict=True):
        for name in ours:
            if name.startswith(("train/", "rollout/")):
                np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-3, atol=2e-4, err_msg=name)
    tensors = [agent.policy.network.named_tensors() for agent in agents.values()]
    assert tensors[0].keys() == tensors[1].keys()
    for name in tensors[0]:
        np.testing.assert_allclose(tensors[0][name], tensors[1][name], rtol=2e-3, atol=2e-4, err_msg=name)

# a checkpoint goes from one to the other, and a run goes on from it
agent = agents["cpu:0"]
before = agent.policy.network.named_tensors()
state = agent.checkpoint_state()
other = fastrl.PPO(CASES[-1][0](), engine="torch", **SMALL)
other.load_checkpoint_state(state)
for name, x in other.policy.network.named_tensors().items():
    np.testing.assert_array_equal(x, before[name])
agent.load_checkpoint_state(other.checkpoint_state())
for name, x in agent.policy.network.named_tensors().items():
    np.testing.assert_array_equal(x, before[name])
assert agent.optimizer.state()["t"] == other.optimizer.t > 0

# what is not finite ends the run
import warnings
warnings.simplefilter("ignore", RuntimeWarning)  # of the interpreter
agent.policy.network.params[0] = float("nan")
try:
    agent.learn(32)
    raise AssertionError
except FloatingPointError as error:
    assert "not finite" in str(error) or "nan" in str(error), error
"""


def test_an_update_on_a_device_is_that_of_the_cpu(triton_interpreted) -> None:
    triton_interpreted(INTERPRETED)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device must be cpu, cuda or cuda:N, got 'gpu'"),
        ("mps", "device must be cpu, cuda or cuda:N, got 'mps'"),
        ("cuda:7", r"device='cuda:7': torch .* finds \d CUDA devices here"),
    ],
)
def test_a_device_that_is_not_here(device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastrl.PPO("CartPole-v1", device=device, **SMALL)


def test_what_runs_on_no_device() -> None:
    with pytest.raises(ValueError, match="engine='native' cannot run device='cuda'; engine='torch' does"):
        fastrl.PPO("CartPole-v1", device="cuda", engine="native", **SMALL)
    with pytest.raises(
        ValueError, match="device='cuda' cannot run a network with a memory; device='cpu' does"
    ):
        fastrl.PPO("CartPole-v1", device="cuda", recurrent="lstm", **SMALL)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_captured_updates_are_those_of_the_cpu(env: str) -> None:
    agents = [fastrl.PPO(env, engine="torch", device=d, **SMALL).learn(320) for d in ("cuda", "cpu")]
    ours, theirs = (agent.policy.network.named_tensors() for agent in agents)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-2, atol=2e-3, err_msg=name)
