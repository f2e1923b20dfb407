"""Whether this instance can serve: `GET /health`."""

import database
import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse


async def health(request: Request) -> JSONResponse:
    """Answer 200 when PostgreSQL answers this instance, else 503 with the reason."""
    try:
        await database.fetch(request, "SELECT 1")
    except (psycopg.Error, PoolTimeout) as error:
        return JSONResponse({"status": "unavailable", "reason": str(error)}, status_code=503)
    return JSONResponse({"status": "ok"})
