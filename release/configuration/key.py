"""The keys of the configuration: its tables, its secrets, and the variables that set them."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from release.wording import nearest

PREFIX = "IGNITION_"
_OWN = ("CONFIG", "HOME", "PYTHON", "BROWSER_TRIES", "KEEP_TEST_SANDBOX", "IMAGE_REGISTRY")
_OWN_OF_THE_SANDBOX = ("SANDBOX", "ORIGIN", "PRODUCTION_URL", "STAGING_URL")
_ALIKE = 0.85  # how alike two names are that cannot be told apart at a glance
_KINDS: dict[Any, str] = {tuple: "list", list: "list", dict: "table"}
_EXAMPLES = {"list": '["one", "two"]', "table": '{"NAME": "value"}'}

Key = tuple[str, ...]


def variable_of(*key: str) -> str:
    """The environment variable that sets a key: IGNITION_ENVIRONMENTS__EU_WEST__DATABASE__DSN."""
    return PREFIX + "__".join(key).upper().replace("-", "_")


def settings_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """What a table may hold, by its keys. In the code one may have another name."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def tables_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The models of a nested table, one for each kind that it may be of, the usual one first.

    It may be left out, or have a name of its own. A list is a value, whatever it holds.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return tables_in(inner[0])
    if get_origin(annotation) not in (dict, Union, UnionType):
        return ()
    return tuple(table for one in inner for table in tables_in(one))


def table_in(annotation: Any) -> type[BaseModel] | None:
    """The usual one of :func:`tables_in`. Returns None if the annotation is of a value."""
    return next(iter(tables_in(annotation)), None)


def kind_of(model: type[BaseModel]) -> str:
    """The ``kind`` of a table of this model; "" if there is only one kind."""
    field = model.model_fields.get("kind")
    return str(field.default) if field else ""


def table_of(annotation: Any, table: Mapping[str, Any]) -> type[BaseModel] | None:
    """The model of a nested table by the ``kind`` that it names; the usual one where it does not.

    Returns None if the annotation is of a value.
    """
    models = tables_in(annotation)
    named = (model for model in models if kind_of(model) and kind_of(model) == table.get("kind"))
    return next(named, next(iter(models), None))


def is_named(field: FieldInfo) -> bool:
    """Whether the tables of a field have names of their own: ``[environments.production]``."""
    return get_origin(field.annotation) is dict and bool(tables_in(field.annotation))


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is a secret."""
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def keys_of(
    model: type[BaseModel], names: Iterable[str] = ("*",)
) -> Iterator[tuple[Key, FieldInfo]]:
    """Every setting that is a value, with its key; once for each of the environments' ``names``.

    Of a table that may be of several kinds, the settings of all of them.
    """
    names = tuple(names)
    for key, field in settings_of(model).items():
        tables = tables_in(field.annotation)
        if not tables:
            yield (key,), field
            continue
        below = {key: found for table in tables for key, found in keys_of(table, names)}
        for name in names if is_named(field) else ("",):
            yield from (
                ((key, *filter(None, [name]), *inner), found) for inner, found in below.items()
            )


def secret_keys(model: type[BaseModel], table: Mapping[str, Any]) -> Iterator[Key]:
    """The keys in ``table`` whose values are secrets, as ``model`` knows them."""
    for key, value in table.items():
        field = settings_of(model).get(key)
        if field is None:
            continue
        if not tables_in(field.annotation):
            if is_secret(field):
                yield (key,)
        elif isinstance(value, dict):
            for name, found in value.items() if is_named(field) else [("", value)]:
                inner = table_of(field.annotation, found) if isinstance(found, dict) else None
                if inner is not None:
                    yield from ((key, *filter(None, [name]), *k) for k in secret_keys(inner, found))


def place_of(model: type[BaseModel], location: Iterable[Any]) -> tuple[Key, type[BaseModel]]:
    """The key at a location as pydantic gives it, and the model of the table that the key is in.

    Pydantic's has the kind of a table behind the table; a mapping's keys (names) are not tables.
    """
    key: list[str] = []
    tables: tuple[type[BaseModel], ...] = (model,)
    for part in map(str, location):
        of_kind = [table for table in tables if kind_of(table) == part]
        if len(tables) > 1 and of_kind:
            tables = (of_kind[0],)
            continue
        model = tables[0]
        key.append(part)
        field = settings_of(model).get(part)
        if field is not None:
            tables = tables_in(field.annotation) or tables
    return tuple(key), model


def refused_variables(
    model: type[BaseModel], variables: Mapping[str, str], names: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Each variable that would do nothing or cannot be read, with a sentence and what to type.

    ``names`` are the environments that the file has; one that variables alone make has its address
    and its folder among them. A name that resembles no setting, such as IGNITION_HOME, is left
    alone. No value is shown, because it may be a secret.
    """
    given = {name.upper(): name for name in variables if name.upper().startswith(PREFIX)}
    values = {name: variables[written] for name, written in given.items()}
    environments = {*names, *_made_by(values, model)}
    known = {variable_of(*key): field for key, field in keys_of(model, sorted(environments))}
    tables = {variable_of(key) for key in settings_of(model)}
    plain = {_plain(name): name for name in known}
    for name, written in given.items():
        keys = [each for each in known if each.startswith(f"{name}__")]
        if name in known or keys:
            if kind := _unreadable(values[name], known.get(name)):
                whole = f"export {written}='{_EXAMPLES[kind]}'"
                hint = f"export {keys[0]}=…, one key each" if keys else whole
                yield f"variable {written} is a {kind}, and its value is not one in JSON", hint
        elif not _is_own(name) and not _inside_of_one(name, known):
            meant = _meant(name, plain, tables)
            wrong = f"variable {written} is not a setting"
            if meant:
                hint = f"unset {written}, and export {meant}=…"
                yield f"{wrong}; did you mean {meant}?", hint
            elif "__" in name or any(name.startswith(f"{table}_") for table in tables):
                yield f"{wrong}, so it would do nothing", f"unset {written}"


