"""What is wrong with a configuration, a sentence for each key: where, what, and what to write.

The words are ours, the findings are pydantic's. A value that may be a secret is never shown.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from release.configuration.key import (
    Key,
    is_named,
    is_secret,
    place_of,
    settings_of,
    table_in,
    table_of,
    variable_of,
)
from release.duration import say_duration
from release.wording import nearest, there_is

_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_VERBS = ("is ", "holds ", "has ", "names ", "does ", "begins ")
_SHOWN = 40  # characters of a value


def misplaced(model: type[BaseModel], table: Mapping[str, Any], at: Key = ()) -> Iterator[str]:
    """A sentence for each value where a table belongs, and each table where a value does."""
    for key, value in table.items():
        field = settings_of(model).get(key)
        if field is None:
            continue
        where = (*at, key)
        inner = table_in(field.annotation)
        if inner is None:
            if isinstance(value, dict) and get_origin(field.annotation) is not dict:
                yield f"{_dotted(where)} is a table; it is {_kind(field)}: {_line(key, field)}"
            continue
        named = is_named(field)
        if not isinstance(value, dict):
            yield _no_table(where, value, inner, named)
            continue
        for name, found in value.items() if named else [("", value)]:
            inside = (*where, name) if name else where
            if isinstance(found, dict):
                yield from misplaced(table_of(field.annotation, found) or inner, found, inside)
            else:
                yield _no_table(inside, found, inner, False)


def explain(
    model: type[BaseModel], problems: Iterable[ErrorDetails], variables: Collection[str] = ()
) -> tuple[str, list[str]]:
    """All that pydantic found, in one sentence; and which of the ``variables`` it concerns.

    A value that a variable has set is called by the variable's name.
    """
    said, wrong = [], []
    for problem in problems:
        location, above = place_of(model, problem["loc"])
        variable = variable_of(*location)
        wrong += [variable] if variable in variables else []
        name = variable if variable in variables else _dotted(location)
        said.append(_explain(above, problem, location, name))
    return "; ".join(dict.fromkeys(said)), wrong


def _explain(
    above: type[BaseModel], problem: ErrorDetails, location: Sequence[str], key: str
) -> str:
    kind = problem["type"]
    field = settings_of(above).get(location[-1]) if location else None
    if kind == "extra_forbidden":
        return f"{key} is not a setting{there_is(location[-1], settings_of(above))}"
    if kind == "union_tag_invalid":
        context = problem["ctx"]
        known = re.findall(r"'([^']*)'", context["expected_tags"])
        return _no_choice(f"{key}.kind", known, context["tag"])
    if kind == "missing" and field is not None:
        inner = table_in(field.annotation)
        if inner is not None:
            return f"the table [{key}] is missing; it needs: {_needs(inner)}"
        return f"{key} is missing: {_line(location[-1], field)}"
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        joined = f"{key} {message}" if message.startswith(_VERBS) else f"{key}: {message}"
        return joined if key else message
    if kind == "literal_error" and field is not None:
        return _no_choice(key, get_args(field.annotation), problem["input"])
    if kind in _BOUNDS and field is not None:
        name, words = _BOUNDS[kind]
        bound = next((getattr(one, name) for one in field.metadata if hasattr(one, name)), None)
        return f"{key} is {_say(problem['input'])}, and must be {words} {_say(bound)}"
    if kind == "too_short":
        return f"{key} is an empty list: {_line(location[-1], field)}"
    if field is not None and not table_in(field.annotation):
        found = "" if is_secret(field) else f" is {_say(problem['input'])}, and"
        return f"{key}{found} must be {_kind(field)}: {_line(location[-1], field)}"
    return f"{key}: {problem['msg']}"


def _no_table(where: Iterable[str], value: Any, inner: type[BaseModel], named: bool) -> str:
    key = _dotted(where)
    many = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    found = f"[[{key}]] is a list of tables" if many else f"{key} is a value"
    if named:
        return f"{found}; it is a table for each name: [{key}.production]"
    return f"{found}; it is one table: [{key}], with its keys below: {_needs(inner)}"


def _needs(model: type[BaseModel]) -> str:
    """The keys that a table requires, or else those that it may have."""
    known = settings_of(model)
    required = [name for name, field in known.items() if field.is_required()]
    return ", ".join(required or known)


def _no_choice(key: str, known: Iterable[Any], value: Any) -> str:
    choices = [str(choice) for choice in known]
    listed = " or ".join(f'"{choice}"' for choice in choices)
    near = nearest(value, choices) if isinstance(value, str) else ""
    meant = f"; did you mean {near}?" if near else ""
    return f"{key} is {_say(value)}, and must be {listed}{meant}"


def _line(key: str, field: FieldInfo | None) -> str:
    """A line of the file, as an example."""
    annotation = field.annotation if field else str
    examples: dict[Any, str] = {int: "1", float: "0.5", bool: "true", timedelta: '"30 s"'}
    if get_origin(annotation) in (tuple, list):
        example = '["…"]'
    elif get_origin(annotation) is dict:
        example = '{NAME = "…"}'
    elif get_args(annotation) and isinstance(get_args(annotation)[0], str):
        example = f'"{get_args(annotation)[0]}"'
    else:
        example = examples.get(annotation, '"…"')
    return f"write {key} = {example}"


def _kind(field: FieldInfo) -> str:
    annotation = field.annotation
    kinds: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false, without quotes",
        timedelta: "a duration",
    }
    if get_origin(annotation) in (tuple, list):
        return "a list"
    if get_origin(annotation) is dict:
        return "a table of text"
    return kinds.get(annotation, "text in quotes")


def _say(value: Any) -> str:
    """A value as a file has it, on one line and short enough for a glance."""
    if isinstance(value, timedelta):
        return say_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list | tuple):
        return "a table" if isinstance(value, dict) else "a list"
    text = f"{value!r}" if isinstance(value, str) else f"{value}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _dotted(key: Iterable[str]) -> str:
    return ".".join(key)
