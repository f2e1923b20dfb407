"""The base of all our blocks: a Prefect block whose JSON schema is made once per process."""

from copy import deepcopy
from functools import cache
from typing import Any

from prefect.blocks.core import Block

_make: Any = Block.model_json_schema.__func__  # type: ignore[attr-defined]  # for any class


@cache
def _made_once(part: type, args: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Any:
    return _make(part, *args, **dict(named))


class Part(Block):
    """A part of an environment.

    Prefect 3.8 asks for the whole schema once per field when it saves a block: with blocks within
    blocks, `ignition setup` spent 26 of its 47 s on the same few schemas.
    """

    @classmethod
    def model_json_schema(cls, *args: Any, **named: Any) -> dict[str, Any]:
        """Block's own, of which this is a copy: Prefect changes what it gets."""
        return deepcopy(_made_once(cls, args, tuple(sorted(named.items()))))
