"""Where things are in the backend's repository and in its HTTP interface."""

from pydantic import Field

from release.rules import Rules


class ServiceLayout(Rules):
    """What is deployed, as the runbook's commands know it."""

    name: str
    """Image name, without registry: `ignition-api`."""

    backend: str = "app/backend"
    """Build context, from the repository's root (runbook, step 2: `cd app/backend`)."""

    dockerfile: str = "Dockerfile"
    """From the build context."""

    build_arguments: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it
    """Extra `--build-arg`s. VERSION and REVISION are always given. No secrets: an image keeps
    its build arguments for everyone to read."""

    migrations: str = "app/backend/migrations"
    """Ordered SQL files, from the repository's root (runbook, step 3)."""

    compose_service: str = "api"
    """The service in the Compose file (runbook, step 4: `docker compose up -d --no-deps api`)."""

    port: int = Field(default=8000, ge=1, le=65535)
    """The port that a container of the service listens on."""

    health_path: str = "/health"
    """Answers 200 while the service can serve (runbook, step 5)."""

    version_path: str = "/api/"
    """Answers JSON that names the version (runbook, step 5)."""

    version_field: str = "version"
    """The field of that JSON (runbook: `jq '.version'`)."""

    smoke: tuple[str, ...] = ("npm", "run", "test:smoke", "--prefix", "tests/")
    """The smoke tests, run in a clean export of the release (runbook, step 5). They get BASE_URL
    and EXPECT_VERSION in their environment."""
