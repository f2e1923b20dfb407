"""How a run ended, read off its last Prefect state."""

from typing import Any

from prefect.client.schemas.objects import State


def ending_of(state: State[Any]) -> str:
    """The ending's name, as ``release.outcome.Ending`` has it; a state's own name before the end."""
    return state.name or ""