def _unreadable(value: str, field: FieldInfo | None) -> str:
    """What a variable should hold and does not: "list" or "table"; "" if it is right.

    ``field`` is None for a whole table of settings.
    """
    kind = "table" if field is None else _KINDS.get(get_origin(field.annotation), "")
    if not kind:
        return ""
    try:
        held = json.loads(value)
    except ValueError:
        return kind
    return "" if isinstance(held, list if kind == "list" else dict) else kind


def _made_by(variables: Mapping[str, str], model: type[BaseModel]) -> Iterator[str]:
    """The environments that variables make by themselves: those for which they set every required
    key, key by key or in JSON."""
    whole = f"{PREFIX}ENVIRONMENTS"
    needed = [
        keys
        for table in tables_in(settings_of(model)["environments"].annotation)
        for keys in _needed(table)
    ]
    yield from _names_in(variables.get(whole, ""))
    for name, value in variables.items():
        inner, _, key = name.removeprefix(f"{whole}__").partition("__")
        if not name.startswith(f"{whole}__"):
            continue
        of_one = f"{whole}__{inner}__"
        by_key = any(
            all(of_one + "__".join(one).upper() in variables for one in keys) for keys in needed
        )
        if by_key or (not key and _names_in(value)):
            yield inner.lower().replace("_", "-")


def _needed(model: type[BaseModel]) -> Iterator[frozenset[Key]]:
    """The keys that a table requires, once for each choice of kinds."""
    required = {key: field for key, field in settings_of(model).items() if field.is_required()}
    values = frozenset((key,) for key, field in required.items() if not tables_in(field.annotation))
    tables = [
        [
            frozenset((key, *inner) for inner in keys)
            for table in tables_in(field.annotation)
            for keys in _needed(table)
        ]
        for key, field in required.items()
        if tables_in(field.annotation)
    ]
    for choice in product(*tables):
        yield values.union(*choice)


def _names_in(value: str) -> list[str]:
    """The names of an object in JSON; none if the value is not an object."""
    try:
        held = json.loads(value)
    except ValueError:
        return []
    return list(held) if isinstance(held, dict) else []


def _meant(name: str, plain: Mapping[str, str], tables: Iterable[str]) -> str:
    """The variable that was probably meant; "" if none is close."""
    written = _plain(name)
    forgotten = _plain(f"{PREFIX}ENVIRONMENTS_{name.removeprefix(PREFIX)}")
    for same in (written, forgotten):
        if same in plain:
            return plain[same]
    if near := difflib.get_close_matches(written, plain, n=1, cutoff=_ALIKE):
        return plain[near[0]]
    table, nested, rest = name.removeprefix(PREFIX).partition("__")
    meant = nearest(PREFIX + table, tables) if nested else ""
    return f"{meant}__{rest}" if meant and meant != PREFIX + table else ""


def _plain(name: str) -> str:
    """A variable's name without its prefix, with one underscore wherever there are more."""
    return "_".join(filter(None, name.removeprefix(PREFIX).split("_")))


def _is_own(name: str) -> bool:
    rest = name.removeprefix(PREFIX)
    return rest in (*_OWN, *_OWN_OF_THE_SANDBOX) or rest.startswith("SANDBOX_")


def _inside_of_one(name: str, known: Mapping[str, FieldInfo]) -> bool:
    """Whether a variable sets one entry of a setting that is a table of text."""
    return any(
        name.startswith(f"{each}__") and get_origin(field.annotation) is dict
        for each, field in known.items()
    )
