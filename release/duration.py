"""Lengths of time as people write them: ``500 ms``, ``30 s``, ``10 min``, ``8 h``, ``2 d``."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_PART = r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h|d)"
_TEXT = re.compile(rf"\s*{_PART}(\s+{_PART})*\s*")


def parse_duration(value: object) -> timedelta:
    """Read a duration with its unit, or several: ``1 h 30 min``, as :func:`say_duration` writes it.

    A bare number is refused: 300 of what? Raises ValueError, so that a settings model names the
    field.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a duration: write a number and a unit (ms, s, min, h, d), as '30 s'"
        )
    try:
        return sum(
            (float(number) * _UNITS[unit] for number, unit in re.findall(_PART, value)), timedelta()
        )
    except OverflowError:
        raise ValueError(f"{value!r} is longer than any deployment") from None


def say_duration(length: timedelta) -> str:
    """Write a duration the way log lines and artifacts show it: ``7 min 12 s``, ``3.1 s``."""
    seconds = length.total_seconds()
    if seconds < 0:
        return f"-{say_duration(-length)}"
    if seconds < 0.9995:  # above it the milliseconds round to 1 s
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    if rest or not (hours or minutes):
        parts.append(f"{rest} s")
    return " ".join(part for part in parts if part)


def write_duration(length: timedelta) -> str:
    """Write a duration for :func:`parse_duration`, which reads the very same from it."""
    said = say_duration(length)
    if length >= timedelta() and parse_duration(said) == length:
        return said
    return f"{length / timedelta(milliseconds=1):.3f} ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(write_duration, return_type=str, when_used="json"),
]
