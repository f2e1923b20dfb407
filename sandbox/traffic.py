"""Users: requests at a fixed rate, and a count of those that failed.

Open loop: a request is sent when it is due, however slowly others are answered. Nothing is sent
twice. An answer that is not 2xx, a cut connection, and an answer that takes longer than 10 s are
failures. The client is a process of its own, so that neither side slows the other down.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO
from urllib.parse import urlsplit

from sandbox.commands import wait_until
from sandbox.errors import SandboxError

ANSWER_TIMEOUT = 10.0  # seconds
# A kept connection is not used again after this: the proxy closes it after 15 s, and a request
# that crosses the closing would be lost through no fault of the service.
KEEP_IDLE = 5.0  # seconds
STOP_TIMEOUT = ANSWER_TIMEOUT + 5.0


@dataclass(frozen=True)
class Kind:
    """One sort of request in the mixture."""

    name: str
    share: float  # fraction of all requests
    method: str
    path: str
    body: bytes = b""
    keeps_connection: bool = True


MIXTURE = (
    Kind("read", 0.84, "GET", "/api/items"),
    Kind("write", 0.10, "POST", "/api/items", b'{"name": "traffic"}'),
    Kind("fresh connection", 0.05, "GET", "/api/", keeps_connection=False),
    Kind("long answer", 0.01, "GET", "/api/items/export"),
)


@dataclass(frozen=True)
class Sample:
    """One request: when it was sent, how long it took, its outcome, and which release answered."""

    sent_at: float  # seconds since 1970
    took: float  # seconds
    outcome: str  # a status code, or why there is none
    kind: str
    version: str = ""  # the release that answered, by its header; "" if none says so

    @property
    def failed(self) -> bool:
        """Whether a user would have noticed."""
        return not self.outcome.startswith("2")


@dataclass(frozen=True)
class TrafficReport:
    """What users saw in an interval. Requests belong to the second in which they were sent."""

    samples: tuple[Sample, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The report of all requests answered so far."""
        lines = path.read_text().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return cls(tuple(sorted((Sample(*values) for values in whole), key=lambda s: s.sent_at)))

    @property
    def requests(self) -> int:
        """How many were sent and are over."""
        return len(self.samples)

    @property
    def failures(self) -> tuple[Sample, ...]:
        """Those that failed, in the order in which they were sent."""
        return tuple(sample for sample in self.samples if sample.failed)

    @property
    def failed(self) -> int:
        """How many failed."""
        return len(self.failures)

    @property
    def first_failure_at(self) -> float | None:
        """When the first failed request was sent, in seconds since 1970."""
        return self.failures[0].sent_at if self.failed else None

    @property
    def last_failure_at(self) -> float | None:
        """When the last failed request was sent, in seconds since 1970."""
        return self.failures[-1].sent_at if self.failed else None

    @property
    def outcomes(self) -> Counter[str]:
        """How many requests had each outcome: `200`, `503`, `TimeoutError`."""
        return Counter(sample.outcome for sample in self.samples)

    @property
    def p50(self) -> float | None:
        """The median answer time in seconds. Returns None without requests."""
        return self.percentile(0.50)

    @property
    def p95(self) -> float | None:
        """The answer time, in seconds, that one request in twenty exceeds."""
        return self.percentile(0.95)

    def percentile(self, fraction: float) -> float | None:
        """The answer time, in seconds, that ``fraction`` of the requests do not exceed."""
        times = sorted(sample.took for sample in self.samples)
        return times[min(int(len(times) * fraction), len(times) - 1)] if times else None

    def per_second(self) -> dict[int, tuple[int, int]]:
        """(requests, failed) for each second since 1970 in which any were sent."""
        sent = Counter(int(sample.sent_at) for sample in self.samples)
        failed = Counter(int(sample.sent_at) for sample in self.failures)
        return {second: (count, failed[second]) for second, count in sorted(sent.items())}

    def by(self, version: str) -> "TrafficReport":
        """The requests that a release answered; for "", those that no release answered."""
        return TrafficReport(tuple(s for s in self.samples if s.version == version))

    def between(self, start: float, end: float) -> "TrafficReport":
        """The requests sent from ``start`` to just before ``end``, in seconds since 1970."""
        return TrafficReport(tuple(s for s in self.samples if start <= s.sent_at < end))


@dataclass
class Traffic:
    """A client process that sends requests to ``url`` from `start` to `stop`.

    As a context manager it starts and stops by itself. ``rate`` is in requests a second.
    """

    url: str
    rate: float = 200.0
    marks: dict[str, float] = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _process: subprocess.Popen[bytes] | None = None
    _report: TrafficReport | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process:
            self.stop()

    def start(self) -> Self:
        """Start sending, and wait until the first answer is in."""
        self._folder = tempfile.TemporaryDirectory()
        self._report = None
        arguments = ["--url", self.url, "--rate", str(self.rate), "--samples", str(self.file)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.traffic", *arguments],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
        )
        wait_until(
            lambda: self.file.exists() and self.file.stat().st_size > 0,
            what=f"the first request to {self.url}",
            seconds=30,
            hint=f"type: {sys.executable} -m sandbox.traffic {' '.join(arguments)}",
        )
        return self

    def mark(self, name: str) -> float:
        """Remember this moment under a name, for `TrafficReport.between`. Returns it."""
        self.marks[name] = time.time()
        return self.marks[name]

    def report(self) -> TrafficReport:
        """The outcomes of the requests answered so far, or, after `stop`, of all."""
        return self._report or TrafficReport.read(self.file)

    def stop(self) -> TrafficReport:
        """Send no more, wait for the answers that are due, and report."""
        process, folder = self._process, self._folder
        if process is None or folder is None:
            raise SandboxError(f"no traffic to {self.url} is running; call start() first")
        process.communicate(timeout=STOP_TIMEOUT)  # the end of its input is its sign to stop
        if process.returncode != 0:
            raise SandboxError(
                f"the client of {self.url} ended with exit code {process.returncode}; "
                "its error is on standard error"
            )
        self._report = TrafficReport.read(self.file)
        folder.cleanup()
        self._process = self._folder = None
        return self._report

    @property
    def file(self) -> Path:
        """Where the process writes its samples, one JSON list a line."""
        if self._folder is None:
            raise SandboxError(f"no traffic to {self.url} is running; call start() first")
        return Path(self._folder.name) / "samples"


