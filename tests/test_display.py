"""The display: what it shows on a terminal and in a pipe, and how seldom it draws."""

import contextlib
import io
import subprocess
import sys
from itertools import pairwise

import pytest
from rich.console import Console

from fastrl import display
from fastrl.display import Display

METRICS = {
    "rollout/ep_rew_mean": 187.25,
    "rollout/ep_len_mean": 190.0,
    "time/fps": 7.0,
    "train/approx_kl": 0.0081,
}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(display.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def terminal(width: int = 100) -> Console:
    return Console(
        force_terminal=True, width=width, file=io.StringIO(), record=True, _environ={"TERM": "xterm"}
    )


def test_terminal_shows_progress_speed_time_left_return_and_shares(clock: Clock) -> None:
    console = terminal()
    with Display(1000, "PPO on CartPole-v1", console=console) as shown:
        clock.now += 1
        shown.update(100, METRICS, {"env": 1.0, "policy": 1.0, "update": 2.0})
        console.export_text(clear=True)
        clock.now += 4
        shown.update(900)
        text = console.export_text()
    assert text.splitlines() == [
        "── PPO on CartPole-v1 ──────────────────────────────",
        "steps     ━━━━━━━━━━━━━━━━━━━━━━━━  90%  900 of 1,000",
        "speed     180 steps/s  (average 180)",
        "time      0:00:05  (0:00:01 left)",
        "return    187.2",
        "length    190.0",
        "spent in  ━━━━━━━━━━━━━━━━━━━━━━━━  env 25%  policy 25%  update 50%",
        "update    approx_kl 0.0081",
    ]


def test_speed_is_of_the_last_seconds_and_of_the_steps_since_resuming(clock: Clock) -> None:
    console = terminal()
    with Display(20_000, "DQN", initial_step=10_000, console=console) as shown:
        for second in range(1, 11):
            clock.now += 1
            console.export_text(clear=True)
            shown.update(10_000 + (100 * second if second <= 5 else 500 + 20 * (second - 5)))
        assert "speed     20 steps/s  (average 60)" in console.export_text(clear=False)
        assert f"(0:0{9400 // 20 // 60}:50 left)" in console.export_text()


def test_draws_at_most_eight_times_a_second_and_once_at_the_end(clock: Clock) -> None:
    console = terminal()
    draws = []
    with Display(1000, "PPO", console=console) as shown:
        refresh = shown._live.update
        shown._live.update = lambda *args, **kwargs: (draws.append(clock.now), refresh(*args, **kwargs))  # type: ignore
        for step in range(1, 101):
            clock.now += 1 / 64
            shown.update(step)
        assert 10 <= len(draws) <= 13
        assert min(later - former for former, later in pairwise(draws)) >= 1 / 8
    assert len(draws) <= 14


def test_slow_drawing_makes_drawing_seldom(clock: Clock) -> None:
    console = terminal()
    with Display(1000, "PPO", console=console) as shown:
        refresh = shown._live.update

        def slow(*args: object, **kwargs: object) -> None:
            clock.now += 0.01
            refresh(*args, **kwargs)  # type: ignore[arg-type]

        shown._live.update = slow  # type: ignore[assignment,method-assign]
        begin = clock.now
        for step in range(1, 1001):
            clock.now += 0.01
            shown.update(step)
        drawn = clock.now - begin - 10
        assert drawn <= 0.006 * (clock.now - begin)


def test_a_narrow_terminal_crops_lines_instead_of_wrapping_them(clock: Clock) -> None:
    console = terminal(30)
    with Display(1000, "PPO on CartPole-v1", console=console) as shown:
        console.export_text(clear=True)
        shown.update(1, METRICS)
        lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines] == [
        "──",
        "steps",
        "speed",
        "time",
        "return",
        "length",
        "update",
    ]
    assert max(map(len, lines)) <= 30


def test_a_pipe_gets_a_line_every_tenth(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(1000, "PPO on CartPole-v1") as shown:
        for step in range(1, 1001):
            clock.now += 0.001
            shown.update(step, METRICS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[4] == (
        "PPO on CartPole-v1   50%  500 steps  1,000 steps/s  0:00:01 left  return 187.2  length 190.0"
    )
    assert all(line.isascii() for line in lines)


def test_a_pipe_gets_a_line_every_five_seconds_and_the_last(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(KeyboardInterrupt), Display(10**9, "PPO") as shown:
        for step in range(1, 14):
            clock.now += 1
            shown.update(step)
        raise KeyboardInterrupt
    assert [line.split("steps")[0] for line in capsys.readouterr().out.splitlines()] == [
        "PPO    0%  5 ",
        "PPO    0%  10 ",
        "PPO    0%  13 ",
    ]


def test_no_time_left_is_told_before_the_first_step(clock: Clock) -> None:
    console = terminal()
    with Display(10, "PPO", console=console) as shown:
        shown.update(0)
        assert "time      0:00:00  (? left)" in console.export_text()


def test_a_pipe_never_imports_rich() -> None:
    script = """if True:
        import sys
        from fastrl.display import Display
        with Display(10, "PPO") as shown:
            shown.update(10)
        assert not any(name.split(".")[0] == "rich" for name in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
