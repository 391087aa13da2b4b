"""Presets: files that are valid, commands that start from them and say so, flags and files that override."""

import json
import re
from pathlib import Path

import gymnasium
import pytest

import fastrl
from fastrl.algorithms import ALGORITHMS, algorithm
from fastrl.cli import main
from fastrl.evaluate import evaluate
from fastrl.presets import Preset, preset, presets

TINY = ["--total-timesteps", "256", "--no-progress"]
PRESETS = [(name, found) for name in ALGORITHMS for found in presets(name).values()]


@pytest.fixture
def train(tmp_path, capsys):
    def run(*words):
        root = tmp_path / f"runs{len(list(tmp_path.iterdir()))}"
        assert main(["train", "ppo", *words, *TINY, "--runs", str(root)]) == 0
        (folder,) = root.iterdir()
        return json.loads((folder / "config.json").read_text()), capsys.readouterr().out

    return run


@pytest.mark.parametrize(("name", "found"), PRESETS, ids=lambda x: getattr(x, "env_id", x))
def test_presets_are_valid_and_of_environments_that_are_there(name, found):
    config = algorithm(name).Config
    assert config.from_mapping(found.fields) != config()
    assert "seed" not in found.fields
    if found.env_id.startswith("ALE/"):
        gymnasium.register_envs(pytest.importorskip("ale_py"))
    assert gymnasium.spec(found.env_id).id == found.env_id


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_table_says_where_its_numbers_are_from(name):
    path = Path(fastrl.__file__).with_name("presets") / f"{name}.toml"
    if not path.is_file():
        pytest.skip(f"{name} has no presets")
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("["):
            assert lines[number - 1].startswith("# "), line
            assert re.search(
                r"[Ss]eeds \d|[Nn]ot\W+trained", "\n".join(lines[max(0, number - 6) : number])
            ), line


def test_lookup():
    found = preset("ppo", "CartPole-v1")
    assert isinstance(found, Preset)
    assert preset("PPO", "fastrl/CartPole-v1") == found
    assert preset("ppo", "NoSuchEnv-v0") is None
    assert presets("none") == {}
    assert str(found) == f"CartPole-v1 (version {found.version})"
    agent = fastrl.PPO("CartPole-v1", **found.fields, seed=3)
    assert (agent.config.hidden, agent.config.seed) == (found.fields["hidden"], 3)


def test_python_starts_from_the_documented_defaults():
    assert fastrl.PPO("CartPole-v1").config == fastrl.PPOConfig()


def test_train_starts_from_the_preset_and_says_so(train):
    fields = preset("ppo", "CartPole-v1").fields
    config, out = train("CartPole-v1")
    assert out.startswith("preset: CartPole-v1 (version 1)\nrun folder: ")
    for name, value in fields.items():
        if name != "total_timesteps":
            assert config[name] == (list(value) if isinstance(value, tuple) else value)


def test_env_in_any_place(train):
    learning_rate = preset("ppo", "CartPole-v1").fields["learning_rate"]
    config, out = train("--seed", "7", "fastrl/CartPole-v1")
    assert "preset: CartPole-v1" in out
    assert (config["learning_rate"], config["seed"]) == (learning_rate, 7)


def test_flags_override_the_preset(train):
    config, out = train("CartPole-v1", "--learning-rate", "0.5", "--num-steps", "16")
    assert "preset: CartPole-v1" in out
    assert (config["learning_rate"], config["num_steps"]) == (0.5, 16)
    assert config["update_epochs"] == preset("ppo", "CartPole-v1").fields["update_epochs"]


def test_without_preset(train, tmp_path):
    defaults = {"learning_rate": 1e-3, "hidden": [64, 64], "update_epochs": 4}
    config, out = train("CartPole-v1", "--no-preset")
    assert "preset:" not in out
    assert {name: config[name] for name in defaults} == defaults
    file = tmp_path / "config.toml"
    file.write_text("gamma = 0.5\n")
    config, out = train("CartPole-v1", "--config", str(file))
    assert "preset:" not in out
    assert config["gamma"] == 0.5
    assert {name: config[name] for name in defaults} == defaults
    _, out = train("CartPole-v0")
    assert "preset:" not in out


def test_help_of_an_environment_shows_the_presets_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["train", "ppo", "CartPole-v1", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "Defaults are those of preset CartPole-v1 (version 1)." in out
    assert "(default: 0.004)" in out


@pytest.mark.learning
def test_cartpole_is_solved_as_recorded():
    solved = []

    def watch(agent, metrics):
        last = [episode_return for episode_return, _ in list(agent.episodes)[-20:]]
        if not solved and len(last) == 20 and sum(last) >= 20 * 475:
            solved.append(agent.num_timesteps)

    agent = fastrl.PPO("CartPole-v1", **preset("ppo", "CartPole-v1").fields, seed=20).learn(callback=watch)
    # the slowest of the seeds 20 to 39 took 22,016, which other instruction sets move; the default settings take more
    assert solved[0] <= 26_000
    assert evaluate(agent, 20).mean >= 475


@pytest.mark.learning
@pytest.mark.parametrize(("env_id", "least"), [("Pendulum-v1", -250), ("MountainCarContinuous-v0", 90)])
def test_continuous_control_ends_as_recorded(env_id, least):
    agent = fastrl.PPO(env_id, **preset("ppo", env_id).fields, seed=20).learn()
    assert evaluate(agent, 20).mean >= least
