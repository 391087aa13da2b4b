"""Toy text environments with all their arguments, good policies and frames against Gymnasium's; their errors."""

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList
from test_vector_env import assert_equal, pair

from fastrl import _core
from fastrl.envs import ScalarEnv, VectorEnv

ISAS = [name for name in ("baseline", "avx2", "avx512") if _core.isa_supported(name)]
IDS = (
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
    "Blackjack-v1",
)
WIDE = ["FFSFFFH", "HFFSFFF", "FFFFGFS"]
# environment, arguments, the best reward that ends an episode
CASES: list[tuple[str, dict[str, Any], float]] = [
    ("FrozenLake-v1", {}, 1),
    ("FrozenLake8x8-v1", {}, 1),
    ("FrozenLake-v1", {"is_slippery": False, "reward_schedule": (10, -2.5, -0.1)}, 10),
    ("FrozenLake-v1", {"map_name": "8x8", "success_rate": 0.8}, 1),
    ("FrozenLake-v1", {"desc": WIDE, "success_rate": 1.0}, 1),
    ("FrozenLake8x8-v1", {"desc": np.array(WIDE, "c"), "success_rate": 0.0}, 1),
    ("FrozenLake-v1", {"desc": generate_random_map(9, 0.7, 3), "map_name": None, "success_rate": 0.8}, 1),
    ("FrozenLake-v1", {"desc": ["SFHF"], "reward_schedule": (1, -3, 0)}, -3),
    ("Taxi-v4", {}, 20),
    ("Taxi-v4", {"is_rainy": True}, 20),
    ("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.37}, 20),
    ("Taxi-v4", {"fickle_passenger": True, "fickle_probability": 1.0}, 20),
    ("Taxi-v4", {"is_rainy": True, "fickle_passenger": True}, 20),
    ("CliffWalking-v1", {}, -1),
    ("CliffWalkingSlippery-v1", {}, -1),
    ("Blackjack-v1", {}, 1),
    ("Blackjack-v1", {"sab": False}, 1),
    ("Blackjack-v1", {"sab": False, "natural": True}, 1.5),
    ("Blackjack-v1", {"natural": True}, 1),
]
Case = tuple[str, dict[str, Any], float]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *case[1]]))
def case(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=list(AutoresetMode), ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> AutoresetMode:
    assert isinstance(request.param, AutoresetMode)
    return request.param


def good_policy(env: VectorEnv, gamma: float = 0.95) -> np.ndarray:
    """By value iteration on the environment's model: actions [S]. Of Blackjack: hits below 19."""
    if env.env_id == "Blackjack-v1":
        return np.arange(32) < 19
    fixed = {"fickle_passenger": False} if env.env_id == "Taxi-v4" else {}
    mdp = VectorEnv(env.env_id, **{**env.options, **fixed}).mdp()
    value = np.zeros(mdp.num_states)
    for _ in range(300):
        gain = mdp.probability * (mdp.reward + gamma * np.where(mdp.terminated, 0, value[mdp.next_state]))
        q = np.add.reduceat(gain, mdp.offset[:-1]).reshape(mdp.num_states, -1)
        value = q.max(1)
    return q.argmax(1)


def test_equals_gymnasium(case: Case, mode: AutoresetMode) -> None:
    """A good policy with every tenth action at random, so that episodes end in every way there is."""
    env_id, kwargs, best = case
    ours, theirs = pair(env_id, mode, 13, **kwargs)
    policy = good_policy(ours)
    assert_equal(ours.reset(seed=5), theirs.reset(seed=5))
    random = np.random.default_rng(0)
    obs, infos = ours.reset(seed=6)
    assert_equal((obs, infos), theirs.reset(seed=6))
    rewards, done = [], np.zeros(13, bool)
    for _ in range(500):
        if mode is AutoresetMode.DISABLED and done.any():
            obs, _ = result = ours.reset(options={"reset_mask": done})
            assert_equal(result, theirs.reset(options={"reset_mask": done}))
        action = np.asarray(policy[obs[0] if isinstance(obs, tuple) else obs], np.int64)
        action = np.where(
            random.random(13) < 0.1, random.integers(ours.single_action_space.n, size=13), action
        )
        result = ours.step(action)
        assert_equal(result, theirs.step(action))
        obs, reward, terminated, truncated, _ = result
        done = terminated | truncated
        rewards.append(reward[terminated])
    for a, b in zip(ours.np_random, theirs.np_random, strict=True):
        assert a.bit_generator.state == b.bit_generator.state
    assert np.concatenate(rewards).max() == best


def test_long_run_without_checks(case: Case) -> None:
    """Invalid actions are safe, and do not disturb what follows."""
    env_id, kwargs, _ = case
    env, twin = (VectorEnv(env_id, 5, validate=v, **kwargs) for v in (False, True))
    env.reset(seed=0), twin.reset(seed=0)
    for action in (-1, 7, 2**62, -(2**63)):
        for _ in range(50):
            env.step(np.full(5, action))
    assert_equal(env.reset(seed=1), twin.reset(seed=1))
    assert_equal(env.step(np.zeros(5, np.int64)), twin.step(np.zeros(5, np.int64)))


@pytest.mark.parametrize("env_id", IDS)
def test_instruction_sets_and_modes_agree(env_id: str) -> None:
    results = []
    before = _core.isa()
    for isa in ISAS:
        _core.set_isa(isa)
        for arithmetic in ("exact", "fast"):
            env = VectorEnv(env_id, 133, autoreset_mode="SameStep", max_episode_steps=40, mode=arithmetic)
            env.action_space.seed(0)
            out = [env.reset(seed=3), *(env.step(env.action_space.sample()) for _ in range(200))]
            results.append(pickle.dumps(out))
    _core.set_isa(before)
    assert len(set(results)) == 1


class TestErrors:
    @pytest.mark.parametrize(
        ("env_id", "kwargs", "match"),
        [
            (
                "FrozenLake-v1",
                {"desc": ["SF", "F"]},
                "desc must be rows of two or more .*, got \\['SF', 'F'\\]",
            ),
            ("FrozenLake-v1", {"desc": [["S", "F"], ["G"]]}, "desc must be rows of two or more"),
            ("FrozenLake-v1", {"desc": ["SFX", "FFG"]}, "letters S, F, H, G"),
            ("FrozenLake-v1", {"desc": ["FFF", "FFG"]}, "with an S, got"),
            ("FrozenLake-v1", {"desc": "SFFG"}, "rows"),
            ("FrozenLake-v1", {"desc": ["S", "G"]}, "rows of two or more"),
            ("FrozenLake-v1", {"desc": []}, "rows"),
            ("FrozenLake-v1", {"desc": 3}, "rows"),
            ("FrozenLake-v1", {"desc": ["SÄG"]}, "rows"),
            ("FrozenLake-v1", {"map_name": "5x5"}, "map_name must be one of 4x4, 8x8 or None, got '5x5'"),
            ("FrozenLake-v1", {"success_rate": 1.5}, r"success_rate must be in \[0, 1\], got 1.5"),
            ("FrozenLake-v1", {"success_rate": None}, r"success_rate must be in \[0, 1\], got None"),
            ("FrozenLake-v1", {"reward_schedule": (1, 0)}, "three finite numbers, .* got \\(1, 0\\)"),
            ("FrozenLake-v1", {"reward_schedule": (1, 0, float("nan"))}, "three finite numbers"),
            ("FrozenLake-v1", {"reward_schedule": 1}, "three finite numbers"),
            ("Taxi-v4", {"rainy_probability": -0.1}, r"rainy_probability must be in \[0, 1\], got -0.1"),
            ("Taxi-v4", {"fickle_probability": "x"}, r"fickle_probability must be in \[0, 1\], got 'x'"),
            ("Blackjack-v1", {"render_mode": "ansi"}, "render_mode must be None or 'rgb_array', got 'ansi'"),
            ("Taxi-v4", {"render_mode": "human"}, "render_mode must be None or 'ansi' or 'rgb_array'"),
        ],
    )
    def test_arguments(self, env_id: str, kwargs: dict[str, Any], match: str) -> None:
        with pytest.raises(ValueError, match=f"{env_id}: .*{match}"):
            VectorEnv(env_id, **kwargs)

    def test_unknown_argument(self) -> None:
        with pytest.raises(TypeError, match="no argument 'slippery'; it has desc, map_name, is_slippery"):
            VectorEnv("FrozenLake-v1", slippery=True)

    @pytest.mark.parametrize("env_id", IDS)
    def test_action(self, env_id: str) -> None:
        env = VectorEnv(env_id, 3)
        env.reset(seed=0)
        before, n = env.get_state(), env.single_action_space.n
        with pytest.raises(ValueError, match=rf"{env_id} step: env 1, .* in \[0, {n}\), got {n}"):
            env.step(np.array([0, n, 0]))
        assert env.get_state().tobytes() == before.tobytes()

    def test_state_of_another_map(self) -> None:
        """Its states may not exist here."""
        small, large = VectorEnv("FrozenLake-v1", 2), VectorEnv("FrozenLake8x8-v1", 2)
        small.reset(seed=0), large.reset(seed=0)
        with pytest.raises(ValueError, match="no state"):
            small.set_state(large.get_state())

    @pytest.mark.parametrize(
        ("env_id", "bad"), [("FrozenLake-v1", 16), ("Taxi-v4", -1), ("Blackjack-v1", 99)]
    )
    def test_impossible_state(self, env_id: str, bad: int) -> None:
        env = VectorEnv(env_id, 2)
        env.reset(seed=0)
        good = env.get_state()
        env.core.state[0, 1] = bad
        broken = env.get_state()
        env.set_state(good)
        with pytest.raises(ValueError, match="no state"):
            env.set_state(broken)
        assert env.get_state().tobytes() == good.tobytes()


def test_random_map_is_kept() -> None:
    """``map_name=None`` draws a map, which copies share."""
    env = gymnasium.make_vec("fastrl/FrozenLake-v1", num_envs=2, map_name=None)
    assert len(env.options["desc"]) == 8
    env.reset(seed=0)
    copy = pickle.loads(pickle.dumps(env))
    assert copy.options == env.options
    for action in np.random.default_rng(0).integers(4, size=(50, 2)):
        assert_equal(env.step(action), copy.step(action))
    assert len({VectorEnv("FrozenLake-v1", map_name=None).options["desc"] for _ in range(3)}) > 1


def test_scalar_stream_is_gymnasiums() -> None:
    """Who draws from ``np_random`` changes what follows, as with Gymnasium's; pickling keeps the stream."""
    ours, theirs = (gymnasium.make(i, is_rainy=True) for i in ("fastrl/Taxi-v4", "Taxi-v4"))
    ours.reset(seed=0), theirs.reset(seed=0)
    for step in range(60):
        if step % 7 == 0:
            assert ours.np_random.integers(5) == theirs.np_random.integers(5)
        if step == 30:
            ours = pickle.loads(pickle.dumps(ours.unwrapped))
        if step % 20 == 19:
            assert_equal(ours.reset(), theirs.reset())
        a, b = ours.step(step % 4), theirs.step(step % 4)
        assert_equal(a[0], b[0]), assert_equal(a[4], b[4])
    ours.np_random = theirs.unwrapped.np_random = np.random.default_rng(8)
    twin = ScalarEnv("Taxi-v4", is_rainy=True)
    twin.np_random = np.random.default_rng(8)
    assert_equal(ours.reset(), twin.reset())


def test_wrappers_read_the_infos() -> None:
    ours, theirs = (DictInfoToList(env) for env in pair("Taxi-v4", AutoresetMode.NEXT_STEP, 3))
    assert_equal(tuple(ours.reset(seed=0)[1]), tuple(theirs.reset(seed=0)[1]))
    assert_equal(tuple(ours.step(np.zeros(3, int))[4]), tuple(theirs.step(np.zeros(3, int))[4]))


@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi"])
@pytest.mark.parametrize("autoreset", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [("FrozenLake-v1", {"desc": WIDE}), ("Taxi-v4", {}), ("CliffWalking-v1", {}), ("Blackjack-v1", {})],
)
def test_render(
    env_id: str,
    kwargs: dict[str, Any],
    autoreset: AutoresetMode,
    render_mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if render_mode == "ansi" and env_id == "Blackjack-v1":
        pytest.skip("Blackjack has no text")
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    ours, theirs = pair(env_id, autoreset, 2, render_mode=render_mode, max_episode_steps=5, **kwargs)
    assert {*ours.metadata["render_modes"], "human"} == {*theirs.metadata["render_modes"]}
    alone = gymnasium.make(f"fastrl/{env_id}", render_mode=render_mode, max_episode_steps=5, **kwargs)
    ours.reset(seed=0), theirs.reset(seed=0), alone.reset(seed=0)
    ours.action_space.seed(1)
    seen, over = set(), False
    for step in range(24):
        if step % 3 != 1:
            frames = ours.render()
            assert_equal(tuple(map(np.asarray, frames)), tuple(map(np.asarray, theirs.render())))
            seen.add(np.asarray(frames[0]).tobytes())
            if not over:
                assert np.array_equal(alone.render(), frames[0])
        if step == 13:
            ours.reset(options={"reset_mask": np.array([False, True])})
            theirs.reset(options={"reset_mask": np.array([False, True])})
        action = ours.action_space.sample()
        ours.step(action), theirs.step(action)
        if not over:
            over = any(alone.step(action[0])[2:4])
    assert len(seen) >= 3
    for env in (ours, theirs, alone):
        env.close()
