"""What goes wrong in and around worker processes: one clear error, no hang, nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from fastrl.envs import WorkerError, WorkerVectorEnv
from fastrl.envs.workers.pool import CLOSE_SECONDS

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Mishap(Exception):
    def __init__(self, what, code):
        super().__init__(what, code)


class Fragile(gymnasium.Env):
    """Does what its action names."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(8)
    STAY, RAISE, EXIT, DIE, HANG, SHAPE, INTERRUPT, LAMBDA = range(8)

    def __init__(self, i=0):
        self.i = i

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if options and options.get("raise") == self.i:
            raise Mishap("at reset", 3)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        obs, info = np.zeros(2, np.float32), {}
        match action:
            case self.RAISE:
                raise Mishap("the arm broke", 7)
            case self.EXIT:
                sys.exit(3)
            case self.DIE:
                os.kill(os.getpid(), signal.SIGKILL)
            case self.HANG:
                signal.pause()
            case self.SHAPE:
                obs = np.zeros(3, np.float32)
            case self.INTERRUPT:  # Ctrl-C while the parent waits for this step
                time.sleep(0.3)
                os.kill(os.getppid(), signal.SIGINT)
                time.sleep(0.3)
            case self.LAMBDA:
                info = {"lock": threading.Lock()}
        return obs, 0.0, False, False, info

    def close(self):
        if path := os.environ.get("FRAGILE_CLOSED"):
            with Path(path).open("a") as file:
                file.write(f"{self.i}\n")


def make(num_envs=4, num_workers=2, **kwargs):
    envs = WorkerVectorEnv([lambda i=i: Fragile(i) for i in range(num_envs)], num_workers, **kwargs)
    envs.reset(seed=0)
    return envs


def only(env, action, num_envs=4):
    actions = np.zeros(num_envs, np.int64)
    actions[env] = action
    return actions


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def assert_gone(pids, seconds=30):
    deadline = time.monotonic() + seconds
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline, "workers still run"
        time.sleep(0.02)


def test_an_environment_raises():
    envs = make()
    envs.step(only(0, Fragile.STAY))
    with pytest.raises(WorkerError) as raised:
        envs.step(only(3, Fragile.RAISE))
    message = str(raised.value)
    assert message.startswith(
        "WorkerVectorEnv step 2: env 3, in worker 1, raised Mishap: ('the arm broke', 7)"
    )
    assert "in step\n" in message  # the worker's traceback
    assert type(raised.value.__cause__) is Mishap
    assert raised.value.__cause__.args == ("the arm broke", 7)
    with pytest.raises(ResetNeeded):
        envs.step(only(0, 0))
    with pytest.raises(ResetNeeded, match="after an error"):
        envs.reset(options={"reset_mask": np.ones(4, bool)})
    with pytest.raises(WorkerError, match="WorkerVectorEnv reset: env 1, in worker 0, raised Mishap"):
        envs.reset(options={"raise": 1})
    envs.reset()
    assert envs.step(only(0, 0))[0].shape == (4, 2)
    envs.close()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Fragile.EXIT, "env 2, in worker 1, raised SystemExit: 3"),
        (Fragile.SHAPE, "env 2, in worker 1, raised ValueError: .*shape"),
        (Fragile.LAMBDA, "worker 1, raised TypeError: .*lock"),
    ],
)
def test_other_failures(action, message):
    envs = make()
    with pytest.raises(WorkerError, match=message):
        envs.step(only(2, action))
    envs.reset()
    envs.step(only(2, 0))
    envs.close()


def test_a_worker_dies_in_a_step():
    envs = make()
    pids = envs.pids
    with pytest.raises(
        WorkerError, match=r"step 1: worker 1 \(envs 2 to 3\), process \d+, died, killed by SIGKILL"
    ):
        envs.step(only(3, Fragile.DIE))
    assert envs.closed
    assert_gone(pids)
    for call in (envs.reset, lambda: envs.step(only(0, 0)), lambda: envs.get_attr("i"), envs.render):
        with pytest.raises(ClosedEnvironmentError):
            call()
    envs.close()


