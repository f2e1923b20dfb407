"""The client counts what users would have noticed, all of it and nothing else."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.commands import wait_until
from sandbox.traffic import Sample, Traffic, TrafficReport

Answer = Callable[["Service"], None]
RATE = 200.0  # requests a second


class Service(BaseHTTPRequestHandler):
    """A small HTTP/1.1 server whose answers a test decides on."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, *headers: tuple[str, str], body: bytes = b"{}") -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.decide(self)  # type: ignore[attr-defined]

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """Takes every connection, however late it gets to run on a busy machine."""

    request_queue_size = 500


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Start a service that answers as a function decides. Returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(decide: Answer) -> str:
        server = Server(("127.0.0.1", 0), Service)
        server.decide = decide  # type: ignore[attr-defined]
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(url: str, requests: int = 100) -> TrafficReport:
    """What came of at least this many requests."""
    with Traffic(url, rate=RATE) as traffic:
        wait_until(
            lambda: traffic.report().requests >= requests,
            what=f"{requests} requests",
            seconds=30,
            hint="look at the service",
        )
        return traffic.stop()


def test_a_good_service_fails_no_request(serve: Callable[[Answer], str]) -> None:
    report = send(serve(lambda service: service.answer(200)))

    assert report.requests >= 100
    assert report.failed == 0
    assert report.first_failure_at is None


def test_every_answer_that_is_not_2xx_is_a_failure(serve: Callable[[Answer], str]) -> None:
    count = itertools.count()
    failures = itertools.count()

    def one_in_ten(service: Service) -> None:
        if next(count) % 10 == 0:
            next(failures)
            service.answer(503)
        else:
            service.answer(200)

    report = send(serve(one_in_ten))

    assert report.failed == next(failures)
    assert report.outcomes["503"] == report.failed


def test_a_connection_that_is_cut_is_a_failure(serve: Callable[[Answer], str]) -> None:
    def cut(service: Service) -> None:
        service.close_connection = True

    report = send(serve(cut))

    assert report.failed == report.requests
    assert set(report.outcomes) <= {"IncompleteReadError", "ConnectionResetError"}


def test_half_an_answer_is_a_failure(serve: Callable[[Answer], str]) -> None:
    def five_of_ten_bytes(service: Service) -> None:
        service.send_response(200)
        service.send_header("Content-Length", "10")
        service.end_headers()
        service.wfile.write(b"12345")
        service.close_connection = True

    report = send(serve(five_of_ten_bytes))

    assert report.failed == report.requests


def test_a_connection_that_the_service_closes_is_not_used_again(
    serve: Callable[[Answer], str],
) -> None:
    report = send(serve(lambda service: service.answer(200, ("Connection", "close"))))

    assert report.failed == 0


def test_each_answer_says_which_release_it_is_by(serve: Callable[[Answer], str]) -> None:
    count = itertools.count()
    release = ("X-Version", "v1.1.0")

    def every_other(service: Service) -> None:
        service.answer(200, *([release] if next(count) % 2 else []))

    report = send(serve(every_other))

    assert report.by("v1.1.0").requests + report.by("").requests == report.requests
    assert abs(report.by("v1.1.0").requests - report.by("").requests) <= 1


def test_chunked_answers_are_read_to_their_end(serve: Callable[[Answer], str]) -> None:
    def chunked(service: Service) -> None:
        service.send_response(200)
        service.send_header("Transfer-Encoding", "chunked")
        service.end_headers()
        service.wfile.write(b"5\r\n12345\r\n0\r\n\r\n")

    assert send(serve(chunked)).failed == 0


def test_nobody_listening_is_a_failure() -> None:
    report = send("http://127.0.0.1:9")

    assert report.failed == report.requests
    assert report.outcomes["ConnectionRefusedError"] == report.requests


def test_the_rate_does_not_fall_when_answers_are_slow(serve: Callable[[Answer], str]) -> None:
    def slow(service: Service) -> None:
        time.sleep(0.5)
        service.answer(200)

    report = send(serve(slow), requests=200)

    assert report.failed == 0
    first, *_, last = sorted(sample.sent_at for sample in report.samples)
    assert report.requests > 0.8 * RATE * (last - first)
    assert report.p50 is not None
    assert report.p50 >= 0.5


def test_an_interval_has_its_own_numbers() -> None:
    samples = tuple(
        Sample(sent_at=float(second), took=second / 100, outcome="503" if second == 5 else "200",
               kind="read")
        for second in range(10)
    )  # fmt: skip
    report = TrafficReport(samples)

    assert (report.requests, report.failed) == (10, 1)
    assert report.between(0, 5).failed == 0
    assert report.between(5, 6).failed == 1
    assert report.first_failure_at == report.last_failure_at == 5.0
    assert report.per_second()[5] == (1, 1)
    assert (report.p50, report.p95) == (0.05, 0.09)


def test_a_line_that_is_still_being_written_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "samples"
    path.write_text('[1.0, 0.1, "200", "read"]\n[2.0, 0.1, "2')

    assert TrafficReport.read(path).requests == 1
