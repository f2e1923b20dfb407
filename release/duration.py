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
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*")


def parse_duration(value: object) -> timedelta:
    """Read a duration with its unit. A bare number is refused: 300 of what?

    Raises ValueError, so that a settings model names the field.
    """
    if isinstance(value, timedelta):
        return value
    found = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{value!r} is no duration: write a number and a unit (ms, s, min, h, d), as '30 s'"
        )
    return float(found[1]) * _UNITS[found[2]]


def say_duration(length: timedelta) -> str:
    """Write a duration the way log lines and artifacts show it: ``7 min 12 s``, ``3.1 s``."""
    seconds = length.total_seconds()
    if seconds < 0:
        return f"-{say_duration(-length)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    if rest or not (hours or minutes):
        parts.append(f"{rest} s")
    return " ".join(part for part in parts if part)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(say_duration, return_type=str, when_used="json"),
]
