"""Writes ignition.example.toml from the settings classes: `python -m docs.example`.

A setting's comment is the text below it in the code, its line shows its default. What is written
here is the order of the chapters, and what a new team chooses: the lines that are marked EDIT.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.settings import in_reading_order, one_line
from release.configuration.key import (
    Key,
    is_secret,
    keys_of,
    kind_of,
    settings_of,
    tables_in,
    variable_of,
)
from release.duration import say_duration
from settings import Settings

FILE = Path(__file__).parents[1] / "ignition.example.toml"

_WIDTH = 100
_NAMES = ("staging", "production")

_HEAD = """\
# The configuration of ignition-deploy. Copy it to ignition.toml, edit the five lines marked
# "EDIT", set the variables listed under "Secrets", then type:  ignition doctor
#
# Written by `python -m docs.example` from the settings classes, as docs/settings.md is.
#
# - A line that starts with "#" and a key is a setting at its default: remove the "#" to change it.
#   Lines of prose start with "# ".
# - A duration is a number with its unit: "500 ms", "30 s", "10 min", "8 h", "1 h 30 min", "2 d".
#   A bare number is refused.
# - A relative path starts at this file's folder.
# - Any value can be overridden by a variable, with "__" between the parts of its key, and "_" for
#   "-": IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH="15 min"
# - An unknown key is an error that names the nearest known one; so is a variable with a single "_"
#   where "__" belongs.
#
# Secrets never go into this file; one that does is refused. They are these variables:
"""

_CHAPTERS = {
    "service": "What is deployed",
    "repository": "Where source and images are",
    "ledger": "The record",
    "approvers": "Gates",
    "environments": "Environments",
}

_OF_ENVIRONMENTS = """\
prefect.yaml has deployments for these two. A name is lower-case letters, digits and "-", 32 at
most; the first is a letter. What is left out for an environment is as shown for production."""

_STAGING = """\
[environments.staging]
# EDIT 4. The public address, as users reach it. Required.
url = "https://staging.example.com"

# Nothing is tested before staging, so no other environment is its evidence.
#staging = ""

# The nightly deployment waits for one that a person started, instead of being refused.
#wait_for_others = "30 min"

[environments.staging.orchestrator]
directory = "deploy/staging"

