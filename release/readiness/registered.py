"""What `ignition setup` would write now, compared with what the Prefect server holds."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from release.readiness.systems import Readiness
from release.wording import count_of

_SAID = 3  # things that are named; of more, how many there are


def differing(wanted: object, there: object, under: str = "") -> Iterator[str]:
    """The dotted keys at which two values differ; never a value, it may be a secret.

    Keys that only ``there`` has count as well. Lists are compared as a whole.
    """
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for key in sorted({*wanted, *there}):
            place = f"{under}.{key}" if under else str(key)
            yield from differing(wanted.get(key), there.get(key), place)
    elif wanted != there:
        yield under


def judge_registered(
    name: str,
    wanted: Mapping[str, Mapping[str, Any]],
    there: Mapping[str, Mapping[str, Any]],
    off: Mapping[str, str] | None = None,
    strays: bool = True,
) -> Readiness:
    """Whether everything that is wanted exists, is the same, and is on.

    ``off`` has a sentence for each that exists and is switched off; ``strays``: whatever exists and
    is not wanted is a fault.
    """
    missing = sorted(wanted.keys() - there.keys())
    problems = [_missing(missing, len(wanted))] if missing else []
    for one in sorted(wanted.keys() & there.keys()):
        keys = list(differing(wanted[one], there[one]))
        if keys:
            problems.append(f"{one} is not as this version writes it: {_few(keys)}")
    problems += [f"{one} {why}" for one, why in sorted((off or {}).items()) if one in wanted]
    if strays and (unknown := sorted(there.keys() - wanted.keys())):
        problems.append(f"nothing here uses {_few(unknown)}")
    if problems:
        return Readiness(name, "; ".join(problems), "ignition setup")
    return Readiness(name, found=f"{len(wanted)} as this version writes them")


def _missing(names: list[str], of: int) -> str:
    if len(names) == of:
        return f"none of {of} exists"
    return f"{_few(names)} {'is' if len(names) == 1 else 'are'} missing"


def _few(names: list[str]) -> str:
    rest = len(names) - _SAID
    shown = ", ".join(names[:_SAID])
    return f"{shown} and {count_of(rest, 'other')}" if rest > 0 else shown


_NEEDED_SERVICES = {
    "scheduler": "no schedule comes",
    "late_runs": "no run is marked as late",
    "event_persister": "no event is kept, and no automation sees one",
    "triggers": "no automation fires, so no run is recovered",
    "pause_expirations": "no gate expires",
    "foreman": "no worker is marked as offline",
}


def judge_server(
    name: str, address: str, version: str, ours: str, off: Collection[str]
) -> Readiness:
    """Whether the server is one that this version can work with, and its services are on.

    ``off``: its services that are switched off. A newer server is fine, as Prefect says of it.
    """
    for service, means in _NEEDED_SERVICES.items():
        if service in off:
            variable = f"PREFECT_SERVER_SERVICES_{service.upper()}_ENABLED"
            return Readiness(
                name,
                f"its service {service} is switched off: {means}",
                f"unset {variable} where the server is, then: prefect server start",
            )
    if _numbers(version) < _numbers(ours)[:2]:
        return Readiness(
            name,
            f"{address} is {version}, older than Prefect {ours} here",
            f"install prefect=={ours} where the server is, then: prefect server start",
        )
    return Readiness(name, found=f"{version} at {address}")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdigit()]
