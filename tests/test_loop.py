"""The training loop: resuming bit for bit, interruption, what is kept when things go wrong."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastrl
from fastrl import checkpoint, loop
from fastrl.checkpoint import CheckpointError
from fastrl.evaluate import evaluate
from fastrl.logging import LogError
from fastrl.runs import find_runs, group_runs, settings_of
from fastrl.seeds import learn_seeds

SMALL = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (16,)}
BATCH = 64


def tensors(agent):
    return [agent.policy.network.params, agent.optimizer.m, agent.optimizer.v]


def assert_same(a, b):
    for x, y in zip(tensors(a), tensors(b), strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.num_timesteps == b.num_timesteps
    assert list(a.episodes) == list(b.episodes)
    assert a.rng.bit_generator.state == b.rng.bit_generator.state
    np.testing.assert_array_equal(a.env.get_state(), b.env.get_state())


def rows(run):
    with (run / "progress.csv").open() as file:
        return list(csv.DictReader(file))


def test_interrupted_at_n_equals_uninterrupted(tmp_path):
    options = {**SMALL, "seed": 5, "total_timesteps": 20 * BATCH}
    straight = fastrl.PPO("CartPole-v1", **options).learn(log_dir=tmp_path / "straight")

    def stop(agent, _):
        return agent.num_timesteps < 10 * BATCH

    first = fastrl.PPO("CartPole-v1", **options)
    first.learn(log_dir=tmp_path / "run", callback=stop)
    assert first.num_timesteps == 10 * BATCH
    resumed = fastrl.PPO.load(tmp_path / "run")
    resumed.learn(log_dir=tmp_path / "run")
    assert_same(resumed, straight)
    a, b = rows(tmp_path / "straight"), rows(tmp_path / "run")
    assert [row["step"] for row in a] == [row["step"] for row in b]
    for one, other in zip(a, b, strict=True):
        for name, value in one.items():
            assert name.startswith("time/") or value == other[name], name


def test_run_folder_has_logs_checkpoints_and_the_best(tmp_path):
    agent = fastrl.PPO("CartPole-v1", **SMALL, total_timesteps=10 * BATCH).learn(log_dir=tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"progress.csv", "checkpoints"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert rows(tmp_path / "run")[-1]["step"] == str(10 * BATCH)
    assert checkpoint.read(tmp_path / "run").step == 10 * BATCH
    best = checkpoint.best(tmp_path / "run")
    evaluations = [
        float(row["eval/mean_reward"]) for row in rows(tmp_path / "run") if row["eval/mean_reward"]
    ]
    assert len(evaluations) == 10
    assert agent.best_evaluation == max(evaluations)
    assert evaluate(fastrl.PPO.load(best), 20).mean == max(evaluations)


def test_callback_sees_every_batch_and_stops():
    seen = []

    def callback(agent, metrics):
        seen.append((agent.num_timesteps, metrics["time/steps_per_second"] > 0))
        return None if len(seen) < 3 else False

    agent = fastrl.PPO("CartPole-v1", **SMALL).learn(10 * BATCH, callback=callback)
    assert seen == [(BATCH, True), (2 * BATCH, True), (3 * BATCH, True)]
    assert agent.num_timesteps == 3 * BATCH


def test_on_step_sees_every_step_and_changes_nothing():
    class Count:
        steps = 0

        def on_step(self, data):
            self.steps += 1
            assert data["obs"].shape == (4, 4)

        def __call__(self, agent, metrics):
            pass

    count = Count()
    agent = fastrl.PPO("CartPole-v1", **SMALL).learn(3 * BATCH, callback=count)
    assert count.steps == 3 * 16
    assert agent.source.on_step is None
    assert_same(agent, fastrl.PPO("CartPole-v1", **SMALL).learn(3 * BATCH))


def test_time_goes_on_after_a_resume(tmp_path):
    half = fastrl.PPO("CartPole-v1", **SMALL, total_timesteps=6 * BATCH)
    half.learn(log_dir=tmp_path / "run", callback=lambda agent, _: agent.num_timesteps < 3 * BATCH)
    assert half.seconds > 0
    half.seconds += 100.0  # had it taken that long
    half.save(tmp_path / "agent")
    resumed = fastrl.PPO.load(tmp_path / "agent")
    resumed.learn(log_dir=tmp_path / "run")
    seconds = [float(row["time/seconds"]) for row in rows(tmp_path / "run")]
    assert seconds == sorted(seconds)
    assert seconds[2] < 100 < seconds[3]
    last = rows(tmp_path / "run")[-1]
    assert float(last["time/steps_per_second"]) == pytest.approx(6 * BATCH / seconds[-1])


def test_runs_of_learn_say_what_they_are(tmp_path):
    """Two seeds are one group of ``fastrl plot``, another configuration is one of its own."""
    for name, fields in (("a", {"seed": 1}), ("b", {"seed": 2}), ("c", {"seed": 1, "gamma": 0.9})):
        fastrl.PPO("CartPole-v1", **SMALL, **fields).learn(2 * BATCH, log_dir=tmp_path / name)
    groups = group_runs(find_runs([tmp_path / name for name in "abc"]))
    assert [[run.name for run in group] for group in groups.values()] == [["a", "b"], ["c"]]
    settings = settings_of(tmp_path / "c")
    assert (settings["algorithm"], settings["env"], settings["gamma"]) == ("PPO", "CartPole-v1", 0.9)
    assert not list(tmp_path.glob("*/.*"))


def test_learning_twice_goes_on():
    agent = fastrl.PPO("CartPole-v1", **SMALL).learn(2 * BATCH).learn(3 * BATCH)
    assert agent.num_timesteps == 5 * BATCH


def test_evaluation_does_not_disturb_training(tmp_path):
    plain = fastrl.PPO("CartPole-v1", **SMALL).learn(5 * BATCH)
    watched = fastrl.PPO("CartPole-v1", **SMALL).learn(
        5 * BATCH, eval_interval=BATCH, log_dir=tmp_path / "run"
    )
    assert_same(plain, watched)


def test_evaluation_counts_one_episode_an_environment():
    agent = fastrl.PPO("CartPole-v1", **SMALL)
    result = evaluate(agent, 30)
    np.testing.assert_array_equal(result.episode_return, result.episode_length)
    again = evaluate(agent, 30)
    np.testing.assert_array_equal(result.episode_return, again.episode_return)
    assert result.mean == result.episode_return.mean()


# ---- things that go wrong ------------------------------------------------------------------------------------------


def test_evaluation_ends_though_episodes_do_not():
    """A policy that walks to and fro on CliffWalking-v1, which has no time limit, held up the whole run."""
    agent = fastrl.PPO("CliffWalking-v1", **SMALL)
    with pytest.warns(RuntimeWarning, match="5 of 5 episodes did not end in 300 steps, and count as they"):
        result = evaluate(agent, 5, max_steps=300)
    assert result.episode_length.tolist() == [300] * 5
    assert (result.episode_return <= -300).all()
    with pytest.raises(ValueError, match="max_steps must be >= 1, got 0"):
        evaluate(agent, 5, max_steps=0)


def test_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    agent = fastrl.PPO("CartPole-v1", **SMALL)

    def poison(agent, _):
        if agent.num_timesteps == 4 * BATCH:
            agent.policy.network.params[0] = np.nan

    with pytest.raises(FloatingPointError, match=r"the policy's output is not finite at step 64, env 0"):
        agent.learn(10 * BATCH, callback=poison, log_dir=tmp_path / "run", checkpoint_interval=BATCH)
    saved = checkpoint.read(tmp_path / "run")
    assert saved.step == 4 * BATCH
    assert fastrl.PPO.load(tmp_path / "run").num_timesteps == 4 * BATCH


def test_non_finite_batch_stops_before_the_update(monkeypatch):
    agent = fastrl.PPO("CartPole-v1", **SMALL)
    collect = agent.source.next

    def broken():
        batch = collect()
        batch.reward[3, 1] = np.inf
        return batch

    monkeypatch.setattr(agent.source, "next", broken)
    before = agent.policy.network.params.copy()
    with pytest.raises(FloatingPointError, match="the advantage is not finite in the batch after step 0"):
        agent.learn(BATCH)
    np.testing.assert_array_equal(agent.policy.network.params, before)


def test_unwritable_run_folder(tmp_path):
    (tmp_path / "file").write_text("")
    agent = fastrl.PPO("CartPole-v1", **SMALL)
    with pytest.raises((LogError, CheckpointError), match=re.escape(str(tmp_path / "file"))):
        agent.learn(BATCH, log_dir=tmp_path / "file")
    assert agent.num_timesteps == 0
    assert (tmp_path / "file").read_text() == ""


def test_a_run_folder_in_use_is_refused(tmp_path):
    fastrl.PPO("CartPole-v1", **SMALL).learn(2 * BATCH, log_dir=tmp_path / "run")
    before = rows(tmp_path / "run")
    with pytest.raises(LogError, match="run"):
        fastrl.PPO("CartPole-v1", **SMALL).learn(2 * BATCH, log_dir=tmp_path / "run")
    assert rows(tmp_path / "run") == before
    assert checkpoint.read(tmp_path / "run").step == 2 * BATCH


SCRIPT = """
import sys, fastrl
agent = fastrl.PPO("CartPole-v1", num_envs=4, num_steps=16, minibatch_size=32, hidden=(16,), seed=1,
                   total_timesteps=10**9)
