"""One HTTP request: bounded in time and length, not redirected, and safe to quote."""

import functools
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import httpx

from release.duration import say_duration
from release.model import Probe

LONGEST_BODY = 1_000_000  # bytes; no page that is looked at has a reason to be longer
_ONE_READS = threading.Lock()
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with its body, or its absence."""

    probe: Probe
    body: bytes = field(default=b"", repr=False)
    headers: httpx.Headers = field(default_factory=httpx.Headers, repr=False)


def client(timeout_s: float, *, own_network: bool = False) -> httpx.Client:
    """A client that keeps no connection, so that each request is balanced on its own.

    ``own_network``: the address is an instance's own, to which no proxy of the worker's
    environment may lead.
    """
    return httpx.Client(
        timeout=timeout_s,
        verify=tls(),
        trust_env=not own_network,
        limits=httpx.Limits(max_keepalive_connections=0),
        headers={"Connection": "close", "User-Agent": "ignition-deploy"},
    )


def ask(
    client: httpx.Client,
    method: str,
    address: str,
    within_s: float,
    *,
    conceal: Callable[[str], str] = str,
    longest: int = LONGEST_BODY,
    **options: Any,
) -> Reply:
    """One request. Whatever goes wrong is a probe without status, with a safe sentence.

    ``conceal`` takes secrets out of a text. Of a body, ``longest`` bytes or a little more are read.
    """
    at, began = datetime.now(UTC), monotonic()
    body, status, headers = b"", 0, httpx.Headers()
    try:
        with client.stream(method, address, timeout=within_s, **options) as answer:
            body = _read(answer, began + within_s, longest)
            status, headers = answer.status_code, answer.headers
            detail = "" if answer.is_success else f"HTTP {status}"
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        detail = _explain(error, within_s, conceal)
    return Reply(Probe(at, status, timedelta(seconds=monotonic() - began), detail), body, headers)


def shown(url: str) -> str:
    """An address without user and password, for logs and errors."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def tls() -> ssl.SSLContext:
    """What all clients verify a certificate with: reading the authorities takes longer than most
    answers, so it is done once for each process.
    """
    with _ONE_READS:  # several ask at once when a run begins
        return _tls()


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _read(answer: httpx.Response, deadline: float, longest: int) -> bytes:
    """The body, up to ``longest`` bytes or a little more. Raises ReadTimeout at the deadline."""
    body = b""
    for part in answer.iter_bytes():
        body += part
        if len(body) > longest:
            break
        if monotonic() > deadline:  # httpx limits the wait for a part, not for the whole
            raise httpx.ReadTimeout("too slow", request=answer.request)
    return body


def _explain(error: Exception, within_s: float, conceal: Callable[[str], str]) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {say_duration(timedelta(seconds=within_s))}"
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError) and str(error):
        return _ERRNO.sub("", conceal(str(error)))
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return "its address is not an http or https URL"
    return type(error).__name__  # its text may repeat the address, with what it holds
