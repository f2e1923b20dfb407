"""A service's counters, as Prometheus reads them: a real HTTP server whose counts a test sets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOUNDS = (0.1, 0.5, 1.0)  # seconds


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A Prometheus that is stopped hangs up."""


class Exporter:
    """One instance of a service: requests by status code, and how long they took.

    Until it is given a version, and once it is stopped, it answers 503, and is as good as gone.
    """

    def __init__(self) -> None:
        self.version = ""
        self._codes: dict[int, float] = {}
        self._buckets = [0] * len(BOUNDS)
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text().encode()
                self.send_response(200 if body else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Tests are silent."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, count: int, code: int = 200, seconds: float = 0.05) -> None:
        """Count answers."""
        self._codes[code] = self._codes.get(code, 0) + count
        for index, bound in enumerate(BOUNDS):
            self._buckets[index] += count * (seconds <= bound)

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

    def close(self) -> None:
        """Free its port."""
        self._server.shutdown()
        self._server.server_close()

    def text(self) -> str:
        """All series in Prometheus's text format."""
        if not self.version:
            return ""
        lines = [
            f'http_requests_total{{code="{code}",version="{self.version}"}} {count}'
            for code, count in sorted(self._codes.items())
        ]
        total = sum(self._codes.values())
        name, label = "http_request_duration_seconds_bucket", f'version="{self.version}"'
        for bound, count in zip(BOUNDS, self._buckets, strict=True):
            lines.append(f'{name}{{{label},le="{bound}"}} {count}')
        lines.append(f'{name}{{{label},le="+Inf"}} {total}')
        return "\n".join(lines) + "\n"


@contextmanager
def exporters(count: int) -> Iterator[list[Exporter]]:
    """Exporters that are there for the length of the context."""
    found = [Exporter() for _ in range(count)]
    try:
        yield found
    finally:
        for exporter in found:
            exporter.close()
