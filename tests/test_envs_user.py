"""Environments that users write: compiled ones step as the same functions in Python do, and fail as loudly."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode

import fastrl
from fastrl.envs import UserEnv, UserVectorEnv, VectorEnv, compiled
from fastrl.envs.examples import DYNA_MAZE, Catch, deep_sea, grid_world, maze
from fastrl.kernels.envs.random import Random, philox


class Particle(NamedTuple):
    position: float
    trail: Any  # float64 [3]
    visits: Any  # int64 [2, 2]
    outside: bool


@compiled(
    observation_space=Box(-np.inf, np.inf, (6,), np.float32),
    action_space=Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32)),
    max_episode_steps=11,
)
class Drift:
    """Every kind of part in a state, continuous actions, draws in every function."""

    def reset(rng):
        return Particle(rng.random(), np.zeros(3), np.zeros((2, 2), np.int64), False)

    def step(state, action, rng):
        position = state.position + 0.1 * action[0] + 0.05 * action[1] * (rng.random() - 0.5)
        trail = state.trail.copy()
        trail[rng.integers(3)] = position
        visits = state.visits
        visits[rng.integers(2), 0] += 1
        outside = abs(position) > 1
        return Particle(position, trail, visits, outside), position - 0.5, outside

    def observe(state):
        return state.position, state.trail, state.visits[0, 0], state.outside


EXAMPLES = {
    "Drift": Drift,
    "Catch": Catch,
    "DeepSea": deep_sea(6),
    "GridWorld": grid_world(5),
    "Maze": maze(("S#.", "..G")),
}


@pytest.fixture(params=list(EXAMPLES))
def env(request: pytest.FixtureRequest) -> UserEnv:
    return EXAMPLES[request.param]


def draw(envs: Any, steps: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    space = envs.single_action_space
    if isinstance(space, Discrete):
        return list(random.integers(0, space.n, (steps, envs.num_envs)))
    shape = (steps, envs.num_envs, *space.shape)
    return list(random.uniform(space.low - 1, space.high + 1, shape).astype(np.float32))


class Python:
    """One environment by its definition, SAME_STEP: what the compiled one is compared with."""

    def __init__(self, env: UserEnv, seed: int) -> None:
        self.env, self.space = env, env.action_space
        self.seeds = np.random.Generator(np.random.PCG64(seed))
        self.limit = env.max_episode_steps or 2**62

    def reset(self) -> np.ndarray:
        self.rng = Random(int(self.seeds.integers(2**64, dtype=np.uint64)))
        self.state, self.steps = self.env.reset(self.rng), 0
        return self.observation()

    def observation(self) -> np.ndarray:
        value = self.state if self.env.observe is None else self.env.observe(self.state)
        parts = value if isinstance(value, tuple) else (value,)
        obs = np.concatenate([np.ravel(part) for part in parts])
        return obs[0] if isinstance(self.env.observation_space, Discrete) else obs.astype(np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        if isinstance(self.space, Box):
            action = np.clip(action, self.space.low, self.space.high).astype(np.float64)
        self.state, reward, terminated = self.env.step(self.state, action, self.rng)
        self.steps += 1
        truncated = self.steps >= self.limit
        if terminated or truncated:
            self.final = self.observation()
            self.reset()
        return self.observation(), reward, terminated, truncated


class TestRandom:
    def test_philox_known_answer(self) -> None:
        """Of the authors' implementation, for zeros and for ones."""
        assert philox(0, 0, 0) == (0x6627E8D5, 0xE169C58D)
        ones = 2**64 - 1
        assert philox(ones, ones, ones >> 32, index=ones >> 32) == (0x408F276D, 0x41C83B0E)

    def test_integers_are_uniform(self) -> None:
        rng = Random(5)
        counts = np.bincount([rng.integers(7) for _ in range(7000)], minlength=7)
        assert ((counts - 1000) ** 2 / 1000).sum() < 22.5  # chi-square, 6 degrees of freedom: 0.1 %

    @pytest.mark.parametrize("n", [0, -1, 2**32 + 1])
    def test_integers_refuses(self, n: int) -> None:
        with pytest.raises(ValueError, match="n must be in"):
            Random(0).integers(n)


