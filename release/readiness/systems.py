"""What the systems answered when they were asked whether they are ready."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Readiness:
    """One system's answer; ``problem`` is empty if all is well."""

    name: str
    problem: str = ""
    hint: str = ""
    configuration: bool = False  # the system is there, what we know of it is wrong
    needed: bool = True  # False: a deployment goes on without it, and says so
    found: str = ""  # what there is to say of it where all is well

    @property
    def ok(self) -> bool:
        return not self.problem


_SETTINGS = {
    "repository": "repository.url",
    "image builder": "registry.engine",
    "registry": "registry.address",
    "orchestrator": "environments.{}.orchestrator",
    "router": "environments.{}.router",
    "metrics": "environments.{}.metrics",
    "auth flow": "environments.{}.auth",
    "public address": "environments.{}.url",
}
_VARIABLES = {
    "ledger": "IGNITION_LEDGER__DSN",
    "database": "IGNITION_ENVIRONMENTS__{}__DATABASE__DSN",
}
_CIRCULAR = "ignition doctor"


def with_way_out(answer: Readiness, environment: str, configuration: str) -> Readiness:
    """The answer as doctor gives it: its hint is never to ask doctor, but what to edit or set."""
    if answer.ok or (answer.hint and _CIRCULAR not in answer.hint):
        if answer.hint.startswith("edit service."):
            return replace(answer, hint=f"{answer.hint} in {configuration}, then: ignition setup")
        return answer
    if answer.name in _VARIABLES:
        variable = _VARIABLES[answer.name].format(environment.upper().replace("-", "_"))
        return replace(answer, hint=f"start it, or set {variable}, then: ignition setup")
    if answer.name not in _SETTINGS:
        return replace(answer, hint="")
    setting = _SETTINGS[answer.name].format(environment)
    return replace(answer, hint=f"edit {setting} in {configuration}, then: ignition setup")


def blocking(answers: Sequence[Readiness]) -> list[Readiness]:
    """The answers with a problem that stops any deployment."""
    return [answer for answer in answers if not answer.ok and answer.needed]


def warnings(answers: Sequence[Readiness]) -> tuple[str, ...]:
    """The systems that a deployment goes on without, a sentence each."""
    return tuple(f"{a.name}: {a.problem}" for a in answers if not a.ok and not a.needed)


def summary(answers: Sequence[Readiness]) -> str:
    """All problems in one sentence, each with the system's name."""
    return "; ".join(f"{a.name}: {a.problem}" for a in answers if not a.ok)
