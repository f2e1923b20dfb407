"""What an environment's addresses answer, compared with what the service's settings expect."""

from collections.abc import Sequence
from dataclasses import dataclass

from release.model import Probe
from release.readiness.systems import Answer


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