class TestSteps:
    def test_compiled_equals_python(self, env: UserEnv) -> None:
        """300 steps of 5 envs, every observation, reward and flag; final observations as well."""
        envs = env(5, autoreset_mode=AutoresetMode.SAME_STEP)
        obs, infos = envs.reset(seed=3)
        ours = [Python(env, 3 + i) for i in range(5)]
        np.testing.assert_array_equal(obs, [one.reset() for one in ours])
        assert infos == {}
        ends = 0
        for actions in draw(envs, 300):
            obs, reward, terminated, truncated, infos = envs.step(actions)
            expected = [one.step(action) for one, action in zip(ours, actions, strict=True)]
            for got, want in zip(
                (obs, reward, terminated, truncated), zip(*expected, strict=True), strict=True
            ):
                np.testing.assert_array_equal(got, want)
            for i in np.flatnonzero(terminated | truncated):
                np.testing.assert_array_equal(infos["final_obs"][i], ours[i].final)
                ends += 1
        assert ends > 20
        assert obs.dtype == env.observation_space.dtype
        assert reward.dtype == np.float64

    @pytest.mark.parametrize("mode", list(AutoresetMode))
    def test_modes_agree(self, env: UserEnv, mode: AutoresetMode) -> None:
        """The same episodes in each mode: returns of an env in the order of its episodes."""

        def episodes(mode: AutoresetMode) -> list[list[float]]:
            envs = env(4, autoreset_mode=mode, max_episode_steps=6)
            envs.reset(seed=0)
            constant = draw(envs, 1)[0]
            returns: list[list[float]] = [[] for _ in range(4)]
            for _ in range(60):
                _, _, terminated, truncated, _ = envs.step(constant)
                done = terminated | truncated
                for i in np.flatnonzero(done):
                    returns[i].append(float(envs.episode_return[i]))
                if mode is AutoresetMode.DISABLED and done.any():
                    envs.reset(options={"reset_mask": done})
            return [r[:6] for r in returns]

        assert episodes(mode) == episodes(AutoresetMode.SAME_STEP)

    def test_threads_do_not_change_a_bit(self, env: UserEnv) -> None:
        def run(num_threads: int) -> bytes:
            envs = env(5003, num_threads=num_threads)
            envs.reset(seed=0)
            for actions in draw(envs, 20):
                envs.step(actions)
            return bytes(envs.get_state())

        assert run(1) == run(3)

    def test_an_env_does_not_depend_on_the_others(self, env: UserEnv) -> None:
        many, one = env(7), env(1)
        many.reset(seed=10), one.reset(seed=14)
        for actions in draw(many, 40):
            np.testing.assert_array_equal(many.step(actions)[0][4], one.step(actions[4:5])[0][0])

    def test_reset_mask(self, env: UserEnv) -> None:
        envs = env(3)
        envs.reset(seed=0)
        for actions in draw(envs, 3):
            obs, *_ = envs.step(actions)
        state, elapsed = envs.get_state(), envs.core.elapsed.tolist()
        again, _ = envs.reset(options={"reset_mask": np.array([True, False, False])})
        np.testing.assert_array_equal(again[1:], obs[1:])
        assert envs.core.elapsed.tolist() == [0, *elapsed[1:]]
        envs.set_state(state)
        assert envs.core.elapsed.tolist() == elapsed

    def test_state_and_copies(self, env: UserEnv) -> None:
        envs = env(4, copy=False)
        envs.reset(seed=0)
        first, rest = np.split(np.stack(draw(envs, 30)), [13])
        for actions in first:
            envs.step(actions)
        others = [copy.deepcopy(envs), env(4, copy=False)]
        others[1].set_state(envs.get_state())
        if env in (Drift, Catch):
            others.append(pickle.loads(pickle.dumps(envs)))
        else:
            with pytest.raises((pickle.PicklingError, AttributeError)):
                pickle.dumps(envs)
        for actions in rest:
            expected = [x.copy() for x in envs.step(actions)[:4]]
            for other in others:
                for got, want in zip(other.step(actions)[:4], expected, strict=True):
                    np.testing.assert_array_equal(got, want)

    def test_state_property(self) -> None:
        envs = Drift(2)
        envs.reset(seed=0)
        envs.step(np.zeros((2, 2), np.float32))
        position, trail, visits, outside = envs.state
        assert position.shape == (2,)
        assert (trail != 0).sum(1).tolist() == [1, 1]
        assert visits.sum((1, 2)).tolist() == [1, 1]
        assert outside.dtype == bool
        walk = grid_world(4)(3)
        obs, _ = walk.reset(seed=0)
        np.testing.assert_array_equal(walk.state, obs)

    def test_fork(self) -> None:
        envs = Catch(6000, num_threads=2)
        envs.reset(seed=0)
        actions = np.ones(6000, np.int64)
        envs.step(actions)
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=lambda: queue.put(float(envs.step(actions)[0].sum())))
        child.start()
        child.join(60)
        assert queue.get() == float(envs.step(actions)[0].sum())


