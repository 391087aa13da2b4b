"""Kill -9 at random moments and before every system call: a checkpoint always reads.

The child processes are forked by a script of their own, which is single-threaded and imports once.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROLOGUE = """
import itertools, json, os, signal, sys, time, warnings
from pathlib import Path
import numpy as np
from fastrl.checkpoint import latest, read, save_folder, verify, write

run, agent = Path(sys.argv[1]), Path(sys.argv[2])
state = lambda step: {"step": step, "data": np.full(5000, step)}

def check(got):
    assert got.state["step"] == got.step and (got.state["data"] == got.step).all()
    return got.step

def child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    return pid
"""

RANDOM_KILLS = (
    PROLOGUE
    + """
def loop():
    for step in itertools.count(read(run).step + 1):
        write(run, step, state(step), algorithm="PPO", keep=2)

start = time.monotonic()
for step in range(3):
    write(run, step, state(step), algorithm="PPO", keep=2)
one = (time.monotonic() - start) / 3
rng, seen = np.random.default_rng(0), [2]
while len(seen) < 16 or (len(set(seen)) < 4 and len(seen) < 60):
    pid = child(loop)
    time.sleep(one * rng.uniform(0.5, len(seen)))  # some writes, however slow the disk
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    seen.append(check(read(run)))
assert seen == sorted(seen), seen
print(json.dumps(len(set(seen))))
"""
)

KILLS_AT_EVERY_CALL = (
    PROLOGUE
    + """
def dying(at, function):
    def run_to_death():
        calls = itertools.count(1)
        def counted(call):
            def wrapper(*args, **kwargs):
                if next(calls) == at:
                    os._exit(9)
                return call(*args, **kwargs)
            return wrapper
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        function()
    return run_to_death

def killed_everywhere(function, recovered):
    for at in itertools.count(1):
        _, status = os.waitpid(child(dying(at, function)), 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            recovered()
        if os.waitstatus_to_exitcode(status) == 0:
            return at

write(run, 0, state(0), algorithm="PPO")
write(run, 1, state(1), algorithm="PPO")
writes = [
    killed_everywhere(
        lambda: write(run, step, state(step), algorithm="PPO", keep=1),
        lambda: (check(read(run)), [verify(path) for path in (run / "checkpoints").glob("ckpt-*")]),
    )
    for step in (2, 2)  # the second time, the latest is being replaced
]
assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["ckpt-000000000002", "latest"]
save_folder(agent, state(0), algorithm="PPO")
saves = killed_everywhere(
    lambda: save_folder(agent, state(1), algorithm="PPO", step=1),
    lambda: check(read(agent)),
)
assert read(agent).step == 1
print(json.dumps([*writes, saves]))
"""
)


def run_script(script: str, tmp_path: Path) -> Any:
    command = [sys.executable, "-c", script, str(tmp_path / "run"), str(tmp_path / "agent")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_at_random_moments_a_run_always_reads(tmp_path: Path) -> None:
    assert run_script(RANDOM_KILLS, tmp_path) >= 4


def test_killed_before_every_system_call_a_checkpoint_always_reads(tmp_path: Path) -> None:
    first, again, saves = run_script(KILLS_AT_EVERY_CALL, tmp_path)
    assert min(first, again) > 10
    assert saves > 8
