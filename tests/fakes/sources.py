"""Sources of counts, each with what makes it count: users, scraped instances, our own probes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from pytest_httpserver import HTTPServer

from blocks.metrics_source import MetricsSource
from blocks.prober import Prober
from blocks.prometheus import Prometheus
from blocks.service import Service
from release.configuration.rules import WatchProbe
from release.measure.tally import Tally
from sandbox.commands import wait_until
from sandbox.parts.local_prometheus import local_prometheus
from tests.fakes.exporter import Exporter, exporters
from tests.fakes.project import Project

_NOBODY = "http://127.0.0.1:9"
_SCRAPED_WITHIN = 20.0  # seconds


class Counting(ABC):
    """A source that counts answers of two releases, one of which fails."""

    source: MetricsSource[Any]
    versions: Mapping[str, str] = {}  # of instances, where the source knows these

    @abstractmethod
    def answer(self) -> Tally:
        """Let some requests be answered, and return what the source has to count of them."""

    @abstractmethod
    def begin_again(self) -> None:
        """Let it count from zero."""

    @abstractmethod
    def away(self) -> MetricsSource[Any]:
        """The same source, where nobody answers."""

    def look(self) -> Any:
        """A look that shows all that was answered until now."""
        return self.source.look()


class CountingRouter(Counting):
    """A router with a good release and a bad one behind it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.reset("v1.0.0")
        project.put_in_service("v1.2.0-errors")
        assert project.router is not None
        self.source = project.router
        self.versions = {i.name: i.version for i in project.orchestrator.instances()}

    def answer(self) -> Tally:
        self.project.users_ask(12)  # by turns
        return Tally(12, 6)

    def begin_again(self) -> None:
        self.project.restart_router()

    def away(self) -> MetricsSource[Any]:
        return self.project.with_router_away()


class CountingPrometheus(Counting):
    """A Prometheus that scrapes an instance of a good release, and one of a bad."""

    def __init__(self, url: str, good: Exporter, bad: Exporter) -> None:
        self.good, self.bad = good, bad
        good.version, bad.version = "v1.0.0", "v1.2.0-errors"
        good.answer(1000)
        bad.answer(1000)
        self.source = self._at(url)

    def answer(self) -> Tally:
        self.good.answer(9)
        self.bad.answer(3, code=500)
        return Tally(12, 3)

    def begin_again(self) -> None:
        self.good.begin_again()
        self.bad.begin_again()
        self.good.answer(1)  # without one there is no series
        self.bad.answer(1, code=500)

    def away(self) -> MetricsSource[Any]:
        return self._at(_NOBODY)

    def look(self) -> Any:
        total = self.good.total + self.bad.total

        def scraped() -> Any:
            found = self.source.look()
            return found if sum(found.requests.values()) == total else None

        return wait_until(scraped, what=f"{total} requests", seconds=_SCRAPED_WITHIN, hint="")

    @staticmethod
    def _at(url: str) -> Prometheus:
        return Prometheus(environment="production", url=url)


@contextmanager
def counting_prometheus() -> Iterator[CountingPrometheus]:
    """A Prometheus of one's own, for the length of the context."""
    good, bad = Exporter(), Exporter()
    with exporters({"production": [good, bad]}) as targets, local_prometheus(targets) as server:
        yield CountingPrometheus(server.url, good, bad)


class CountingProbes(Counting):
    """Our own requests to a service, half of whose pages fail."""

    def __init__(self, server: HTTPServer) -> None:
        server.expect_request("/good").respond_with_data("")
        server.expect_request("/bad").respond_with_data("", status=503)
        self.url = server.url_for("")
        self.source = self.prober = self._at(self.url)

    def answer(self) -> Tally:
        self.prober.probe(12, log_in=False)
        return Tally(12, 6)

    def begin_again(self) -> None:
        self.source = self.prober = self._at(self.url)

    def away(self) -> MetricsSource[Any]:
        return self._at(_NOBODY)

    @staticmethod
    def _at(url: str) -> Prober:
        mix = (WatchProbe(path="/good"), WatchProbe(path="/bad"))
        return Prober(mix, 4, Service(url=url, request_timeout_s=2), Lock())