class TestExamples:
    def test_catch(self) -> None:
        """A paddle that follows the ball always catches it, after nine steps."""
        envs = Catch(64, autoreset_mode="SameStep")
        obs, _ = envs.reset(seed=0)
        returns = []
        for _ in range(90):
            board = obs.reshape(-1, 10, 5)
            ball, paddle = board[:, :9].sum(1).argmax(1), board[:, 9].argmax(1)
            obs, _, terminated, _, _ = envs.step(np.sign(ball - paddle) + 1)
            returns += envs.episode_return[terminated].tolist()
            assert (envs.episode_length[terminated] == 9).all()
        assert returns == [1.0] * 640

    @pytest.mark.parametrize("size", [2, 7])
    def test_deep_sea(self, size: int) -> None:
        """Right all the way pays 1 - 0.01, else a step to the right costs 0.01 / size."""
        envs = deep_sea(size)(1, autoreset_mode="SameStep")
        envs.reset(seed=0)
        for _ in range(size):
            envs.step(np.array([1]))
        assert envs.episode_return[0] == pytest.approx(0.99)
        for i in range(size):
            envs.step(np.array([i % 2]))
        assert envs.episode_return[0] == pytest.approx(-0.01 * (size // 2) / size)
        assert envs.episode_length[0] == size

    def test_grid_world_has_the_values_of_the_book(self) -> None:
        """Example 4.1: the mean number of steps of the random policy from each cell."""
        envs = grid_world(4)(4096, autoreset_mode="SameStep")
        start, _ = envs.reset(seed=0)
        sums, counts = np.zeros(16), np.zeros(16)
        for actions in draw(envs, 2000):
            obs, _, terminated, _, _ = envs.step(actions)
            np.add.at(sums, start[terminated], envs.episode_return[terminated])
            np.add.at(counts, start[terminated], 1)
            start = np.where(terminated, obs, start)
        book = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
        np.testing.assert_allclose(sums[1:15] / counts[1:15], book[1:15], rtol=0.02)

    def test_maze_takes_the_books_fourteen_steps(self) -> None:
        """By breadth-first search over what a step does, walls and edges included."""
        text, width = "".join(DYNA_MAZE), len(DYNA_MAZE[0])
        env = maze()
        start = env.reset(None)
        distance, frontier = {start: 0}, [start]
        while frontier:
            cell = frontier.pop(0)
            for action in range(4):
                after, gain, end = env.step(cell, action, None)
                assert text[after] != "#"
                assert (gain, end) == ((1.0, True) if text[after] == "G" else (0.0, False))
                assert abs(after - cell) in (0, 1, width)
                if after not in distance:
                    distance[after] = distance[cell] + 1
                    if not end:
                        frontier.append(after)
        assert distance[text.index("G")] == 14
        assert len(distance) == len(text) - text.count("#")

    @pytest.mark.parametrize("layout", [(), ("S.", "G"), ("S?G",), ("SS", ".G"), ("S.",)])
    def test_layouts_that_are_no_maze(self, layout: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="maze: layout must"):
            maze(layout)

    @pytest.mark.parametrize("make", [deep_sea, grid_world])
    def test_sizes(self, make: Any) -> None:
        with pytest.raises(ValueError, match="size must be >= 2, got 1"):
            make(1)


class TestTraining:
    def test_native_rollout_equals_the_python_one(self, env: UserEnv) -> None:
        batches = []
        for on_step in (None, lambda _: None):
            agent = fastrl.PPO(env, num_envs=6, num_steps=32, seed=0)
            agent.source.on_step = on_step
            for _ in range(2):
                batch = agent.source.next()
            batches.append(batch)
        for name in ("obs", "action", "reward", "next_value", "terminated", "truncated", "episode_return"):
            np.testing.assert_array_equal(getattr(batches[0], name), getattr(batches[1], name))

    def test_rollouts_go_on_from_a_saved_state(self, env: UserEnv) -> None:
        first, second = (fastrl.PPO(env, num_envs=6, num_steps=32, seed=0) for _ in range(2))
        first.source.next()
        second.source.load_state(first.source.state())
        want, got = first.source.next(), second.source.next()
        for name in ("obs", "action", "reward", "episode_return"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))

    @pytest.mark.learning
    def test_ppo_learns_to_catch(self) -> None:
        agent = fastrl.PPO(Catch, num_envs=32, seed=0)
        agent.learn(60_000)
        assert fastrl.evaluate.evaluate(agent, episodes=200).mean > 0.9


def test_import_needs_no_numba() -> None:
    code = "import sys, fastrl.envs.examples; print('numba' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_it_is_a_vector_env() -> None:
    assert issubclass(UserVectorEnv, VectorEnv)
    assert repr(Catch) == "<compiled environment Catch>"
    assert Catch.step(Catch.reset(Random(0)), 1, Random(0))[1] == 0.0
