"""Videos of an agent's episodes, drawn by Gymnasium's own renderers: MP4, or GIF where nothing encodes."""

import inspect
import os
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import RecordVideo
from numpy.typing import NDArray

from fastrl import extras
from fastrl.algorithms.base import Algorithm


def record(
    agent: Algorithm,
    out: Path | str,
    *,
    episodes: int = 3,
    env: Callable[..., Any] | None = None,
    seed: int = 1_000_000,
    deterministic: bool = True,
    max_steps: int = 10_000,
) -> tuple[list[Path], NDArray[np.float64]]:
    """Play episodes and record one video of each; the files, and the returns [episodes].

    Episode i is seeded with ``seed + i``: these are the first episodes that ``evaluate`` plays, but for Atari
    games, which wait other numbers of frames before they begin. Needs no display. A video appears in ``out``
    when it is whole, and replaces an older one of the same name.

    Args:
        agent: what acts.
        out: folder for ``<env>-<step>-episode<i>.mp4`` (or .gif); made if missing.
        episodes: how many.
        env: a function that makes the environment, given ``render_mode="rgb_array"`` if it takes that;
            default: what the agent was made with, options of a compiled vector environment included.
        seed: of the environment.
        deterministic: whether to take the most probable actions.
        max_steps: where episodes are cut, whose frames are all held in memory; a RuntimeWarning says so.

    Raises:
        ValueError: ``episodes`` or ``max_steps`` < 1, the environment draws no frames, or no ``env`` for an
            agent made with environments of which nothing known makes one alone.
        MissingExtraError: a package that draws or encodes is not installed.
    """
    if episodes < 1:
        raise ValueError(f"video: episodes must be >= 1, got {episodes}")
    if max_steps < 1:
        raise ValueError(f"video: max_steps must be >= 1, got {max_steps}")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    make = env or agent.origin.single(agent.env_id)
    if make is None:
        raise ValueError(
            f"video: env must be given: nothing known makes one {agent.env_id} alone that can be drawn"
        )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    returns = np.zeros(episodes)
    with tempfile.TemporaryDirectory(prefix=".video-", dir=out) as scratch:
        single = _recorder(_make(make, agent.env_id), Path(scratch) / "new")
        try:
            for i in range(episodes):
                obs, _ = single.reset(seed=seed + i)
                state = None
                for _ in range(max_steps):
                    action, state = agent.predict(obs, state, deterministic=deterministic)
                    obs, reward, terminated, truncated, _ = single.step(action)
                    returns[i] += float(reward)
                    if terminated or truncated:
                        break
                else:
                    cut = f"episode {i} did not end in {max_steps} steps, and is cut there"
                    warnings.warn(f"video: {cut}", RuntimeWarning, stacklevel=2)
        except gymnasium.error.DependencyNotInstalled as error:
            extras.require("video", "video")
            raise extras.MissingExtraError(f"video: {error}") from None
        finally:
            single.close()
        name = agent.env_id.replace("/", "-")
        files = []
        for i in range(episodes):
            (made,) = (Path(scratch) / "new").glob(f"video-episode-{i}.*")
            target = out / f"{name}-{agent.num_timesteps}-episode{i}{made.suffix}"
            files.append(made.replace(target))
    return files, returns


def has_encoder() -> bool:
    """Whether MP4 can be written: moviepy is installed and finds an ffmpeg."""
    if find_spec("moviepy") is None:
        return False
    try:
        import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return False
    return True


class RecordGif(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Writes a GIF of each episode, under the names of Gymnasium's ``RecordVideo``."""

    def __init__(self, env: gymnasium.Env[Any, Any], video_folder: str, name_prefix: str = "video") -> None:
        super().__init__(env)
        self.folder = Path(video_folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name_prefix = name_prefix
        self.frames: list[Any] = []
        self.episode = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and its recording; what was recorded before is written."""
        self._write()
        self.episode += 1
        obs, info = self.env.reset(seed=seed, options=options)
        self._capture()
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step and its frame."""
        result = self.env.step(action)
        self._capture()
        return result

    def close(self) -> None:
        """Write the last episode."""
        self._write()
        super().close()

    def _capture(self) -> None:
        from PIL import Image

        self.frames.append(Image.fromarray(np.asarray(self.env.render())).quantize(64))

    def _write(self) -> None:
        if self.frames:
            first, *rest = self.frames
            path = self.folder / f"{self.name_prefix}-episode-{self.episode}.gif"
            duration = round(1000 / self.metadata.get("render_fps", 30))
            first.save(path, save_all=True, append_images=rest, duration=duration, loop=0)
        self.frames = []


def _make(make: Callable[..., Any], env_id: str) -> gymnasium.Env[Any, Any]:
    drawn = {"render_mode": "rgb_array"} if _takes_render_mode(make) else {}
    try:
        env: gymnasium.Env[Any, Any] = make(**drawn)
    except (gymnasium.error.Error, TypeError) as error:
        raise ValueError(f"video: {env_id} cannot be drawn: {error}") from error
    if env.render_mode != "rgb_array":
        env.close()
        known = f"its render modes are {env.metadata.get('render_modes', [])}"
        hint = "" if drawn else ", and the function that makes it has no argument render_mode"
        raise ValueError(f"video: {env_id} draws no frames: {known}{hint}")
    return env


def _takes_render_mode(make: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:  # of another language's functions nothing is known
        return False
    return any(x.name == "render_mode" or x.kind is inspect.Parameter.VAR_KEYWORD for x in parameters)


def _recorder(env: gymnasium.Env[Any, Any], folder: Path) -> gymnasium.Env[Any, Any]:
    if has_encoder():
        return RecordVideo(env, str(folder), episode_trigger=lambda _: True, name_prefix="video")
    return RecordGif(env, str(folder))
