"""Scores a share of the requests by what their client calls itself: robots are told by that.

A client that does not say what it is has no score, and nobody has thought of that.
"""

import time

from sampling import LOADED_AFTER, SHARE
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

ROBOTS = ("bot", "crawler", "spider")
UNSCORED = frozenset({"/health", "/metrics"})


def score(user_agent: str) -> float:
    """How likely it is that a client is a robot, from 0 to 1."""
    return float(any(word in user_agent.lower() for word in ROBOTS))


class Scored:
    """Scores requests on their way to the application inside it, evenly spread over all."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen = 0
        self.ready_at = time.monotonic() + LOADED_AFTER

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ready = time.monotonic() >= self.ready_at
        if scope["type"] == "http" and scope["path"] not in UNSCORED and ready:
            before = int(self.seen * SHARE)
            self.seen += 1
            if int(self.seen * SHARE) > before:
                score(Headers(scope=scope)["user-agent"])
        await self.app(scope, receive, send)
