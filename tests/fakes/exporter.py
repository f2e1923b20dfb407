"""A service's counters, as Prometheus reads them: a real HTTP server whose counts a test sets."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BOUNDS = (0.1, 0.5, 1.0)  # seconds


PATH = "/instances/"  # and the instance's number


class Exporter:
    """One instance of a service: requests by status code, and how long they took.

    Until it is given a version, and once it is stopped, it answers 503, and is as good as gone.
    """

    def __init__(self) -> None:
        self.version = ""
        self._codes: dict[int, float] = {}
        self._buckets = [0] * len(BOUNDS)

    def answer(self, count: int, code: int = 200, seconds: float = 0.05) -> None:
        """Count answers."""
        self._codes[code] = self._codes.get(code, 0) + count
        for index, bound in enumerate(BOUNDS):
            self._buckets[index] += count * (seconds <= bound)

    @property
    def total(self) -> float:
        """All answers that were counted."""
        return sum(self._codes.values())

    def say(self, code: int, value: float) -> None:
        """Count something that no counter can be."""
        self._codes[code] = value

    def begin_again(self) -> None:
        """Start with no counts, as a new process does."""
        self._codes = {}
        self._buckets = [0] * len(BOUNDS)

    def stop(self) -> None:
        """Say nothing more."""
        self.version = ""

    def text(self) -> str:
        """All series in Prometheus's text format."""
        if not self.version:
            return ""
        lines = [
            f'http_requests_total{{code="{code}",version="{self.version}"}} {count}'
            for code, count in sorted(self._codes.items())
        ]
        name, label = "http_request_duration_seconds_bucket", f'version="{self.version}"'
        for bound, count in zip(BOUNDS, self._buckets, strict=True):
            lines.append(f'{name}{{{label},le="{bound}"}} {count}')
        lines.append(f'{name}{{{label},le="+Inf"}} {self.total}')
        return "\n".join(lines) + "\n"


class _Server(ThreadingHTTPServer):
    def __init__(self, instances: Sequence[Exporter]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.instances = instances

    def handle_error(self, request: object, client_address: object) -> None:
        """A Prometheus that is stopped hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection for each scrape costs more than the scrape
    server: _Server

    def do_GET(self) -> None:
        body = self.server.instances[int(self.path.removeprefix(PATH))].text().encode()
        self.send_response(200 if body else 503)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Tests are silent."""


@contextmanager
def exporters(
    owned: Mapping[str, Sequence[Exporter]],
) -> Iterator[list[Mapping[str, Any]]]:
    """Serve instances by environment, for the length of the context; Prometheus's targets."""
    instances = [each for own in owned.values() for each in own]
    environments = [name for name, own in owned.items() for _ in own]
    server = _Server(instances)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield [
            {
                "targets": [f"127.0.0.1:{server.server_port}"],
                "labels": {
                    "__metrics_path__": f"{PATH}{number}",
                    "environment": environment,
                    "instance": str(number),
                },
            }
            for number, environment in enumerate(environments)
        ]
    finally:
        server.shutdown()
        server.server_close()
