"""The base of all our blocks: a Prefect block whose JSON schema is made once per process."""

from copy import deepcopy
from functools import cache
from typing import Any

from prefect.blocks.core import Block
from pydantic import ConfigDict, model_validator

_make: Any = Block.model_json_schema.__func__  # type: ignore[attr-defined]  # for any class

_MARKS = ("block_type_slug", "_block_document_id", "_block_document_name", "_is_anonymous")


@cache
def _made_once(part: type, args: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Any:
    return _make(part, *args, **dict(named))


class Part(Block):
    """A part of an environment.

    Prefect 3.8 asks for the whole schema once per field when it saves a block: with blocks within
    blocks, `ignition setup` spent 26 of its 47 s on the same few schemas.

    A part may have a class of settings for its base: their fields are then its own, with their
    descriptions and checks. A field that is not known is an error, as in the configuration: what
    an older version saved is not used in part.
    """

    model_config = ConfigDict(
        frozen=False,
        extra="forbid",
        hide_input_in_errors=True,  # it may be a secret
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_marks(cls, values: Any) -> Any:
        """Leave out what Prefect writes beside the fields of a block within a block."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key not in _MARKS}

    @classmethod
    def model_json_schema(cls, *args: Any, **named: Any) -> dict[str, Any]:
        """Block's own, of which this is a copy: Prefect changes what it gets."""
        return deepcopy(_made_once(cls, args, tuple(sorted(named.items()))))
