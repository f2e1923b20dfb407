"""A whole environment in memory, but for its ledger: two releases, and people who are told."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from blocks.ledger.ledger import Ledger
from release.configuration.auth import AuthSettings
from release.configuration.deployed_with import DeployedWith
from release.configuration.layout import ServiceLayout
from release.configuration.rules import (
    RollbackRules,
    RolloutRules,
    VerifyRules,
    WatchProbe,
    WatchRules,
)
from release.errors import Unreachable
from release.image import VERSION_LABEL
from release.ledger import EventKind
from release.measure.counters import Looks
from release.model import Baseline, Check, Probe
from release.watch.triggers import Sample
from tests.fakes.project import FakeProject

MS = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
WATCH = WatchRules(
    length=HOUR,  # of a deployment's watch: the scheduled one has a length of its own
    every=20 * MS,
    sustained_for=100 * MS,
    longest_gap=timedelta(seconds=5),
    extend_up_to=timedelta(seconds=5),
    window_run=200 * MS,
)


@dataclass
class Environment(FakeProject):
    """v1.0.0 served, and v1.1.0 replaced it."""

    ledger: Ledger
    repository: Any = None
    registry: Any = None
    database: Any = None
    metrics: Any = None
    ill: set[str] = field(default_factory=set)  # releases whose health check fails
    health_paths: dict[str, str] = field(default_factory=dict)  # of releases; else /health
    applied: tuple[Any, ...] = ()  # migrations
    urls: tuple[str, ...] = ()
    url: str = "http://production.example.com"
    base: Baseline | None = field(default=None)

    def __post_init__(self) -> None:
        super().__init__()
        self.base = self.reset("v1.0.0")
        self.service = Service(self)
        self.metrics = Metrics(self)
        self.repository = SimpleNamespace(export=_no_git)
        self.registry = SimpleNamespace(
            find=lambda name, version: self.images.get(version),
            labels=lambda image: {VERSION_LABEL: self.orchestrator.host.registry[image][0]},
        )
        self.database = SimpleNamespace(applied=lambda: self.applied)

    def deployed(
        self,
        version: str,
        ago: timedelta,
        ending: str = "Deployed",
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down how a deployment ended, and what its plan said."""
        image, run_id = self.images[version], str(uuid4())
        payload = {
            "ending": ending,
            "version": version,
            "revision": "a" * 40,
            "image": str(image),
            "deployer": "Ada",
            "notes": "",
        }
        at = datetime.now(UTC) - ago
        if plan is not None:
            self.ledger.record(self.environment, run_id, EventKind.PLAN_MADE, payload=plan, at=at)
        kind = EventKind.DEPLOYMENT_ENDED
        self.ledger.record(self.environment, run_id, kind, payload=payload, at=at)

    def replace_baseline(self, ago: timedelta = HOUR) -> None:
        """v1.1.0 serves since then, alone; the containers of v1.0.0 are removed."""
        self.deployed("v1.0.0", ago + HOUR)
        self.orchestrator.pull(self.images["v1.1.0"])
        self.put_in_service("v1.1.0")
        old = [i for i in self.orchestrator.instances() if i.version == "v1.0.0"]
        for instance in old:
            assert self.router is not None
            self.router.retire(instance.name)
        self.orchestrator.stop([i.id for i in old], timedelta())
        self.orchestrator.remove([i.id for i in old])
        self.orchestrator.pin(self.images["v1.1.0"])
        self.deployed("v1.1.0", ago)

    @property
    def serves(self) -> str:
        return ", ".join(sorted(self.serving()))

    @property
    def well(self) -> bool:
        return self.serves not in self.ill

    def held_by(self) -> str:
        holder = self.ledger.holder(self.environment)
        return holder.run_id if holder else ""


@contextmanager
def _no_git(revision: str) -> Iterator[Path]:
    raise Unreachable("the git remote does not answer")
    yield Path()


@dataclass
class Service:
    """The public address."""

    environment: Environment
    health_path: str = "/health"
    version_path: str = "/api/"
    shown_url: str = "http://production.example.com"
    public: bool = True  # at an address of its own an instance in memory cannot be asked

    def at(self, address: str) -> "Service":
        return replace(self, public=False)

    def health(self) -> Probe:
        path = self.environment.health_paths.get(self.environment.serves, "/health")
        well = self.environment.well and self.public and path == self.health_path
        return Probe(datetime.now(UTC), 200 if well else 503, MS, "" if well else "HTTP 503")

    def version(self) -> tuple[str | None, Probe]:
        return self.environment.serves or None, Probe(datetime.now(UTC), 200, MS)

    def auth_flow(self) -> Check | None:
        return None

    def as_deployed(self, then: DeployedWith) -> "Service":
        return replace(self, health_path=then.health_path, version_path=then.version_path)


@dataclass
class Metrics:
    """Samples of nothing but health."""

    environment: Environment
    taken: int = 0
    meanwhile: Callable[[], None] = lambda: None  # with each sample
    took: list[timedelta] = field(default_factory=list)
    mix: tuple[WatchProbe, ...] = (WatchProbe(path="/health"),)
    looks: Looks = field(default_factory=dict)

    def sampler(self, *_: object, **how: object) -> "Metrics":
        return self

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self, at: datetime, probes: int | None = None) -> Sample:
        self.taken += 1
        self.meanwhile()
        well = self.environment.well
        detail = "" if well else "HTTP 503"
        return Sample(at, health=well, health_detail=detail, auth=True, p0="")


def run_on(
    environment: Environment,
    run_id: str,
    label: str = "",
    watch: WatchRules = WATCH,
    restored_for: timedelta = 200 * MS,
) -> Any:
    """What ``begin`` returns for a run of one's own."""
    from flows.run import Run

    told = SimpleNamespace(blocks=environment.urls[:1], escalation=environment.urls[1:])
    settings: Any = SimpleNamespace(service=ServiceLayout(name="ignition-api"), notify=told)
    rules: Any = SimpleNamespace(
        rollout=RolloutRules(healthy_within=timedelta(seconds=1), bake=timedelta()),
        verify=VerifyRules(health_within=200 * MS),
        watch=watch,
        rollback=RollbackRules(watch=restored_for),
        auth=AuthSettings(),
    )
    return Run(
        id=run_id,
        label=label or f"d-{run_id[:6]}",
        nested=False,
        environment=environment.environment,
        settings=settings,
        rules=rules,
        runbook=SimpleNamespace(),  # type: ignore[arg-type]
        target=environment,  # type: ignore[arg-type]
        approvers=SimpleNamespace(),  # type: ignore[arg-type]
    )
