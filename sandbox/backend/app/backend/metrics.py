"""What Prometheus reads: requests by status code, and how long they took."""

import time
from collections import Counter

from about import VERSION
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
UNCOUNTED = frozenset({"/health", "/metrics"})  # asked by machines, not by users

requests_total: Counter[int] = Counter()
bucket_totals = [0] * len(BUCKETS)
duration_sum = 0.0  # seconds


def observe(code: int, seconds: float) -> None:
    """Count one answer."""
    global duration_sum
    requests_total[code] += 1
    duration_sum += seconds
    for index, bound in enumerate(BUCKETS):
        if seconds <= bound:
            bucket_totals[index] += 1


class Measured:
    """Counts every answer of the application inside it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self.app(scope, receive, send)
            return
        code = 500

        async def send_and_note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self.app(scope, receive, send_and_note)
        finally:
            observe(code, time.perf_counter() - started)


def render() -> str:
    """All series in Prometheus' text format."""
    lines = ["# TYPE http_requests_total counter"]
    for code, count in sorted(requests_total.items()):
        lines.append(f'http_requests_total{{code="{code}",version="{VERSION}"}} {count}')
    total = requests_total.total()
    name, label = "http_request_duration_seconds", f'version="{VERSION}"'
    lines.append(f"# TYPE {name} histogram")
    for bound, count in zip(BUCKETS, bucket_totals, strict=True):
        lines.append(f'{name}_bucket{{{label},le="{bound}"}} {count}')
    lines.append(f'{name}_bucket{{{label},le="+Inf"}} {total}')
    lines.append(f"{name}_sum{{{label}}} {duration_sum:.6f}")
    lines.append(f"{name}_count{{{label}}} {total}")
    return "\n".join(lines) + "\n"


async def exposition(request: Request) -> PlainTextResponse:
    """Answer a scrape."""
    return PlainTextResponse(render(), media_type="text/plain; version=0.0.4")
