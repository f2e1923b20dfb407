"""What Prometheus is asked, and what a query names, as far as its text shows."""

import re
from datetime import timedelta
from string import Template
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator

from release.configuration.address import ApiAddress
from release.configuration.kinds import MetricsSettings
from release.configuration.rules import Need
from release.duration import Duration

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`')
_COMMENT = re.compile(r"#[^\n]*")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^{}]*)\}")
_NAME = re.compile(r"[a-zA-Z_:][\w:]*")
_LABEL = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")
_ZERO = re.compile(r"\s+or\s+(on\s*\(\s*\)\s*)?vector\s*\(\s*0\s*\)\s*$")
_RATE = re.compile(r"\b(rate|irate|increase|delta|idelta|deriv)\s*\(")


class PrometheusSettings(MetricsSettings):
    """Where the backend's own counters are, through Prometheus's API (Thanos, Mimir and
    VictoriaMetrics have the same). A deployment is refused if a query is wrong; if Prometheus is
    down it goes on with the other sources, and says so."""

    needs: ClassVar[tuple[Need, ...]] = (Need("password", asked_by="username"),)

    kind: Literal["prometheus"] = "prometheus"
    """The system that keeps the backend's own counters."""

    url: ApiAddress = ""
    """The address below which `/api/v1/query` is; empty: Prometheus is not asked."""

    requests: str = 'http_requests_total{environment="$environment"}'
    """PromQL that finds the counters of answered requests, unsummed and without `rate()`: their
    growth is taken from sample to sample. `$environment` is the environment's name."""

    errors: str = 'http_requests_total{environment="$environment",code=~"5.."}'
    """PromQL that finds the counters of requests that failed. It may find nothing while nothing
    fails."""

    durations: str = 'http_request_duration_seconds_bucket{environment="$environment"}'
    """PromQL that finds the buckets of a histogram of answer times, in seconds; empty: answer times
    are not read."""

    release_label: str = "version"
    """The label that names the release, by the version as it is deployed: `v1.2.3`."""

    username: str = ""
    """The login's name; empty: no login with a password."""

    password: SecretStr = SecretStr("")
    """The login's password."""

    token: SecretStr = SecretStr("")
    """A bearer token, instead of a login."""

    timeout: Duration = Field(default=timedelta(seconds=5), gt=timedelta())
    """How long one reading of its counters may take."""

    @property
    def configured(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self.url)

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.username and self.token.get_secret_value():
            raise ValueError("has a username and a token; Prometheus takes one login")
        return self


def for_environment(query: str, environment: str) -> str:
    """The query with ``$environment`` filled in; any other ``$`` is the query's own."""
    return Template(query).safe_substitute(environment=environment)


def without_zero(query: str) -> str:
    """The query without an ``or vector(0)`` at its end, which finds a zero where nothing is."""
    return _ZERO.sub("", query)


def selectors(query: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each metric that is selected by labels, or that is the whole query, with these labels."""
    bare = _bare(query)
    if _NAME.fullmatch(bare.strip()):
        return ((bare.strip(), ()),)
    return tuple(
        (name, tuple(dict.fromkeys(_LABEL.findall(matchers))))
        for name, matchers in _SELECTOR.findall(bare)
    )


def rate_in(query: str) -> str:
    """The function that turns a counter into a rate in a query; "" if there is none."""
    found = _RATE.search(_bare(query))
    return found[1] if found else ""


def _bare(query: str) -> str:
    """The query without quoted text and without comments."""
    return _COMMENT.sub("", _STRING.sub('""', query))