@dataclass
class Connection:
    """One connection to the service and when it was last used."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_at: float = 0.0  # seconds, time.monotonic()

    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        fresh = time.monotonic() - self.used_at < KEEP_IDLE
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()


class Client:
    """Sends single requests over kept connections, and writes a sample for each."""

    def __init__(self, url: str, samples: TextIO) -> None:
        address = urlsplit(url)
        self.host, self.port = address.hostname or "127.0.0.1", address.port or 80
        self.samples = samples
        self.idle: list[Connection] = []

    async def send(self, kind: Kind) -> None:
        """Send one request and write down what came of it."""
        sent_at, started = time.time(), time.monotonic()
        version = ""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await self.exchange(kind)
            outcome, version = str(answer.status), answer.version
        except (OSError, EOFError, ValueError) as error:
            outcome = type(error).__name__
        took = round(time.monotonic() - started, 4)
        self.samples.write(json.dumps([sent_at, took, outcome, kind.name, version]) + "\n")

    async def exchange(self, kind: Kind) -> "Answer":
        """Send a request, and read and return the whole answer."""
        connection = await self.connection(kind)
        try:
            connection.writer.write(self.request(kind))
            answer = await read_answer(connection.reader)
        except BaseException:
            connection.writer.close()
            raise
        if answer.may_be_kept and kind.keeps_connection:
            connection.used_at = time.monotonic()
            self.idle.append(connection)
        else:
            connection.writer.close()
        return answer

    async def connection(self, kind: Kind) -> Connection:
        """The kept connection used last, if it is still good, else a new one."""
        while kind.keeps_connection and self.idle:
            kept = self.idle.pop()
            if kept.reusable():
                return kept
            kept.writer.close()
        return Connection(*await asyncio.open_connection(self.host, self.port))

    def request(self, kind: Kind) -> bytes:
        """A request as it goes over the wire."""
        lines = [
            f"{kind.method} {kind.path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Connection: {'keep-alive' if kind.keeps_connection else 'close'}",
            f"Content-Length: {len(kind.body)}",
            "Content-Type: application/json",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + kind.body


@dataclass(frozen=True)
class Answer:
    """A whole answer, without its body."""

    status: int
    version: str  # the release that answered; "" if none says so
    may_be_kept: bool  # the connection it came on


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer to its end.

    Raises EOFError (IncompleteReadError) if the connection is cut, ValueError if it is not HTTP.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    status = int(head[0].split(" ")[1])
    headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    version, may_be_kept = headers.get("x-version", ""), headers.get("connection") != "close"
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        await read_chunks(reader)
    elif status != 204:
        await reader.read()
        may_be_kept = False
    return Answer(status, version, may_be_kept)


async def read_chunks(reader: asyncio.StreamReader) -> None:
    """Read a chunked body to its end."""
    size = -1
    while size != 0:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        await reader.readexactly(size + 2)


def choose(mixture: Iterable[Kind], dice: random.Random) -> Callable[[], Kind]:
    """A function that draws kinds by their share."""
    kinds = list(mixture)
    shares = [kind.share for kind in kinds]
    return lambda: dice.choices(kinds, shares)[0]


async def send_until(stopped: asyncio.Event, client: Client, rate: float) -> None:
    """Send requests at ``rate`` a second until ``stopped``, then wait for their answers."""
    draw = choose(MIXTURE, random.Random(1))  # the same mixture in each run
    started = time.monotonic()
    sent = 0
    async with asyncio.TaskGroup() as requests:
        while not stopped.is_set():
            due = int((time.monotonic() - started) * rate) + 1
            for _ in range(due - sent):
                requests.create_task(client.send(draw()))
            sent = due
            await asyncio.sleep(started + sent / rate - time.monotonic())


async def send_while_input_is_open(url: str, rate: float, samples: Path) -> None:
    """Send requests until standard input ends, as it does when the parent is gone."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    with samples.open("w", buffering=1) as file:
        await send_until(stopped, Client(url, file), rate)


def main() -> None:
    """The client's process."""
    parser = argparse.ArgumentParser(description="Send requests until standard input ends.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--samples", type=Path, required=True, help="where to write the outcomes")
    options = parser.parse_args()
    asyncio.run(send_while_input_is_open(options.url, options.rate, options.samples))


if __name__ == "__main__":
    main()
