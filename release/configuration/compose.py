"""Docker Compose: where a service's project is."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from release.configuration.address import EngineAddress, VariableName
from release.configuration.kinds import OrchestratorSettings


class ComposeSettings(OrchestratorSettings):
    """The Compose project that runs the service on its host."""

    kind: Literal["compose"] = "compose"
    """The system that runs the service's instances."""

    directory: Path = Field(examples=["deploy/production"])
    """Where the host's own `docker compose up` runs (runbook, step 4: `cd deploy/production`)."""

    file: str = "docker-compose.yml"
    """The Compose file in that directory."""

    image_variable: VariableName = "API_IMAGE"
    """The variable of the directory's `.env` file that names the service's image by digest. The
    Compose file says `image: ${API_IMAGE}`, so that a reboot brings back the same release."""

    engine: EngineAddress = ""
    """The engine's DOCKER_HOST, such as `ssh://deploy@host`; empty: the worker's own engine."""