def test_a_worker_is_killed_between_steps():
    envs = make()
    os.kill(envs.pids[0], signal.SIGKILL)
    assert_gone(envs.pids[:1])
    with pytest.raises(WorkerError, match=r"worker 0 \(envs 0 to 1\), process \d+, died, killed by SIGKILL"):
        envs.step(only(0, 0))
    assert envs.closed
    assert_gone(envs.pids)


def test_a_worker_dies_while_another_works():
    envs = make(timeout=60)  # that none of the tests waits for
    threading.Timer(0.3, os.kill, (envs.pids[1], signal.SIGKILL)).start()
    with pytest.raises(WorkerError, match="worker 1"):
        envs.step(only(0, Fragile.HANG))
    assert_gone(envs.pids)


def test_timeout():
    envs = make()
    envs.timeout = 1.5  # of the step alone: a busy machine may take long to start
    with pytest.raises(TimeoutError, match=r"step 1: worker 1 \(envs 2 to 3\) did not answer within 1.5 s"):
        envs.step(only(2, Fragile.HANG))
    assert envs.closed
    assert_gone(envs.pids)


def test_close_closes_the_environments_and_ends_the_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("FRAGILE_CLOSED", str(tmp_path / "closed"))
    envs = make()
    envs.close()
    envs.close()
    assert_gone(envs.pids)
    assert sorted((tmp_path / "closed").read_text().split()) == ["0", "1", "2", "3"]


def test_close_does_not_wait_for_ever():
    envs = make()
    envs.step_async(only(0, Fragile.HANG))
    start = time.monotonic()
    envs.close(timeout=0.3)
    assert time.monotonic() - start < CLOSE_SECONDS
    assert_gone(envs.pids)


def test_forgotten_environments_are_collected():
    gc.collect()
    before = set(Path("/proc/self/fd").iterdir())
    envs = make()
    pids = envs.pids
    del envs
    gc.collect()
    assert_gone(pids)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_an_environment_that_cannot_be_made():
    def broken():
        raise OSError("no simulator")

    with pytest.raises(WorkerError, match="start: env 3, in worker 1, raised OSError: no simulator"):
        WorkerVectorEnv([Fragile, Fragile, Fragile, broken], 2)
    lock = threading.Lock()
    with pytest.raises(TypeError, match="env_fns 2 to 3 must be functions that can be sent to a process"):
        WorkerVectorEnv([Fragile, Fragile, Fragile, lambda: lock], 2)
    with pytest.raises(WorkerError, match=r"start: worker 0 .* died, exit code 5"):
        WorkerVectorEnv([lambda: os._exit(5)], 1)


class Other(Fragile):
    observation_space = spaces.Box(-1, 1, (3,), np.float32)


class Words(Fragile):
    action_space = spaces.Text(3)


def test_spaces():
    with pytest.raises(
        WorkerError, match="env 1, in worker 0, raised ValueError: every env must have the same"
    ):
        WorkerVectorEnv([Fragile, Other], 1)
    with pytest.raises(ValueError, match=r"every env must have the same observation_space, .* of env 1"):
        WorkerVectorEnv([Fragile, Other], 2)
    with pytest.raises(ValueError, match=r"action space must be Box, .* got Text"):
        WorkerVectorEnv([Words], 1)


def test_bad_resets_and_steps_change_nothing():
    envs = WorkerVectorEnv([Fragile] * 4, 2)
    with pytest.raises(ResetNeeded):
        envs.step(only(0, 0))
    mask = np.ones(4, bool)
    with pytest.raises(ResetNeeded):
        envs.reset(options={"reset_mask": mask})
    envs.reset(seed=1)
    for error, options in (
        (TypeError, {"reset_mask": [True] * 4}),
        (ValueError, {"reset_mask": mask[:3]}),
        (ValueError, {"reset_mask": ~mask}),
    ):
        with pytest.raises(error, match=r"reset: reset_mask must be bool \[4\]"):
            envs.reset(options=options)
    with pytest.raises(ValueError, match="seed must have one item for each of 4 envs"):
        envs.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="actions must be 4, one an env, got 3"):
        envs.step(np.zeros(3, np.int64))
    envs.step(only(0, 0))
    envs.close()


