"""The pipeline's own requests, one sample after another, logged in if needed."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import ClassVar

from blocks.auth import Session
from blocks.metrics_source import MetricsSource
from blocks.service import Service
from release.configuration.rules import WatchProbe
from release.errors import DeployError
from release.measure.counters import Growth, ProbeLook, probe_growth
from release.measure.traffic import PROBES
from release.watch.probing import Asked, after_probes, next_probes


class Prober(MetricsSource[ProbeLook]):
    """Sends probes one sample after the other, with a session that it keeps.

    ``account`` is a lock that is held while the account is in use: if the service allows it only
    one session, a login ends the other one.
    """

    name: ClassVar[str] = PROBES

    def __init__(
        self, mix: Sequence[WatchProbe], concurrency: int, service: Service, account: Lock
    ) -> None:
        self.mix = tuple(mix)
        self.left_out: tuple[str, ...] = ()  # of the last sample: what was not asked, and why
        self.logins = 0  # requests of the last sample, to log in
        self._service = service
        self._concurrency = concurrency
        self._account = account
        self._open = tuple(probe for probe in self.mix if not probe.session)
        self._sent = 0
        self._look = ProbeLook()
        self._session: Session | None = None
        self._no_session = "no login was tried yet"  # why there is none

    def look(self) -> ProbeLook:
        """The outcomes of all probes that were answered, or given up, until now."""
        return self._look

    def growth(self, before: ProbeLook, now: ProbeLook, versions: Mapping[str, str]) -> Growth:
        """The outcomes of those in between."""
        return probe_growth(before, now)

    def probe(self, count: int, *, log_in: bool) -> tuple[Asked, ...]:
        """Send the next ``count``. ``log_in``: whether it may log in if there is no session.

        Without a session, probes that need one are left out, and others take their place: a broken
        login is for the auth flow to report.
        """
        asked = self._probe(count, log_in)
        self._look = after_probes(self._look, asked)
        return asked

    def _probe(self, count: int, log_in: bool) -> tuple[Asked, ...]:
        wanted = next_probes(self.mix, self._sent, count)
        self._sent += count
        self.left_out, self.logins = (), 0
        if any(probe.session for probe in wanted):
            if self._session is None and log_in:
                self._log_in()
            if self._session is None:
                wanted = self._without_session(wanted)
        asked = self._ask(wanted)
        refused = [one.wanted for one in asked if _refused(one)]
        if not refused:
            return asked
        # Sessions end: by their time, or because the account was logged out elsewhere.
        self._log_in()
        asked = tuple(one for one in asked if not _refused(one))
        return asked if self._session is None else (*asked, *self._ask(refused))

    def _ask(self, wanted: Sequence[WatchProbe]) -> tuple[Asked, ...]:
        return self._service.probe(wanted, self._session, concurrency=self._concurrency)

    def _log_in(self) -> None:
        self.logins += 1
        self._session, self._no_session = None, "the login gave no session"
        try:
            with self._account:
                self._session = self._service.log_in()
        except DeployError as error:
            self._no_session = error.what
        if self._session is None:
            self._say_left_out()

    def _without_session(self, wanted: Sequence[WatchProbe]) -> tuple[WatchProbe, ...]:
        self._say_left_out()
        if not self._open:
            return ()
        others = next_probes(self._open, self._sent, len(wanted))
        return tuple(
            other if probe.session else probe for probe, other in zip(wanted, others, strict=True)
        )

    def _say_left_out(self) -> None:
        names = ", ".join(dict.fromkeys(probe.name for probe in self.mix if probe.session))
        self.left_out = (f"probes: {names} not asked, because {self._no_session}",)


def _refused(one: Asked) -> bool:
    return one.wanted.session and one.failed and one.answer.status in (401, 403)
