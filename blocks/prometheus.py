"""Prometheus: what the backend itself counts, by release.

Asked for the counters themselves, whose growth is taken here
(:mod:`release.measure.counters`). PromQL's own ``increase()`` needs two scrapes within its window,
so it answers nothing if Prometheus scrapes as rarely as samples are taken; it extrapolates, and it
leaves out the value that a counter starts with, such as the first errors of a release.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, ClassVar

import httpx

from blocks.http_client import Reply, ask, client, shown
from blocks.metrics_source import MetricsServer
from release.configuration.prometheus import (
    PrometheusSettings,
    for_environment,
    rate_in,
    selectors,
    without_zero,
)
from release.errors import BadConfiguration, Unreachable
from release.measure.counters import Growth, Labels, Look, Series, bound_of, growth, remember

_LONGEST_ANSWER = 20_000_000  # bytes: some ten thousand series
_LOOKED_BACK = timedelta(days=7)
_STEP = timedelta(minutes=5)  # how far back a query looks for a value: none is stepped over
_REFUSED = (400, 422)  # the query cannot be parsed, or not be evaluated
_LONGEST_MESSAGE = 300  # characters of Prometheus's own words


class Prometheus(PrometheusSettings, MetricsServer):
    """A server of Prometheus's HTTP API: Prometheus, Thanos, Mimir, VictoriaMetrics."""

    _block_type_name = "Ignition Prometheus"

    name: ClassVar[str] = "prometheus"

    @property
    def timeout_s(self) -> float:
        """How long one look may take, in seconds."""
        return self.timeout.total_seconds()

    def look(self) -> Look:
        """What the counters stand at now. Raises Unreachable or BadConfiguration."""
        until = monotonic() + self.timeout_s
        with client(self.timeout_s) as http:
            found = self._query(http, "requests", until)
            if not found:
                return Look({}, {})
            # All for the moment of the first, so that they come from the same scrapes.
            at = str(found[0]["value"][0])
            errors = self._query(http, "errors", until, at)
            buckets = self._query(http, "durations", until, at) if self.durations else []
        return Look(
            self._series("requests", found),
            self._series("errors", errors),
            self._series("durations", buckets),
        )

    def growth(self, before: Look, now: Look, versions: Mapping[str, str]) -> Growth:
        """What was counted between two looks: of all, and by the label that names the release."""
        return growth(self.name, before, now, self.release_label)

    def remember(self, before: Look | None, now: Look) -> Look:
        """The later look, with the series that it lacks: a scrape that failed hides them."""
        return remember(before, now)

    def check(self, serving: bool) -> None:
        """Raise BadConfiguration if the queries could never judge a release.

        If nothing is ``serving``, nothing can have been counted yet, and a query that finds nothing
        is right. Raises Unreachable if Prometheus does not answer, or has no present data: that is
        no reason not to deploy.
        """
        with client(self.timeout_s) as http:
            for kind in ("requests", "errors", *(["durations"] if self.durations else [])):
                self._check(http, kind, serving)

    def _check(self, http: httpx.Client, kind: str, serving: bool) -> None:
        rate = rate_in(self._promql(kind))
        if rate:
            raise BadConfiguration(
                f"{self._name(kind)} asks for {rate}(…); counters are expected, their growth is "
                "taken from sample to sample",
                self._edit(kind),
            )
        found = self._query(http, kind, monotonic() + self.timeout_s)
        series = self._series(kind, found)
        if kind == "durations" and any(bound_of(labels) is None for labels in series):
            raise BadConfiguration(
                f"{self._name(kind)} finds series without a label le; a histogram's buckets are "
                "expected",
                self._edit(kind),
            )
        if series or not serving:
            return
        if kind == "errors":
            self._check_names(http, kind)
        elif self._ever(http, without_zero(self._promql(kind))):
            raise Unreachable(
                f"{self._name(kind)} finds nothing now, the last data are older",
                f"{shown(self.url)}/targets",
            )
        else:
            raise BadConfiguration(
                f"{self._name(kind)} has found nothing in {_LOOKED_BACK.days} days: "
                f"{self._promql(kind)}",
                self._edit(kind),
            )

    def _check_names(self, http: httpx.Client, kind: str) -> None:
        """Tell a query that finds no error from one that never could: do its names exist?"""
        for metric, labels in selectors(self._promql(kind)):
            if not self._ever(http, f'{{__name__="{metric}"}}'):
                raise BadConfiguration(
                    f"{self._name(kind)} asks for {metric}, of which there was nothing in "
                    f"{_LOOKED_BACK.days} days",
                    self._edit(kind),
                )
            since = str((datetime.now(UTC) - _LOOKED_BACK).timestamp())
            parameters = {"match[]": f'{{__name__="{metric}"}}', "start": since}
            known = self._get(http, "labels", parameters, kind, monotonic() + self.timeout_s)
            for label in labels:
                if label not in known:
                    raise BadConfiguration(
                        f"{self._name(kind)} asks for the label {label}, which {metric} does not "
                        f"have; it has: {', '.join(map(str, known))}",
                        self._edit(kind),
                    )

    def _ever(self, http: httpx.Client, promql: str) -> bool:
        """Whether a query found something in the last days, or in the last minutes."""
        until = monotonic() + self.timeout_s
        now = datetime.now(UTC)
        days = {
            "query": f"count({promql})",
            "start": str((now - _LOOKED_BACK).timestamp()),
            "end": str(now.timestamp()),
            "step": str(_STEP.total_seconds()),
        }
        if _result(self._get(http, "query_range", days, "", until), "matrix"):
            return True
        # What began after the last step but one and has ended again.
        minutes = {"query": f"count(count_over_time(({promql})[10m:1s]))"}
        return bool(_result(self._get(http, "query", minutes, "", until), "vector"))

    def _query(
        self, http: httpx.Client, kind: str, until: float, at: str = ""
    ) -> list[Mapping[str, Any]]:
        """The instant vector that a query finds."""
        promql = self._promql(kind)
        parameters = {"query": promql} | ({"time": at} if at else {})
        found = self._get(http, "query", parameters, kind, until)
        if isinstance(found, dict) and found.get("resultType") in ("scalar", "string", "matrix"):
            raise BadConfiguration(
                f"{self._name(kind)} answers a {found['resultType']}, an instant vector is "
                f"expected: {promql}",
                self._edit(kind),
            )
        vector = _result(found, "vector")
        if vector is None or not all(_is_sample(sample) for sample in vector):
            raise BadConfiguration(
                f"{shown(self.url)} answers in another shape than Prometheus's", self._edit("url")
            )
        return vector

    def _series(self, kind: str, found: list[Mapping[str, Any]]) -> Series:
        """The vector as values by labels. Raises BadConfiguration if a value is not a counter's."""
        series: dict[Labels, float] = {}
        for sample in found:
            value = float(sample["value"][1])
            if not math.isfinite(value) or value < 0:
                raise BadConfiguration(
                    f"{self._name(kind)} answers {sample['value'][1]}, which no counter can be",
                    self._edit(kind),
                )
            if sample["metric"] or value:  # `or vector(0)`: as good as nothing
                series[frozenset(sample["metric"].items())] = value
        return series

    def _get(
        self,
        http: httpx.Client,
        endpoint: str,
        parameters: Mapping[str, str],
        kind: str,
        until: float,
    ) -> Any:
        """The answer of the API. Raises Unreachable or BadConfiguration, with no secret."""
        left = max(0.001, until - monotonic())
        reply = ask(
            http,
            "GET",
            f"{self.url.rstrip('/')}/api/v1/{endpoint}",
            left,
            conceal=self._concealed,
            longest=_LONGEST_ANSWER,
            params=dict(parameters),
            headers=self._headers(),
            auth=self._login(),
        )
        return self._data(reply, kind)

    def _data(self, reply: Reply, kind: str) -> Any:
        status, where = reply.probe.status, f"Prometheus at {shown(self.url)}"
        if not status:
            said = reply.probe.detail
            raise Unreachable(f"{where} does not answer: {said}", f"curl -sS {shown(self.url)}")
        if status in (401, 403):
            raise BadConfiguration(
                f"{where} refuses the login: HTTP {status}",
                f"set {_variable(self.environment, 'TOKEN')} or …_PASSWORD, then: ignition setup",
            )
        answer = _json(reply.body)
        message = self._concealed(str(answer.get("error", "")))[:_LONGEST_MESSAGE]
        if status in _REFUSED and message:
            asked = self._name(kind) if kind else "a query"
            raise BadConfiguration(
                f"{asked} is refused by Prometheus: {message}", self._edit(kind or "requests")
            )
        if status == 429 or status >= 500:
            said = f" ({message})" if message else ""
            raise Unreachable(f"{where} answers HTTP {status}{said}", f"{shown(self.url)}/targets")
        if not reply.probe.ok or answer.get("status") != "success":
            what = "no Prometheus answer" if reply.probe.ok else f"HTTP {status}"
            raise BadConfiguration(
                f"{shown(self.url)}/api/v1/query answers {what}", self._edit("url")
            )
        return answer.get("data")

    def _headers(self) -> dict[str, str]:
        token = self.token.get_secret_value().strip()  # a pasted one ends with a line break
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _login(self) -> httpx.BasicAuth | None:
        if not self.username:
            return None
        return httpx.BasicAuth(self.username, self.password.get_secret_value())

    def _concealed(self, text: str) -> str:
        for secret in (self.token, self.password):
            if secret.get_secret_value().strip():
                text = text.replace(secret.get_secret_value().strip(), "********")
        return text

    def _promql(self, kind: str) -> str:
        return for_environment(str(getattr(self, kind)), self.environment)

    def _name(self, kind: str) -> str:
        return f"Prometheus's query for {kind}"

    def _edit(self, key: str) -> str:
        where = f"environments.{self.environment}.metrics.{key}"
        return f"edit {where} in ignition.toml, then: ignition setup"


def _variable(environment: str, key: str) -> str:
    name = environment.upper().replace("-", "_")
    return f"IGNITION_ENVIRONMENTS__{name}__METRICS__{key}"


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _result(data: Any, kind: str) -> list[Mapping[str, Any]] | None:
    if not isinstance(data, dict) or data.get("resultType") != kind:
        return None
    found = data.get("result")
    return found if isinstance(found, list) else None


def _is_sample(sample: Any) -> bool:
    """Whether an element of a vector has labels and one value (a native histogram has none)."""
    try:
        float(sample["value"][1])
        return isinstance(sample["metric"], dict)
    except (KeyError, IndexError, TypeError, ValueError):
        return False
