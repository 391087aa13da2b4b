"""WorkerVectorEnv equals SyncVectorEnv over the same environments, bit for bit, in every autoreset mode."""

import sys
from functools import partial

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import fastrl
from fastrl.envs import WorkerError, WorkerVectorEnv, check_vector_env, make_training_env

# sent by value, as functions of a script or notebook are: workers cannot import a test module
cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")


class Nested(gymnasium.Env):
    """Nested spaces, actions it keeps, and infos of every kind, of which each env gives others."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (3, 2), np.uint8),
            "pair": spaces.Tuple([spaces.Discrete(5), spaces.MultiBinary(3)]),
            "reward_so_far": spaces.Box(-np.inf, np.inf, (), np.float64),
        }
    )
    action_space = spaces.Dict(
        {"move": spaces.Box(-1, 1, (2,), np.float32), "choices": spaces.MultiDiscrete([3, 2])}
    )

    def _observe(self):
        return {
            "image": self.np_random.integers(0, 256, (3, 2), np.uint8),
            "pair": (self.np_random.integers(5), self.np_random.integers(0, 2, 3).astype(np.int8)),
            "reward_so_far": self.total,
        }

    def _info(self):
        infos = [
            {},
            {"count": self.t, "half": 0.5, "flag": True},
            {"text": f"at {self.t}", "array": self.np_random.random(2), "none": None},
            {"deep": {"count": np.float32(self.t), "deeper": {"list": [1, self.t]}}},
            {"count": 1.5, "flag": "yes"} if self.t % 2 else {"half": 3, "text": "other"},
        ]
        return infos[self.np_random.integers(len(infos))]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = self.total = 0.0
        return self._observe(), self._info()

    def step(self, action):
        self.t += 1
        if self.t > 1:  # the action of the step before is still what it was
            self.total += float(self.last["move"].sum()) + int(self.last["choices"][0])
        self.last = action
        terminated = bool(self.np_random.random() < 0.2)
        return self._observe(), self.total, terminated, self.t >= 7, self._info()


def sync(make, mode, num_envs=5):
    """SyncVectorEnv, but for what check_vector_env finds wrong with it: see test_check_vector_env."""

    class Sync(SyncVectorEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed, options=None if options is None else dict(options))

    return Sync([make] * num_envs, autoreset_mode=mode)


MAKERS = {
    "CartPole": partial(gymnasium.make, "CartPole-v1", max_episode_steps=20),
    "MountainCarContinuous": partial(gymnasium.make, "MountainCarContinuous-v0", max_episode_steps=9),
    "FrozenLake": partial(gymnasium.make, "FrozenLake-v1"),
    "Taxi": partial(gymnasium.make, "Taxi-v4", max_episode_steps=30),
    "Blackjack": partial(gymnasium.make, "Blackjack-v1"),
    "nested": Nested,
}


@pytest.mark.parametrize("name", MAKERS)
def test_equals_sync(name):
    make = MAKERS[name]
    check_vector_env(
        lambda mode: WorkerVectorEnv([make] * 5, 2, autoreset_mode=mode), partial(sync, make), steps=150
    )


def test_actions_of_other_types_reach_the_environments_as_they_are():
    make = partial(gymnasium.make, "MountainCarContinuous-v0")
    envs, right = WorkerVectorEnv([make] * 3, 2), sync(make, AutoresetMode.NEXT_STEP, 3)
    envs.reset(seed=0), right.reset(seed=0)
    for actions in (np.full((3, 1), 1 / 3), [np.array([0.1])] * 3, np.ones((3, 1), np.float16)):
        for _ in range(5):
            for a, b in zip(envs.step(actions)[:4], right.step(actions)[:4], strict=True):
                np.testing.assert_array_equal(a, b)
    envs.close()


def test_attributes_and_calls():
    make = partial(gymnasium.make, "CartPole-v1", render_mode="rgb_array")
    with_workers = WorkerVectorEnv([make] * 3, 2)
    with_workers.reset(seed=5)
    assert with_workers.np_random_seed == (5, 6, 7)
    assert with_workers.get_attr("gravity") == (9.8, 9.8, 9.8)
    with_workers.set_attr("gravity", [1.0, 2.0, 3.0])
    assert with_workers.get_attr("gravity") == (1.0, 2.0, 3.0)
    with_workers.set_attr("gravity", 4)
    assert with_workers.get_attr("gravity") == (4, 4, 4)
    assert with_workers.call("has_wrapper_attr", "gravity") == (True, True, True)
    assert with_workers.np_random[1].bit_generator.state["bit_generator"] == "PCG64"
    with pytest.raises(ValueError, match="set_attr: values must be 3, one an env, got 2"):
        with_workers.set_attr("gravity", [1, 2])
    with pytest.raises(AttributeError, match="nonsense") as raised:
        with_workers.get_attr("nonsense")
    assert "env 0, in worker 0" in raised.value.__notes__[0]
    with_workers.step(np.zeros(3, np.int64))  # still usable
    with_workers.close()


def test_uncopied_observations():
    envs = WorkerVectorEnv([partial(gymnasium.make, "CartPole-v1")] * 3, 2, copy=False)
    obs, _ = envs.reset(seed=0)
    after = envs.step(np.zeros(3, np.int64))
    assert after[0] is obs
    assert envs.step(np.zeros(3, np.int64))[1] is not after[1]
    envs.close()
    assert np.isfinite(obs).all()  # the memory lives as long as its arrays


def test_more_workers_than_environments_and_uneven_parts():
    for num_envs, num_workers, expected in ((2, 5, 2), (7, 3, 3), (1, None, 1)):
        envs = WorkerVectorEnv([partial(gymnasium.make, "CartPole-v1")] * num_envs, num_workers)
        assert len(envs.pids) == expected
        assert envs.reset(seed=0)[0].shape == (num_envs, 4)
        envs.close()


def test_step_async_overlaps():
    envs = WorkerVectorEnv([partial(gymnasium.make, "CartPole-v1")] * 2, 1)
    envs.reset(seed=0)
    envs.step_async(np.zeros(2, np.int64))
    with pytest.raises(RuntimeError, match="call step_wait first"):
        envs.step_async(np.zeros(2, np.int64))
    with pytest.raises(RuntimeError, match="call step_wait first"):
        envs.get_attr("gravity")
    assert envs.step_wait()[1].tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="call step_async first"):
        envs.step_wait()
    envs.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_ppo_trains_on_workers_as_on_sync(mode):
    def train(kind, **options):
        envs = kind([MAKERS["CartPole"]] * 4, autoreset_mode=mode, **options)
        agent = fastrl.PPO(envs, seed=0, num_steps=8, minibatch_size=8, hidden=(16,))
        params = agent.learn(160).policy.network.params
        envs.close()
        return params

    np.testing.assert_array_equal(train(SyncVectorEnv), train(WorkerVectorEnv, num_workers=2))


def test_ppo_makes_workers():
    kwargs = {"seed": 0, "num_envs": 4, "num_steps": 8, "minibatch_size": 8, "hidden": (16,)}
    make = MAKERS["CartPole"]
    agent, right = fastrl.PPO(make, num_workers=2, **kwargs), fastrl.PPO(make, **kwargs)
    assert agent.env_id == right.env_id == "CartPole-v1"
    assert len(agent.env.unwrapped.pids) == 2
    np.testing.assert_array_equal(*(a.learn(160).policy.network.params for a in (agent, right)))
    agent.env.close()
    with pytest.raises(ValueError, match="num_workers: must be 0 for CartPole-v1"):
        fastrl.PPO("CartPole-v1", num_workers=2, **kwargs)
    with pytest.raises(ValueError, match="num_workers must be >= 0, got -1"):
        fastrl.PPO("CartPole-v1", num_workers=-1, **kwargs)


def test_workers_by_id(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Nested-v0", entry_point=Nested)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    env_id, envs = make_training_env("Nested-v0", 3, num_workers=2)
    assert env_id == "Nested-v0"
    assert isinstance(envs, WorkerVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    envs.close()
    with pytest.raises(WorkerError, match="NoSuchEnv"):
        make_training_env("NoSuchEnv-v3", 2, num_workers=1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"env_fns": []}, "env_fns must have at least one item"),
        ({"num_workers": 0}, "num_workers must be >= 1, got 0"),
        ({"timeout": 0}, "timeout must be > 0 or None, got 0"),
        ({"autoreset_mode": "Never"}, "Never"),
    ],
)
def test_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WorkerVectorEnv(**{"env_fns": [Nested]} | kwargs)
