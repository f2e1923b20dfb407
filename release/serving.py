"""What the addresses of an environment answer, as the settings of the service expect it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from release.model import Probe
from release.systems import Answer

_LONGEST = 80  # characters of an answer that are shown


@dataclass(frozen=True, slots=True)
class PortLook:
    """What a running instance answered at its own address."""

    instance: str
    probe: Probe


def judge_address(url: str, path: str, probe: Probe, is_new: bool) -> Answer:
    """Whether the public address answers. ``is_new``: nothing was deployed yet, so it need not."""
    name = "public address"
    if probe.ok:
        return Answer(name, found=f"{url}{path} answers {probe.status}")
    said = probe.detail or f"HTTP {probe.status}"
    if is_new:
        return Answer(name, found=f"serves nothing yet ({url}{path}: {said})")
    return Answer(name, f"{url}{path}: {said}", "see what runs: ignition status")


def judge_version(
    address: str, version: str | None, probe: Probe, health: Probe, is_new: bool
) -> Answer:
    """Whether the version path names the version of what serves."""
    name = "version field"
    if version is not None:
        return Answer(name, found=f"{address} says {version}")
    if is_new and not health.ok:
        return Answer(name, found="nothing to ask yet")
    return Answer(
        name,
        f"{address}: {probe.detail or f'HTTP {probe.status}'}",
        "edit service.version_path or service.version_field",
    )


def judge_port(port: int, path: str, looks: Sequence[PortLook]) -> Answer:
    """Whether the instances that run answer at the port that the service is said to listen on."""
    name = "port"
    wrong = [look for look in looks if not look.probe.ok]
    if not looks:
        return Answer(name, found="no instance runs yet")
    if not wrong:
        return Answer(name, found=f"{len(looks)} of {len(looks)} instances answer at {port}")
    said = wrong[0].probe.detail or f"HTTP {wrong[0].probe.status}"
    return Answer(
        name,
        f"{wrong[0].instance} at port {port}{path}: {said}",
        "edit service.port or service.health_path",
    )


def lacks_field(body: bytes | str, field: str) -> str:
    """Why an answer does not name the version: what it was instead, and which fields it has."""
    try:
        value = json.loads(body)
    except ValueError:
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        return f"the answer is not JSON: {_shortened(text) or 'nothing'}"
    names = sorted(_fields(value))
    if not names:
        return f"no field {field!r} in the answer, which is {_shortened(json.dumps(value))}"
    return f"no field {field!r} in the answer; there is: {_shortened(', '.join(names))}"


def _fields(value: object, under: str = "") -> list[str]:
    """The fields with a text or number in them, dotted; never their values."""
    if not isinstance(value, dict):
        return []
    found = []
    for name, inner in value.items():
        place = f"{under}.{name}" if under else str(name)
        found += _fields(inner, place) if isinstance(inner, dict) else [place]
    return found


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
