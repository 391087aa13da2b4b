"""SB3's VecEnv over compiled environments, against SB3's own over Gymnasium's, and under SB3's own users of it."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common import env_util  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import (  # noqa: E402
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from fastrl.envs import COMPILED, VectorEnv, WorkerVectorEnv  # noqa: E402
from fastrl.integrations.sb3 import VecEnvAdapter, make_vec_env  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")
N = 5
LIMIT = 25


def pair(env_id, seed=3):
    """Ours and SB3's, with short episodes."""
    ours = make_vec_env(env_id, N, seed, max_episode_steps=LIMIT)
    theirs = env_util.make_vec_env(env_id, N, seed, env_kwargs={"max_episode_steps": LIMIT})
    return ours, theirs


def assert_same_infos(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            if key == "episode":
                assert a[key].pop("t") >= 0
                assert b[key].pop("t") >= 0
                assert a[key] == b[key]
                assert (type(a[key]["r"]), type(a[key]["l"])) == (float, int)
            elif key == "TimeLimit.truncated":
                assert a[key] is bool(b[key])
            else:
                np.testing.assert_array_equal(a[key], b[key])


def assert_same_step(ours, theirs, actions):
    a, b = ours.step(actions), theirs.step(actions)
    for x, y in zip(a[:3], b[:3], strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype  # of a Tuple space, arrays of one dtype
        np.testing.assert_array_equal(x, y)
    assert_same_infos(a[3], b[3])
    assert list(map(len, ours.reset_infos)) == list(map(len, theirs.reset_infos))
    return a


@pytest.mark.parametrize("env_id", COMPILED)
def test_trajectories_equal_those_of_dummy_vec_env(env_id):
    ours, theirs = pair(env_id)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ends = 0
    for _ in range(200):
        actions = np.stack([ours.action_space.sample() for _ in range(N)])
        np.testing.assert_array_equal(actions, [theirs.action_space.sample() for _ in range(N)])
        ends += int(assert_same_step(ours, theirs, actions)[2].sum())
    assert ends > 20
    for seed in (8, None):  # a reset amid episodes; without a seed the generators go on
        if seed is not None:
            assert ours.seed(seed) == theirs.seed(seed)
        np.testing.assert_array_equal(ours.reset(), theirs.reset())
        for _ in range(40):
            assert_same_step(ours, theirs, np.stack([ours.action_space.sample() for _ in range(N)]))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: VecNormalize(env, clip_obs=3.0),
        VecCheckNan,
        partial(VecFrameStack, n_stack=3),
        lambda env: VecNormalize(VecFrameStack(env, 2)),
    ],
)
def test_wrappers_give_the_same(wrap):
    ours, theirs = map(wrap, pair("CartPole-v1"))
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    random = np.random.default_rng(0)
    for _ in range(120):
        assert_same_step(ours, theirs, random.integers(0, 2, N))