def began(agent, metrics):
    if agent.num_timesteps == 64:
        print("an iteration", flush=True)

agent.learn(log_dir=sys.argv[1], checkpoint_interval=int(sys.argv[2]), eval_interval=10**9, callback=began)
"""


def start(run, interval):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(run), str(interval)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "an iteration\n"
    assert checkpoint.latest(run) is not None
    return process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_checkpoint_within_an_iteration(tmp_path, signum):
    process = start(tmp_path / "run", 10**9)
    time.sleep(0.1)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"interrupted by {signum.name}" in err
    agent = fastrl.PPO.load(tmp_path / "run")
    assert agent.num_timesteps > 0  # not the checkpoint of step 0
    last = rows(tmp_path / "run")[-1]  # although the log's interval is two million steps
    assert last["step"] == str(agent.num_timesteps)
    assert float(last["train/entropy"]) > 0
    # and it is a state of the uninterrupted run
    straight = fastrl.PPO("CartPole-v1", agent.config)
    straight.total_timesteps = agent.total_timesteps
    loop.train(straight, callback=lambda a, _: a.num_timesteps < agent.num_timesteps)
    assert_same(straight, agent)


@pytest.mark.filterwarnings("ignore:read ckpt-:RuntimeWarning")  # killed between a checkpoint and its pointer
def test_kill_leaves_a_loadable_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    for attempt in range(6):
        run = tmp_path / f"run{attempt}"
        process = start(run, BATCH)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.wait()
        agent = fastrl.PPO.load(run)
        agent.total_timesteps = agent.num_timesteps + BATCH
        agent.learn(log_dir=run)
        process.stdout.close()
        process.stderr.close()


def test_ctrl_c_works_during_a_long_native_call():
    code = (
        "import fastrl, signal, os, threading\n"
        "agent = fastrl.PPO('CartPole-v1', num_envs=1024, num_steps=20000, minibatch_size=1024)\n"
        "try:\n"
        "    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    agent.source.next()\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', 'late' if agent.source._arrays['reward'][-1].any() else 'in time')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "stopped in time\n"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use():
    agent = fastrl.PPO("CartPole-v1", **SMALL).learn(2 * BATCH)
    pid = os.fork()
    if pid == 0:
        agent.learn(2 * BATCH)
        os._exit(0 if np.isfinite(agent.policy.network.params).all() else 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the forked child hangs")


# ---- several seeds -------------------------------------------------------------------------------------------------


def test_seeds_in_threads_equal_seeds_alone(tmp_path):
    agents = [fastrl.PPO("CartPole-v1", **SMALL, seed=seed, total_timesteps=5 * BATCH) for seed in range(3)]
    learn_seeds(agents, [tmp_path / f"seed{seed}" for seed in range(3)], threads=2)
    for seed, agent in enumerate(agents):
        alone = fastrl.PPO("CartPole-v1", **SMALL, seed=seed).learn(5 * BATCH)
        assert_same(agent, alone)
        assert checkpoint.read(tmp_path / f"seed{seed}").step == 5 * BATCH


def test_a_failing_seed_stops_all():
    agents = [fastrl.PPO("CartPole-v1", **SMALL, seed=seed, total_timesteps=10**9) for seed in range(2)]
    agents[1].policy.network.params[:] = np.nan
    with pytest.raises(FloatingPointError, match="output is not finite"):
        learn_seeds(agents, [None, None])
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        learn_seeds(agents, [None, None], threads=0)


def test_memory_of_a_run(tmp_path):
    """`fastrl train` stays under 200 MB, plots and all."""
    code = (
        "from pathlib import Path\nfrom fastrl.cli import main\n"
        f"status = main(['train', 'ppo', 'CartPole-v1', '--total-timesteps', '20000', '--runs', {str(tmp_path)!r}])\n"
        # not ru_maxrss, which starts at what the parent had
        "peak = Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]\n"
        "print(status, peak)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    status, kilobytes = run.stdout.split()[-2:]
    assert status == "0"
    assert int(kilobytes) < 200 * 1024
    assert len(list(Path(tmp_path).glob("*/learning_curve.png"))) == 1
