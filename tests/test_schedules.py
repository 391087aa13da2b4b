"""Schedules: ends are exact, text round-trips, errors show the syntax."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrl.schedules import Schedule, constant, linear, parse

numbers = st.floats(-1e6, 1e6)
fractions = st.floats(1e-3, 1)


@given(numbers, st.floats(0, 2))
def test_constant_is_exact_everywhere(value: float, progress: float) -> None:
    assert constant(value)(progress) == value


@given(numbers, numbers, fractions, st.floats(0, 1), st.floats(0, 1))
def test_linear_is_exact_at_its_ends_and_monotone(
    start: float, end: float, fraction: float, one: float, other: float
) -> None:
    schedule = linear(start, end, fraction)
    assert schedule(0) == start
    assert schedule(fraction) == schedule(1) == schedule(1.1) == end
    former, later = sorted([one * fraction * 0.999, other * fraction * 0.999])
    between = sorted([start, end])
    slack = 1e-9 * (abs(start) + abs(end))
    assert between[0] - slack <= schedule(former) <= between[1] + slack
    assert (schedule(later) - schedule(former)) * (1 if end >= start else -1) >= -slack


def test_linear_by_hand() -> None:
    epsilon = linear(1.0, 0.05, 0.1)
    assert epsilon(0.05) == pytest.approx(0.525)
    assert epsilon(0.5) == 0.05


@pytest.mark.parametrize(
    ("value", "schedule"),
    [
        (3e-4, constant(3e-4)),
        (1, constant(1.0)),
        ("3e-4", constant(3e-4)),
        ("linear:3e-4:0", linear(3e-4, 0.0)),
        (" linear:1:0.05:0.1 ", linear(1.0, 0.05, 0.1)),
        (linear(1, 0), linear(1, 0)),
    ],
)
def test_parse(value: float | str | Schedule, schedule: Schedule) -> None:
    assert parse(value) == schedule


@given(numbers, numbers, fractions)
def test_text_round_trips(start: float, end: float, fraction: float) -> None:
    schedule = linear(start, end, fraction)
    again = parse(str(schedule))
    assert all(again(p / 8) == schedule(p / 8) for p in range(9))


@pytest.mark.parametrize(
    "text", ["lin_3e-4", "linear_3e-4", "linear", "linear:1", "linear:1:2:0.5:4", "fast", ""]
)
def test_syntax_errors_show_the_syntax(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a number or linear:start:end\[:fraction\], as .*, got"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear:1:0:0", r"fraction must be in \(0, 1\], got 0.0"),
        ("linear:1:0:2", r"fraction must be in \(0, 1\], got 2.0"),
        ("nan", "start must be finite, got nan"),
        ("linear:1:inf", "end must be finite, got inf"),
    ],
)
def test_values_out_of_range_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("progress", [-0.1, float("nan")])
def test_impossible_progress_is_refused(progress: float) -> None:
    with pytest.raises(ValueError, match="progress must be >= 0"):
        linear(1, 0)(progress)