def test_monitor_wrapper(tmp_path):
    envs = VectorEnv("CartPole-v1", N, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        monitored = VecMonitor(VecEnvAdapter(envs), str(tmp_path / "log"))
    monitored.reset()
    infos = [monitored.step(np.ones(N, np.int64))[3] for _ in range(30)]
    ended = [info["episode"] for row in infos for info in row if "episode" in info]
    assert len(ended) >= N
    monitored.close()
    assert len((tmp_path / "log.monitor.csv").read_text().splitlines()) == 2 + len(ended)


def test_evaluate_policy():
    model = sb3.PPO("MlpPolicy", make_vec_env("CartPole-v1", 2, 0), n_steps=8, batch_size=16, device="cpu")
    results = [
        evaluate_policy(model, make("CartPole-v1", 3, 7), n_eval_episodes=9, return_episode_rewards=True)
        for make in (make_vec_env, env_util.make_vec_env)
    ]
    assert results[0] == results[1]


def train(algorithm, env, **kwargs):
    model = algorithm("MlpPolicy", env, seed=1, device="cpu", policy_kwargs={"net_arch": [16]}, **kwargs)
    model.learn(400)
    params = {name: x.numpy() for name, x in model.policy.state_dict().items()}
    return params, [(e["r"], e["l"]) for e in model.ep_info_buffer]


@pytest.mark.parametrize(
    ("algorithm", "env_id", "kwargs"),
    [
        (sb3.PPO, "CartPole-v1", {"n_steps": 32, "batch_size": 32}),
        (sb3.A2C, "CartPole-v1", {}),
        (sb3.DQN, "CartPole-v1", {"learning_starts": 50}),
        (sb3.SAC, "Pendulum-v1", {"learning_starts": 50, "train_freq": 20, "gradient_steps": 2}),
    ],
)
def test_training_is_the_same(algorithm, env_id, kwargs):
    """Bit for bit: the same seed learns the same parameters on our environments as on SB3's."""
    (params, episodes), (expected, theirs) = (train(algorithm, env, **kwargs) for env in pair(env_id))
    assert episodes == theirs
    assert len(episodes) > 3
    for name in expected:
        np.testing.assert_array_equal(params[name], expected[name])


def test_attributes_and_methods():
    envs = make_vec_env("CartPole-v1", 3, 4)
    envs.reset()
    assert envs.get_attr("np_random_seed") == [4, 5, 6]
    assert [state.shape for state in envs.get_attr("state", [2, 0])] == [(4,), (4,)]
    assert envs.get_attr("action_space", 1) == [envs.action_space]
    assert envs.get_attr("render_mode") == [None] * 3
    envs.set_attr("curriculum", 2, indices=[1])
    assert envs.get_attr("curriculum", 1) == [2]
    assert not envs.has_attr("curriculum")  # of all
    with pytest.raises(AttributeError, match="no attribute 'gravity'"):
        envs.get_attr("gravity")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        envs.env_method("nonsense")
    assert envs.env_method("render", indices=[]) == []
    assert envs.env_is_wrapped(Monitor) == [True] * 3
    assert envs.env_is_wrapped(gymnasium.wrappers.TimeLimit, indices=[0]) == [False]
    envs.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        envs.step(np.zeros(3, np.int64))


def test_options():
    envs = make_vec_env("CartPole-v1", 64, 0)
    envs.set_options({"low": -0.2, "high": 0.2})
    assert abs(envs.reset()).max() > 0.15
    assert abs(envs.reset()).max() <= 0.05  # they are of one reset
    envs.set_options([{}] * 63 + [{"low": 0.0}])
    with pytest.raises(ValueError, match="options must be the same for all environments"):
        envs.reset()


def test_infos_are_the_callers():
    envs = make_vec_env("CartPole-v1", 3, 0)
    envs.reset()
    before = envs.step(np.zeros(3, np.int64))
    kept = before[0].copy()
    for info in before[3]:
        info["mine"] = 1
    assert all("mine" not in info for info in envs.step(np.zeros(3, np.int64))[3])
    np.testing.assert_array_equal(before[0], kept)


def test_render(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    envs = make_vec_env("CartPole-v1", 4, 0, render_mode="rgb_array")
    envs.reset()
    frame = envs.get_images()[0]
    assert envs.render().shape == (2 * frame.shape[0], 2 * frame.shape[1], 3)
    np.testing.assert_array_equal(envs.env_method("render", indices=[0])[0], frame)
    envs.close()


@pytest.mark.parametrize("kind", [SyncVectorEnv, WorkerVectorEnv])
def test_other_vector_environments(kind):
    """Infos go to the step or to the next episode's reset, as DummyVecEnv has them."""
    make = partial(gymnasium.make, "Taxi-v4", max_episode_steps=LIMIT)
    ours = VecEnvAdapter(kind([make] * N, autoreset_mode=AutoresetMode.SAME_STEP))
    theirs = env_util.make_vec_env(make, N)
    ours.seed(2), theirs.seed(2)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for actions in np.random.default_rng(0).integers(0, 6, (100, N)):
        assert_same_step(ours, theirs, actions)
    assert ours.get_attr("spec")[0].id == "Taxi-v4"
    ours.close()


def test_wrong_arguments():
    with pytest.raises(
        ValueError, match=r"envs must be in AutoresetMode.SAME_STEP, got AutoresetMode.NEXT_STEP"
    ):
        VecEnvAdapter(VectorEnv("CartPole-v1", 2))
    with pytest.raises(ValueError, match="Nonsense"):
        make_vec_env("Nonsense-v0", 2)
    with pytest.raises((ValueError, TypeError), match="gravitation"):
        make_vec_env("CartPole-v1", 2, env_kwargs={"gravitation": 1.0})
