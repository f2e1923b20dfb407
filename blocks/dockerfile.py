"""Which images a Dockerfile builds on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_CONTINUED = re.compile(r"\\[ \t]*\r?\n")
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_ARG = re.compile(r"ARG\s+(.+)", re.IGNORECASE)
_DEFAULT = re.compile(r"(\w+)=(?:\"([^\"]*)\"|'([^']*)'|(\S*))")
_TAKEN = re.compile(r"(?:--from=|[,=]from=|--mount=from=)([^\s,]+)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
_EMPTY = "scratch"


@dataclass
class _Stage:
    base: str
    name: str
    takes: list[str] = field(default_factory=list)  # images and stages that it copies from


def base_images(text: str, arguments: Mapping[str, str]) -> tuple[str, ...]:
    """The images from elsewhere that the last stage needs, in their order.

    ``arguments`` are the build's, above the defaults that stand before the first FROM. A name
    whose variable has no value is left out: only the build knows it.
    Source: https://docs.docker.com/reference/dockerfile/
    """
    stages = _stages(text, arguments)
    found: dict[str, None] = {}
    wanted, seen = [len(stages) - 1] if stages else [], set[int]()
    while wanted:
        number = wanted.pop()
        if number in seen:
            continue
        seen.add(number)
        for name in (stages[number].base, *stages[number].takes):
            earlier = _stage_called(name, stages[:number])
            if earlier is not None:
                wanted.append(earlier)
            elif name and name != _EMPTY:
                found[name] = None
    return tuple(found)


def _stages(text: str, arguments: Mapping[str, str]) -> list[_Stage]:
    values: dict[str, str] = {}
    stages: list[_Stage] = []
    for line in _CONTINUED.sub(" ", _COMMENT.sub("", text)).splitlines():
        line = line.strip()
        if begun := _FROM.fullmatch(line):
            stages.append(_Stage(_filled(begun[1], values), (begun[2] or "").lower()))
        elif stages:
            stages[-1].takes += [_filled(name, values) for name in _TAKEN.findall(line)]
        elif declared := _ARG.fullmatch(line):
            for name, *quoted in _DEFAULT.findall(declared[1]):
                values[name] = next(filter(None, quoted), "")
            for name in re.findall(r"\w+", declared[1]):
                if name in arguments:
                    values[name] = arguments[name]
    return stages


def _filled(name: str, values: Mapping[str, str]) -> str:
    """A name with its variables filled in; empty if one has no value."""
    lacks = False

    def value(match: re.Match[str]) -> str:
        nonlocal lacks
        found = values.get(match[1] or match[3], "") or match[2] or ""
        lacks = lacks or not found
        return found

    filled = _VARIABLE.sub(value, name)
    return "" if lacks else filled


def _stage_called(name: str, stages: list[_Stage]) -> int | None:
    for number, stage in enumerate(stages):
        if stage.name and stage.name == name.lower():
            return number
    return int(name) if name.isdigit() and int(name) < len(stages) else None
