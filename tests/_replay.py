"""A list of all rows ever added, which looks up what a replay buffer is asked for; and rows to add."""

import itertools
from typing import Any

import numpy as np

from fastrl.replay import PrioritizedReplayBuffer, ReplayBuffer

SHAPES = {"first": (3, 2, 4), "last": (4, 2, 3), "next": (5,), "apart": (3, 4)}
"""Of observations: stacks of frames on the first or the last axis; shared with the next ones; not shared."""


class Choice:
    """A buffer's arguments, drawn by a generator."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.envs, self.steps = int(random.choice([1, 2, 5])), int(random.choice([1, 2, 3, 8, 17]))
        self.size = self.envs * self.steps
        self.sharing = str(random.choice(list(SHAPES)))
        self.n, self.gamma = int(random.choice([1, 2, 3, 20])), float(random.choice([0.0, 0.9, 1.0]))
        self.new_priority = str(random.choice(["ever", "stored"]))
        self.prioritized = bool(random.random() < 0.6)
        obs = {"shape": SHAPES[self.sharing], "dtype": np.uint8}
        self.fields = {
            "rew": {"dtype": np.float64},
            "obs": obs,
            "done": {"dtype": bool},
            "truncated": {"shape": 1},
        }
        if self.sharing == "apart":
            self.fields["next_obs"] = obs
        self.options: dict[str, Any] = {"num_envs": self.envs, "seed": 1}
        if self.n > 1:
            self.options["Nstep"] = {"size": self.n, "gamma": self.gamma, "rew": "rew", "next": "next_obs"}
        if self.sharing != "apart":
            self.options["next_of"] = "obs"
        if self.sharing in ("first", "last"):
            self.options["stack_compress"] = "obs"
        if self.prioritized:
            self.options |= {"alpha": 0.5, "eps": 0.0, "new_priority": self.new_priority}

    def make(self) -> Any:
        """An empty buffer, of a size that environments need not divide."""
        kind = PrioritizedReplayBuffer if self.prioritized else ReplayBuffer
        return kind(self.size + int(self.random.integers(self.envs)), self.fields, **self.options)


class History:
    """All rows ever added, by how many were before them."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.clear()

    def clear(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.ends: list[bool] = []
        self.priorities: list[float] = []
        self.largest = 1.0

    @property
    def stored(self) -> range:
        return range(max(0, len(self.rows) - self.choice.size), len(self.rows))

    def add(self, rows: list[dict[str, Any]], priorities: Any) -> None:
        new = self.largest
        if self.choice.new_priority == "stored":
            new = max((self.priorities[i] for i in self.stored), default=0) or 1.0
        given = itertools.repeat(new, len(rows)) if priorities is None else priorities.tolist()
        self.rows += rows
        self.ends += [bool(row["done"] or row["truncated"]) for row in rows]
        self.priorities += given
        self.largest = max([self.largest, *([] if priorities is None else priorities)])

    def end(self, env: int) -> None:
        if self.rows:
            self.ends[len(self.rows) - self.choice.envs + env] = True

    def update(self, places: Any, priorities: Any, since: int) -> None:
        by_place = {i % self.choice.size: i for i in self.stored}
        for place, priority in zip(places.tolist(), priorities.tolist(), strict=True):
            if by_place[place] < since:
                self.priorities[by_place[place]] = priority
                self.largest = max(self.largest, priority)

    def window(self, i: int) -> list[int]:
        """Rows of the n-step return of row i."""
        window = [i]
        while (
            len(window) < self.choice.n
            and not self.ends[window[-1]]
            and window[-1] + self.choice.envs < len(self.rows)
        ):
            window.append(window[-1] + self.choice.envs)
        return window

    def returned(self, i: int) -> dict[str, Any]:
        window = self.window(i)
        row, last = self.rows[i], self.rows[window[-1]]
        rew = sum(self.choice.gamma**k * self.rows[j]["rew"] for k, j in enumerate(window))
        discount = 0.0 if last["done"] else self.choice.gamma ** len(window)
        return last | {"obs": row["obs"], "rew": rew, "discount": np.float32(discount)}


class Episodes:
    """Steps of environments whose observations are stacks of frames, or are not."""

    def __init__(self, choice: Choice) -> None:
        self.random, self.choice = choice.random, choice
        self.axis = {"first": 0, "last": -1}.get(choice.sharing)
        self.rate = float(self.random.choice([0.0, 0.1, 0.6]))
        self.now = [self.begin() for _ in range(choice.envs)]

    def begin(self) -> Any:
        obs = self.random.integers(3, size=SHAPES[self.choice.sharing], dtype=np.uint8)
        if self.axis is not None and self.random.random() < 0.7:  # a reset that repeats its frame
            obs = np.repeat(obs.take([0], self.axis), obs.shape[self.axis], self.axis)
        return obs

    def after(self, obs: Any) -> Any:
        if self.axis is None or self.random.random() < 0.05:
            return self.begin()
        return np.concatenate([np.delete(obs, 0, self.axis), self.begin().take([-1], self.axis)], self.axis)

    def steps(self, count: int) -> list[dict[str, Any]]:
        rows = []
        for _, env in itertools.product(range(count), range(self.choice.envs)):
            done, truncated = self.random.random(2) < self.rate
            following = self.after(self.now[env])
            row = {"rew": self.random.normal(), "obs": self.now[env], "next_obs": following}
            rows.append(row | {"done": done, "truncated": np.array([truncated], np.float32)})
            self.now[env] = self.begin() if done or truncated else following
        return rows


def columns(rows: list[dict[str, Any]], buffer: Any) -> dict[str, Any]:
    return {
        one.name: np.array([row[one.name] for row in rows], one.dtype).reshape(-1, *one.shape)
        for one in buffer.fields
    }
