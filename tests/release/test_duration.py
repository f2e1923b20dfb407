"""Lengths of time, as people write and read them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.duration import parse_duration, say_duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("500 ms", timedelta(milliseconds=500)),
        ("30 s", timedelta(seconds=30)),
        ("30s", timedelta(seconds=30)),
        (" 10  min ", timedelta(minutes=10)),
        ("0.5 h", timedelta(minutes=30)),
        ("8 h", timedelta(hours=8)),
        ("2 d", timedelta(days=2)),
        ("0 s", timedelta()),
        ("1 h 30 min", timedelta(minutes=90)),
        ("7 min 12 s", timedelta(seconds=432)),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "value",
    ["300", 300, 4.5, "", "s", "-5 s", "1e3 s", "5 m", "5 minutes", "30 S", "1 h30 x", "٣ s", None],
)
def test_a_number_without_a_known_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: write a number and a unit"):
        parse_duration(value)


def test_a_duration_that_no_clock_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than any deployment"):
        parse_duration("99999999999999 d")


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(), "0 ms"),
        (timedelta(milliseconds=4), "4 ms"),
        (timedelta(milliseconds=999), "999 ms"),
        (timedelta(milliseconds=999.7), "1 s"),
        (timedelta(seconds=1), "1 s"),
        (timedelta(seconds=3.14), "3.1 s"),
        (timedelta(seconds=9.96), "10 s"),
        (timedelta(seconds=10.4), "10 s"),
        (timedelta(seconds=59.7), "1 min"),
        (timedelta(seconds=432), "7 min 12 s"),
        (timedelta(hours=8), "8 h"),
        (timedelta(hours=1, seconds=5), "1 h 5 s"),
        (timedelta(days=2), "48 h"),
        (timedelta(seconds=-90), "-1 min 30 s"),
    ],
)
def test_a_duration_is_said_with_two_or_three_figures(length: timedelta, text: str) -> None:
    assert say_duration(length) == text


@given(st.integers(min_value=10, max_value=10_000_000))
def test_what_is_said_can_be_written_into_the_settings(seconds: int) -> None:
    length = timedelta(seconds=seconds)

    assert parse_duration(say_duration(length)) == length
