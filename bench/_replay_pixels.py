"""Pixels in a replay buffer of 50,000: 84x84 frames in stacks of four, episodes of 500 steps.

Ours stores each frame once; peers are measured as they store stacks by default and, where they can, with
frames shared. Before times, each row that was drawn is compared with what was added.
"""

import copy
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from _harness import Case

CAPACITY, BATCH, EPISODE = 50_000, 256, 500
FRAME = (84, 84)
POOL = np.random.default_rng(0).integers(256, size=(512, *FRAME), dtype=np.uint8)


def frame(step: int) -> np.ndarray:
    """The frame after this many steps of the run, unlike all others."""
    image = POOL[step % len(POOL)].copy()
    image.reshape(-1)[:8] = np.frombuffer(np.int64(step).tobytes(), np.uint8)
    return image


def stack(step: int, begin: int) -> np.ndarray:
    """[4, 84, 84]: the newest frame last; the first of the episode stands for those before it."""
    return np.stack([frame(max(step - 3 + i, begin)) for i in range(4)])


def steps() -> Iterator[tuple[int, np.ndarray, np.ndarray, bool]]:
    """Step, observation, next observation, and whether its episode is truncated there."""
    # an episode's last observation has a number of its own
    for step in range(CAPACITY):
        begin = step // EPISODE * (EPISODE + 1)
        now = begin + step % EPISODE
        yield now, stack(now, begin), stack(now + 1, begin), step % EPISODE == EPISODE - 1


def right(_: Any, batch: tuple[np.ndarray, np.ndarray, np.ndarray, bool]) -> bool:
    """Whether observations and next ones are those of the steps drawn; of some peers, but at ends."""
    step, obs, next_obs, exact = batch
    if obs.shape != (BATCH, 4, *FRAME) or next_obs.shape != obs.shape:
        return False
    for now, x, y in zip(step.reshape(-1).astype(int), obs, next_obs, strict=True):
        begin = now // (EPISODE + 1) * (EPISODE + 1)
        ends = now - begin == EPISODE - 1
        if not np.array_equal(x, stack(now, begin)):
            return False
        if not np.array_equal(y, stack(now + 1, begin)) and (exact or not ends):
            return False
    return True


Cycle = Callable[[], tuple[Any, Any, Any, bool]]
FIELDS = {"step": {"dtype": np.int64}, "done": {"dtype": np.bool_}}
PRIORITIES = np.random.default_rng(1).random((64, BATCH)).astype(np.float32)


def ours(prioritized: bool) -> Cycle:
    """Draws, gathers and updates priorities, or only draws and gathers."""
    from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer

    kind = PrioritizedReplayBuffer if prioritized else ReplayBuffer
    env_dict = {"obs": {"shape": (4, *FRAME), "dtype": np.uint8}, **FIELDS}
    buffer = kind(CAPACITY, env_dict, next_of="obs", stack_compress="obs", seed=0)
    for step, obs, next_obs, end in steps():
        buffer.add(step=step, obs=obs, next_obs=next_obs, done=False)
        if end:
            buffer.on_episode_end()
    return _cycle(buffer, prioritized, "indexes", lambda x: x)


def cpprb(compressed: bool) -> Cycle:
    """cpprb's prioritized buffer; its stacks' axis is the last."""
    import cpprb

    image = {"shape": (*FRAME, 4), "dtype": np.uint8}
    shared = {"next_of": "obs", "stack_compress": "obs"} if compressed else {}
    fields = {"obs": image, **FIELDS} | ({} if compressed else {"next_obs": image})
    buffer = cpprb.PrioritizedReplayBuffer(CAPACITY, copy.deepcopy(fields), **shared)  # it writes to them
    for step, obs, next_obs, end in steps():
        buffer.add(
            step=step, obs=np.moveaxis(obs, 0, -1), next_obs=np.moveaxis(next_obs, 0, -1), done=float(end)
        )
        if end:
            buffer.on_episode_end()
    return _cycle(buffer, True, "indexes", lambda x: np.moveaxis(x, -1, 1))


def _cycle(buffer: Any, prioritized: bool, indexes: str, first: Callable[[Any], Any]) -> Cycle:
    turn = [0]

    def cycle() -> tuple[Any, Any, Any, bool]:
        batch = buffer.sample(BATCH)
        if prioritized:
            turn[0] = (turn[0] + 1) % len(PRIORITIES)
            buffer.update_priorities(batch[indexes], PRIORITIES[turn[0]])
        return batch["step"], first(batch["obs"]), first(batch["next_obs"]), True

    return cycle


