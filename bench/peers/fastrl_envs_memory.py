"""Megabytes of this process before and with a million CartPoles that have been reset and stepped."""

import json
import sys
from pathlib import Path

import numpy as np

from fastrl.envs import VectorEnv


def megabytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


VectorEnv("CartPole-v1", 1).reset(seed=0)
before = megabytes("VmRSS")
env = VectorEnv("CartPole-v1", 1_000_000, mode=sys.argv[1], copy=sys.argv[2] == "True")
env.reset(seed=0)
actions = np.zeros(env.num_envs, np.int64)
for _ in range(30):
    result = env.step(actions)
print(json.dumps({"before_mb": before, "resident_mb": megabytes("VmRSS"), "peak_mb": megabytes("VmHWM")}))
