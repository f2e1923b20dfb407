"""Whether this instance can serve: `GET /health`."""

import os

import database
import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse


async def health(request: Request) -> JSONResponse:
    """Answer 200 when PostgreSQL and the session store are there, else 503 with the reason."""
    if "SESSION_STORE_URL" not in os.environ:
        return unavailable("SESSION_STORE_URL is not set")
    try:
        await database.fetch(request, "SELECT 1")
    except (psycopg.Error, PoolTimeout) as error:
        return unavailable(str(error))
    return JSONResponse({"status": "ok"})


def unavailable(reason: str) -> JSONResponse:
    """The answer of an instance that cannot serve."""
    return JSONResponse({"status": "unavailable", "reason": reason}, status_code=503)