def tianshou(shared: bool) -> Cycle:
    """Tianshou's prioritized buffer, of stacks or of frames that it stacks when they are drawn."""
    from tianshou.data import Batch, PrioritizedReplayBuffer

    options = {"stack_num": 4, "save_only_last_obs": True, "ignore_obs_next": True} if shared else {}
    buffer = PrioritizedReplayBuffer(CAPACITY, alpha=0.6, beta=0.4, **options)
    for step, obs, next_obs, end in steps():
        buffer.add(
            Batch(
                obs=obs, act=step, rew=0.0, terminated=False, truncated=end, obs_next=next_obs, info=Batch()
            )
        )
    turn = [0]

    def cycle() -> tuple[Any, Any, Any, bool]:
        batch, index = buffer.sample(BATCH)
        turn[0] = (turn[0] + 1) % len(PRIORITIES)
        buffer.update_weight(index, PRIORITIES[turn[0]])
        return batch.act, batch.obs, batch.obs_next, not shared

    return cycle


def sb3(shared: bool) -> Cycle:
    """SB3's buffer, uniform: it has no other."""
    import gymnasium
    from stable_baselines3.common.buffers import ReplayBuffer

    image = gymnasium.spaces.Box(0, 255, (4, *FRAME), np.uint8)
    number = gymnasium.spaces.Box(0, 1e9, (1,), np.float64)
    options = {"optimize_memory_usage": True, "handle_timeout_termination": False} if shared else {}
    buffer = ReplayBuffer(CAPACITY, image, number, device="cpu", **options)
    for step, obs, next_obs, end in steps():
        buffer.add(obs[None], next_obs[None], np.array([[step]]), np.zeros(1), np.array([end]), [{}])

    def cycle() -> tuple[Any, Any, Any, bool]:
        batch = buffer.sample(BATCH)
        return batch.actions.numpy(), batch.observations.numpy(), batch.next_observations.numpy(), not shared

    return cycle


def torchrl() -> Cycle:
    """TorchRL's buffer in memory, uniform: its prioritized sampler needs what its wheels lack."""
    import torch
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(CAPACITY), batch_size=BATCH)
    for step, obs, next_obs, _ in steps():
        row = {
            "step": torch.tensor(step),
            "obs": torch.from_numpy(obs),
            "next_obs": torch.from_numpy(next_obs),
        }
        buffer.add(TensorDict(row, []))

    def cycle() -> tuple[Any, Any, Any, bool]:
        batch = buffer.sample()
        return batch["step"].numpy(), batch["obs"].numpy(), batch["next_obs"].numpy(), True

    return cycle


PEERS: dict[str, tuple[bool, Callable[[], Cycle]]] = {
    "cpprb": (True, lambda: cpprb(False)),
    "cpprb, frames shared": (True, lambda: cpprb(True)),
    "tianshou": (True, lambda: tianshou(False)),
    "tianshou, frames shared*": (True, lambda: tianshou(True)),
    "SB3": (False, lambda: sb3(False)),
    "SB3, optimize_memory_usage*": (False, lambda: sb3(True)),
    "TorchRL": (False, torchrl),
}
"""Name to whether it draws by priority, and its maker. *: at a truncation, the next observation is wrong."""


def _made(make: Callable[[], Cycle], name: str) -> Cycle | None:
    try:
        return make()
    except Exception as error:  # a peer that does not run here is left out, and says so
        print(f"{name}: left out: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return None


def cases() -> Iterable[Case]:
    """A batch of 256 from 50,000: with priorities and their update, and uniform."""
    moved = BATCH * (5 + 8) * FRAME[0] * FRAME[1]
    for prioritized, name in ((True, "prioritized cycle"), (False, "uniform sample")):
        peers = {}
        for peer, (by_priority, make) in PEERS.items():
            if by_priority == prioritized and (cycle := _made(make, peer)) is not None:
                peers[peer] = cycle
        yield Case(
            name=f"pixels {name} B={BATCH}", ours=ours(prioritized), peers=peers, agree=right, bytes=moved
        )
        gc.collect()
