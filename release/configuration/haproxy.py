"""HAProxy: how it is told which instances there are."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from release.configuration.kinds import RouterSettings


class HaproxySettings(RouterSettings):
    """HAProxy in front of the service. Without this table a release goes live by the runbook's
    plain restart, with some seconds without an answer; the plan says how many."""

    kind: Literal["haproxy"] = "haproxy"
    """The system that routes requests to the service's instances."""

    socket: Path = Field(examples=["deploy/production/run/admin.sock"])
    """HAProxy's admin socket."""

    backend_file: Path = Field(examples=["deploy/production/run/be.cfg"])
    """The file that a restarted HAProxy reads its servers from."""

    backend: str = "api"
    """The backend's name."""

    slot_count: int = Field(default=6, ge=2, le=20, alias="slots")
    """Server slots of the backend, named <backend>1 to <backend>N. At least twice
    `rollout.replicas`, because old and new serve side by side for a moment."""

    def refusal(self, replicas: int) -> str:
        """A slot for each instance, old or new."""
        if self.slot_count >= 2 * replicas:
            return ""
        return (
            f"router.slots is {self.slot_count}; rollout.replicas = {replicas} "
            f"needs {2 * replicas}, because old and new serve side by side"
        )
