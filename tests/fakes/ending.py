"""How a run ended, read off its last Prefect state."""

from typing import Any

from prefect.client.schemas.objects import State

from release.outcome import ending_in


def ending_of(state: State[Any]) -> str:
    """An ending's name, as ``release.outcome.Ending`` has it; before the end, the state's own."""
    return ending_in(state.message) or state.name or ""
