"""Writes docs/settings.md from the settings classes: `python -m docs.settings`.

A setting's description is the text below it in the code, so the two always agree.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from release.configuration.key import is_secret, kind_of, settings_of, tables_in, variable_of
from release.configuration.kinds import KindSettings
from release.duration import say_duration
from settings import Settings

PAGE = Path(__file__).with_suffix(".md")

_HEAD = """\
# Settings

Written by `python -m docs.settings` from the classes of [`settings.py`](../settings.py) and those
of `release/` that it combines, such as
[`release/configuration/rules.py`](../release/configuration/rules.py).
[`ignition.example.toml`](../ignition.example.toml) has the same settings as a file to copy.

Any setting can be overridden by a variable: `IGNITION_`, then the parts of its key in capitals,
with `__` between them and `_` for `-`:

```
{variable}="15 min"
```

A variable that would do nothing, such as one with a single `_` where `__` belongs, is refused, with
the name that was meant. A **secret** is read only from its variable; in the file it is refused. A
duration is a number with its unit (`500 ms`, `30 s`, `10 min`, `8 h`). A relative path starts at
the file's folder.
"""

_TITLES = {
    "": "The file itself",
    "environments.<name>": "An environment: `[environments.<name>]`",
}

_MANY = "*"  # after the key of a table that may stand in the file several times

Group = tuple[str, type[BaseModel]]


def page() -> str:
    """The whole page."""
    example = variable_of("environments", "production", "watch", "length")
    found = list(groups("", Settings))
    several = {key for key, many in Counter(key for key, _ in found).items() if many > 1}
    sections = (_section(group, group[0] in several) for group in found)
    return "\n".join([_HEAD.format(variable=example), *sections])


def groups(key: str, model: type[BaseModel]) -> Iterator[Group]:
    """Each table of the file with its key, in the order of the classes."""
    yield key, model
    for name, field in settings_of(model).items():
        for inner in _tables_in(field.annotation):
            named = [key, name, "<name>"] if _is_mapping(field.annotation) else [key, name]
            many = _MANY if get_origin(field.annotation) is tuple else ""
            yield from groups(".".join(filter(None, named)) + many, inner)


def setting_keys() -> Iterator[str]:
    """The full key of every setting."""
    for key, model in groups("", Settings):
        for name, field in settings_of(model).items():
            if not _tables_in(field.annotation):
                yield ".".join(filter(None, [key.removesuffix(_MANY), name]))


def _section(group: Group, one_of_several: bool) -> str:
    key, model = group
    rows = [
        f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {_text(key, name, field)} |"
        for name, field in in_reading_order(model).items()
        if not _tables_in(field.annotation)
    ]
    intro = "" if model is Settings else f"{one_line(model.__doc__ or '')}\n\n"
    shown = f"`[[{key.removesuffix(_MANY)}]]`" if key.endswith(_MANY) else f"`[{key}]`"
    kind = f' with `kind = "{kind_of(model)}"`' if one_of_several else ""
    title = _TITLES.get(key, f"{shown}{kind}")
    table = "\n".join(["| key | kind | default | meaning |", "|---|---|---|---|", *rows])
    return f"## {title}\n\n{intro}{table if rows else ''}\n"


def in_reading_order(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A table's settings: which kind it is, what is its own, then what all kinds have."""
    found = settings_of(model)
    if not issubclass(model, KindSettings):
        return found
    shared = {name for base in model.__bases__ for name in settings_of(base)} - {"kind"}
    return dict(sorted(found.items(), key=lambda one: (one[0] != "kind", one[0] in shared)))


def _tables_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The models of a nested table, or of those of a list."""
    if get_origin(annotation) is tuple:
        return tuple(table for one in get_args(annotation) for table in tables_in(one))
    return tables_in(annotation)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict


def _kind(annotation: Any) -> str:
    if annotation is SecretStr or SecretStr in get_args(annotation):
        return "secret"
    if annotation is timedelta or timedelta in get_args(annotation):
        return "duration"
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    names = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}
    names |= {Path: "path", Path | None: "path"}
    if get_origin(annotation) is tuple:
        return "list of whole numbers" if int in get_args(annotation) else "list of text"
    if _is_mapping(annotation):
        return "table of text"
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default
    if value in (None, "", (), PydanticUndefined) or isinstance(value, SecretStr):
        return "none"
    if isinstance(value, timedelta):
        return f"`{say_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{' '.join(value)}`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    return f"`{value}`" if value else "none"


def _text(key: str, name: str, field: FieldInfo) -> str:
    """The description; outside of code, ``<`` would begin an HTML tag."""
    said = one_line(field.description or "")
    if is_secret(field):
        said = f"{said} From {variable_of(*key.split('.'), name)}."
    parts = said.replace("|", "\\|").split("`")
    return "`".join(p if code % 2 else p.replace("<", "&lt;") for code, p in enumerate(parts))


def one_line(text: str) -> str:
    """A text that was written over several lines."""
    return " ".join(text.split())


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
