"""Atari games alone: what the agent sees there is what ALE's vector environment shows."""

import numpy as np
import pytest
from PIL import Image

import fastrl
from fastrl import video
from fastrl.envs import atari_video
from fastrl.envs.atari_video import make_drawn_game
from fastrl.video import record

ale_py = pytest.importorskip("ale_py")


@pytest.mark.parametrize("game", ["breakout", "pong", "ms_pacman"])
def test_frames_and_rewards_are_those_of_ales_vector_environment(monkeypatch, game):
    """To the bit, through a whole game, from the press of FIRE to the last action."""
    monkeypatch.setattr(atari_video, "NO_OPS", 0)
    theirs = ale_py.AtariVectorEnv(game, 1, noop_max=0, reward_clipping=False, autoreset_mode="SameStep")
    name = "".join(part.capitalize() for part in game.split("_"))
    ours = make_drawn_game(f"ALE/{name}-v5", "rgb_array")
    assert ours.observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.single_action_space
    expected, _ = theirs.reset(seed=1)
    obs, _ = ours.reset(seed=1)
    rng = np.random.default_rng(0)
    over = False
    while not over:
        np.testing.assert_array_equal(obs, expected[0])
        action = rng.integers(ours.action_space.n)
        expected, *rewards_and_ends, _ = theirs.step(np.array([action]))
        obs, *reward_and_ends, _ = ours.step(action)
        assert reward_and_ends == [x[0] for x in rewards_and_ends]
        over = any(reward_and_ends[1:])
    assert ours.render().shape == (210, 160, 3)
    theirs.close()
    ours.close()


def test_games_begin_as_their_seed_says():
    game = make_drawn_game("ALE/Breakout-v5")

    def begin(seed):
        game.reset(seed=seed)
        return game.unwrapped._game.unwrapped.ale.getEpisodeFrameNumber()

    frames = [begin(seed) for seed in range(40)]
    assert frames == [begin(seed) for seed in range(40)]
    assert min(frames) < 5
    assert 25 < max(frames) <= 31  # no-ops and FIRE
    assert len(set(frames)) > 15
    game.close()


def test_video_of_an_agent(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "has_encoder", lambda: False)
    agent = fastrl.PPO("ALE/Breakout-v5", num_envs=2, num_steps=8, minibatch_size=8)
    with pytest.warns(RuntimeWarning, match="video: episode 0 did not end in 12 steps, and is cut there"):
        (file,), _ = record(agent, tmp_path, episodes=1, max_steps=12)
    assert file.name == "ALE-Breakout-v5-0-episode0.gif"
    with Image.open(file) as image:
        assert image.size == (160, 210)
    with pytest.raises(ValueError, match="video: max_steps must be >= 1, got 0"):
        record(agent, tmp_path, max_steps=0)
    agent.env.close()
