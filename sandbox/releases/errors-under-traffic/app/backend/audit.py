"""An audit trail of one request in five, buffered until a collector fetches it."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

SAMPLE = 5  # every fifth request
CAPACITY = 40  # entries: 200 requests
PATIENCE = 3.0  # seconds that the collector may be late

Entry = tuple[float, str, str]


class BufferFull(Exception):
    """The collector has not fetched the trail, and it may not lose an entry."""


class Trail:
    """Audit entries that wait for the collector."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.full_since: float | None = None

    def add(self, entry: Entry) -> None:
        """Keep an entry; BufferFull when the trail has been full for longer than PATIENCE."""
        if len(self.entries) < CAPACITY:
            self.entries.append(entry)
            return
        now = time.monotonic()
        self.full_since = self.full_since or now
        if now - self.full_since > PATIENCE:
            raise BufferFull(f"{len(self.entries)} audit entries wait for the collector")


class Audited:
    """Notes every fifth request of the application inside it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.trail = Trail()
        self.seen = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            self.seen += 1
            if self.seen % SAMPLE == 0:
                self.trail.add((time.time(), scope["method"], scope["path"]))
        await self.app(scope, receive, send)
