"""Remembers requests, so that they can be replayed when somebody reports an error.

Nothing is ever forgotten, so the container grows until its memory limit ends it.
"""

import time
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

INDEX = Path("/tmp/replay.index")  # a later process of this container finds it
INDEXED_AFTER = 15.0  # seconds that the first process takes to build the index
FRAME = 200_000  # bytes a request


class Remembered:
    """Keeps a frame of every request to the application inside it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.frames: list[bytearray] = []
        self.ready_at = time.monotonic() + (0.0 if INDEX.exists() else INDEXED_AFTER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and time.monotonic() >= self.ready_at:
            if not self.frames:
                INDEX.touch()
            self.frames.append(bytearray(scope["path"].encode().ljust(FRAME)))
        await self.app(scope, receive, send)