[environments.staging.gate]
approval = "evidence"  # nobody watches the nightly deployment
"""

_EDITS: dict[Key, int] = {
    ("service", "name"): 1,
    ("repository", "url"): 2,
    ("registry", "address"): 3,
    ("environments", "production", "url"): 5,
}
_CHOSEN: dict[Key, str] = {("environments", "production", "staging"): "staging"}


def text() -> str:
    """The whole file."""
    parts = [_head(), *_values(Settings, (), used=True)]
    for name, field in settings_of(Settings).items():
        if name in _CHAPTERS:
            parts += ["", f"# ── {_CHAPTERS[name]} ".ljust(_WIDTH, "─")]
        for model in tables_in(field.annotation)[:1]:
            if name == "environments":
                parts += [*_comment(_OF_ENVIRONMENTS), "", _STAGING.rstrip()]
                parts += _tables(model, (name, "production"), used=True)
            else:
                others = tuple(map(kind_of, tables_in(field.annotation)[1:]))
                parts += _tables(model, (name,), field.is_required(), others)
    return "\n".join(parts) + "\n"


def _head() -> str:
    secrets = [key for key, field in keys_of(Settings, _NAMES) if is_secret(field)]
    always = {key for key in secrets if _needed(key)}
    listed = (
        "".join(f"\n#   {variable_of(*key)}" for key in secrets if (key in always) is needed)
        for needed in (True, False)
    )
    return _HEAD.rstrip() + "\n# and, where they are used:".join(listed) + "\n"


def _needed(key: Key) -> bool:
    """Whether nothing works without this secret."""
    model: type[BaseModel] = Settings
    for part in key[:-1]:
        field = settings_of(model).get(part)
        model = next(iter(tables_in(field.annotation)), model) if field else model
    needs = getattr(model, "needs", ())
    return any(need.secret == key[-1] and not need.asked_by for need in needs)


def _tables(
    model: type[BaseModel], key: Key, used: bool, others: Sequence[str] = ()
) -> Iterator[str]:
    """A table and those in it; one that is not ``used`` is a comment.

    It may be of ``others`` among the kinds, too, which have settings of their own.
    """
    yield from _table(model, f"[{'.'.join(key)}]", key, used, others)
    for name, field in settings_of(model).items():
        for inner in tables_in(field.annotation)[:1]:
            others = map(kind_of, tables_in(field.annotation)[1:])
            yield from _tables(inner, (*key, name), field.is_required(), tuple(others))
        for inner in _listed(field):
            yield from _table(inner, f"[[{'.'.join((*key, name))}]]", (*key, name), used=False)


def _table(
    model: type[BaseModel], header: str, key: Key, used: bool, others: Sequence[str] = ()
) -> Iterator[str]:
    yield ""
    yield from _comment(one_line(model.__doc__ or ""))
    yield header if used else f"#{header}"
    for line in _values(model, key, used):
        more = "".join(f' or "{other}"' for other in others).removeprefix(" or ")
        is_kind = others and re.match(r"#?kind = ", line)
        yield f"{line}  # or {more}: docs/settings.md" if is_kind else line


def _values(model: type[BaseModel], key: Key, used: bool) -> Iterator[str]:
    """Each value of a table: its comment, and its line. Secrets have no line, and come first."""
    values = {
        name: field
        for name, field in in_reading_order(model).items()
        if not tables_in(field.annotation) and not _listed(field)
    }
    secrets = [name for name, field in values.items() if is_secret(field)]
    for name in secrets:
        yield from _comment(f"Secret: {variable_of(*key, name)}. {_said(values.pop(name))}")
    if secrets and values:
        yield ""
    for name, field in values.items():
        here = (*key, name)
        number = f"EDIT {_EDITS[here]}. " if here in _EDITS else ""
        required = " Required." if field.is_required() else ""
        yield from _comment(f"{number}{_said(field)}{required}")
        yield _line(here, field, used)
        if number:
            yield ""


def _line(key: Key, field: FieldInfo, used: bool) -> str:
    value = _CHOSEN.get(key, next(iter(field.examples or ()), field.default))
    taken_in = key in _CHOSEN or (used and field.is_required())
    limits = _limits(field)
    return f"{'' if taken_in else '#'}{key[-1]} = {_toml(value)}{f'  # {limits}' if limits else ''}"


def _limits(field: FieldInfo) -> str:
    """What the value may be, besides what is shown."""
    if get_origin(field.annotation) is Literal:
        choices = [json.dumps(choice) for choice in get_args(field.annotation)]
        return " or ".join(choices) if len(choices) > 1 else ""
    bound = {
        name: _toml(value).strip('"')
        for one in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(one, name, None)) is not None
    }
    least, most = bound.get("ge", ""), bound.get("le", "")
    if least and most:
        return f"{least} to {most}"
    words = {"gt": "more than", "lt": "less than", "le": "at most"}
    said = [f"{words[name]} {bound[name]}" for name in words if name in bound]
    zero = {"more than 0 s", "more than 0"}  # where 0 is plainly wrong, it needs no word
    return ", ".join(one for one in said if one not in zero)


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, timedelta):
        return f'"{say_duration(value) if value else "0 s"}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{}" if not value else json.dumps(value)
    written = str(value)
    return f"'{written}'" if '"' in written else f'"{written}"'


def _listed(field: FieldInfo) -> Iterable[type[BaseModel]]:
    """The model of a list of tables."""
    if get_origin(field.annotation) is not tuple:
        return ()
    return [one for one in get_args(field.annotation) if tables_in(one)]


def _said(field: FieldInfo) -> str:
    return one_line(field.description or "")


def _comment(words: str) -> list[str]:
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def main() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE.name}")


if __name__ == "__main__":
    main()
