"""The nouns of a deployment, as values: no behaviour that needs a clock, a network or a disk."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from release.configuration.deployed_with import DeployedWith
from release.configuration.layout import ServiceLayout
from release.errors import BadRequest
from release.measure.counters import Looks
from release.measure.traffic import Times, Traffic

_NUMBER = r"(0|[1-9][0-9]*)"
_PRE_RELEASE = rf"({_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE_RELEASE}(\.{_PRE_RELEASE})*)?")
_LONGEST_VERSION = 128  # characters of an image tag (OCI distribution specification)
_REPOSITORY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:/-]*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ReleaseKind(StrEnum):
    """How step 1 of the runbook names a release."""

    TAG = "tag"
    BRANCH = "branch"


class Step(StrEnum):
    """The runbook's headings, in order. The value is the heading as a person reads it."""

    PLAN = "Plan"
    CHECKLIST = "Pre-Deployment Checklist"
    PREPARE = "1. Prepare Release"
    BUILD = "2. Build Docker Image"
    MIGRATE = "3. Run Database Migrations"
    DEPLOY = "4. Deploy to Production"
    VERIFY = "5. Verify Deployment"
    POST = "Post-Deployment"
    ROLLBACK = "Rollback"

    @property
    def short(self) -> str:
        """The heading in a log line: ``4. Deploy``."""
        return _SHORT.get(self, self.value)


_SHORT = {
    Step.CHECKLIST: "Checklist",
    Step.PREPARE: "1. Prepare",
    Step.BUILD: "2. Build",
    Step.MIGRATE: "3. Migrate",
    Step.DEPLOY: "4. Deploy",
    Step.VERIFY: "5. Verify",
}


def parse_version(text: str) -> str:
    """Return ``text`` if it is a version: ``vMAJOR.MINOR.PATCH`` with an optional pre-release.

    Build metadata (``+…``) is refused, because an image tag cannot hold it.
    Raises BadRequest. Source: semver.org 2.0.0, the runbook's step 1 (``v1.2.3``).
    """
    if len(text) > _LONGEST_VERSION or not _VERSION.fullmatch(text):
        raise BadRequest(
            f"{text!r} is not a valid version: expected vMAJOR.MINOR.PATCH, such as v1.2.3",
            "ignition deploy v1.2.3 --to staging",
        )
    return text


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image by digest, the only name for what runs: ``registry/name@sha256:…``."""

    repository: str
    digest: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise BadRequest(f"{self.digest!r} is not a digest: expected sha256: and 64 hex digits")
        # It goes into an `.env` file and to the engine: no line break, nothing like an option.
        if not _REPOSITORY.fullmatch(self.repository):
            raise BadRequest(f"{self.repository!r} is not an image name")

    @classmethod
    def parse(cls, text: str) -> "ImageRef":
        """Read ``repository@sha256:…``; a tag is refused, because a tag can move."""
        repository, at, digest = text.partition("@")
        if not at or not repository:
            raise BadRequest(f"{text!r} names an image without a digest (repository@sha256:…)")
        return cls(repository.rsplit(":", 1)[0] if _has_tag(repository) else repository, digest)

    @property
    def short(self) -> str:
        """The digest's first hex digits, as log lines and tables show it."""
        return self.digest[:14] + "…"

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"


def _has_tag(repository: str) -> bool:
    return ":" in repository.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Release:
    """A version on a commit and, once it is built, the image that holds it."""

    version: str
    revision: str  # full git commit hash
    image: ImageRef | None = None

    @property
    def typed(self) -> str:
        """What a command takes for it: the version or, if it has none and goes by the digest's
        first digits, the image with its whole digest."""
        by_digest = self.image is not None and self.version == self.image.short
        return str(self.image) if by_digest else self.version


def image_of(release: Release) -> ImageRef:
    """The image of a release that was built. Raises BadRequest if it was not."""
    if release.image is None:
        raise BadRequest(f"{release.version} has no image yet")
    return release.image


@dataclass(frozen=True, slots=True)
class Instance:
    """One container of the service, as the engine describes it."""

    id: str
    name: str  # the name by which the router's network knows it
    address: str  # ip address on the router's network; "" while it has none
    image: ImageRef | None  # None: it was started from something that has no registry digest
    version: str  # label org.opencontainers.image.version; "" if the image has none
    revision: str  # label org.opencontainers.image.revision; "" if the image has none
    state: str  # the engine's word: created, running, exited, dead, …
    health: str  # healthy, unhealthy, starting; "none" where the image declares no check
    exit_code: int = 0  # of its last end; of one that runs again too, where the engine knows it
    restarts: int = 0  # how often the engine started it again after it had ended by itself

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What an environment served before the run touched it: the target of a rollback."""

    environment: str
    release: Release | None  # None: nothing of ours ran here (first deployment)
    instances: tuple[str, ...]  # container ids that served
    schema_version: str  # newest row of schema_migrations; "" for none
    error_rate: float | None  # fraction: 5xx / all responses; None if nothing was measured
    p95: timedelta | None  # 95th percentile of answer times; None if nothing was measured
    taken_at: datetime
    traffic: tuple[Traffic, ...] = ()  # what the rate is of, by each source that counted
    times: tuple[Times, ...] = ()  # answer times, by each source that knows them
    looks: Looks | None = None  # the counters then; None: it is not measured any further
    pin: str = ""  # what the host's own start named, as it was written there; "" for nothing
    deployed_with: DeployedWith | None = None  # how it was checked; None: no record is known

    @property
    def version(self) -> str:
        return self.release.version if self.release else "nothing"

    @property
    def typed(self) -> str:
        """What a command takes for it."""
        return self.release.typed if self.release else self.version

    @property
    def image(self) -> ImageRef | None:
        return self.release.image if self.release else None

    def layout(self, service: ServiceLayout) -> ServiceLayout:
        """The service as this release was deployed with it or, if no record of that is known, as it
        is configured now."""
        return self.deployed_with.layout(service) if self.deployed_with else service


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its value against what was expected."""

    name: str
    passed: bool
    sentence: str
    took: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Probe:
    """One HTTP answer, or its absence."""

    at: datetime
    status: int  # 0: no answer
    took: timedelta
    detail: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300