def test_a_fork_cannot_use_or_end_the_workers():
    envs = make()
    pid = os.fork()
    if pid == 0:
        try:
            envs.step(only(0, 0))
        except WorkerError as error:
            envs.close()
            os._exit(0 if "a fork of it cannot use it" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    envs.step(only(0, 0))
    envs.close()
    assert_gone(envs.pids)


# An ordinary script: no main guard, classes of its own, an environment it registered.
SCRIPT = """
import os, signal, sys, time
import gymnasium, numpy as np
from fastrl.envs import WorkerVectorEnv

class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(3)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}
    def step(self, action):
        os.write(1, b"a step\\n")  # whole, though all workers write there
        time.sleep(60 * action)
        return 1, 0.0, False, False, {}
    def close(self):
        os.write(1, b"closed\\n")

gymnasium.register("Mine-v0", Mine)
envs = WorkerVectorEnv([lambda: gymnasium.make("Mine-v0", disable_env_checker=True)] * 2, 2)
envs.reset(seed=0)
print(*envs.pids, flush=True)
"""


def script(rest):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + rest], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    return process, [int(pid) for pid in process.stdout.readline().split()]


def test_workers_end_with_their_parent():
    process, pids = script("envs.step(np.array([0, 0])); time.sleep(60)")
    assert len(pids) == 2
    process.kill()
    process.wait()
    assert_gone(pids)
    process.stdout.close()


def test_workers_end_with_their_parent_even_in_a_step_that_does_not():
    process, pids = script("envs.step_async(np.array([1, 1])); time.sleep(60)")
    assert [process.stdout.readline() for _ in pids] == ["a step\n"] * 2
    process.kill()
    process.wait()
    assert_gone(pids)
    process.stdout.close()


def test_workers_end_with_their_parent_though_a_fork_of_it_lives():
    process, pids = script("print(os.fork() or time.sleep(60), flush=True); time.sleep(60)")
    fork = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert_gone(pids)
    os.kill(fork, signal.SIGKILL)
    assert process.stdout.read() == "closed\n" * 2  # in good order, not by force
    process.stdout.close()


def test_workers_end_with_the_interpreter():
    process, pids = script("")
    assert process.wait(20) == 0
    assert_gone(pids)
    process.stdout.close()


def test_interrupt():
    rest = """
def steps(action):
    try:
        envs.step(np.array([action, 0]))
    except BaseException as error:
        return type(error).__name__
    return "ok"

print(steps(1), flush=True)
envs.set_attr  # still there
print(steps(0), envs.closed, flush=True)
envs.close(timeout=0.1)
"""
    process, pids = script(rest)
    assert [process.stdout.readline() for _ in pids] == ["a step\n"] * 2  # all are asked: the parent waits
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it as well
    assert process.stdout.readline() == "KeyboardInterrupt\n"
    assert process.stdout.readline() == "ResetNeeded False\n"
    assert process.wait(20) == 0
    assert_gone(pids)
    process.stdout.close()


def test_an_interrupt_within_a_message():
    envs = make()
    envs._pool._channels[1].torn = True  # as if Ctrl-C had come between its bytes
    with pytest.raises(WorkerError, match="interrupted in the middle of a message; it is closed"):
        envs.step(only(0, 0))
    assert envs.closed
    assert_gone(envs.pids)


def test_an_interrupted_step_is_dropped():
    envs = make()
    with pytest.raises(KeyboardInterrupt):
        envs.step(only(3, Fragile.INTERRUPT))  # the last to be asked: no message is under way
    envs.reset(seed=3)
    assert envs.get_attr("i") == (0, 1, 2, 3)
    assert envs.np_random_seed == (3, 4, 5, 6)
    envs.step(only(0, 0))
    envs.close()
