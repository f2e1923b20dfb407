"""The Ignition API's process: its routes, its PostgreSQL pool, its listening socket.

SIGTERM ends it in order: no new connections, requests in flight are finished, exit code 0.
"""

import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import about
import accounts
import database
import health
import items
import layers
import metrics
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

log = logging.getLogger("uvicorn.error")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold the connection pool open for as long as the service runs."""
    async with database.open_pool() as pool:
        app.state.pool = pool
        yield


def routes() -> list[Route]:
    """All routes of the service."""
    return [
        Route("/health", health.health),
        Route("/metrics", metrics.exposition),
        Route("/api/", about.about),
        Route("/api/login", accounts.login, methods=["POST"]),
        Route("/api/logout", accounts.logout, methods=["POST"]),
        Route("/api/me", accounts.me),
        Route("/api/items", items.list_items),
        Route("/api/items", items.add_item, methods=["POST"]),
        Route("/api/items/export", items.export_items),
    ]


app = layers.wrap(Starlette(routes=routes(), lifespan=lifespan))


def main() -> None:
    """Serve on port 8000 until SIGTERM."""
    # uvicorn raises the signal again once it has shut down; as a handled one it changes nothing.
    signal.signal(signal.SIGTERM, lambda number, frame: log.info("stopped by SIGTERM"))
    uvicorn.run(
        app,
        host="0.0.0.0",
        port=8000,
        access_log=False,
        timeout_keep_alive=65,  # longer than the proxy keeps its connections to us
        timeout_graceful_shutdown=12,  # seconds; Compose sends SIGKILL after 15
    )


if __name__ == "__main__":
    main()
