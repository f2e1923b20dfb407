"""The service's connections to PostgreSQL."""

import os
from typing import Any

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request


def open_pool() -> AsyncConnectionPool:
    """The pool of this process, opened by `async with`.

    A request waits up to 2 s for a connection; then psycopg_pool.PoolTimeout is raised.
    """
    return AsyncConnectionPool(
        os.environ["DATABASE_URL"],
        min_size=2,
        max_size=12,
        timeout=2.0,
        check=AsyncConnectionPool.check_connection,  # replaces what a restarted server has closed
        kwargs={"autocommit": True, "row_factory": dict_row, "connect_timeout": 3},
        open=False,
    )


async def fetch(request: Request, query: str, *values: Any) -> list[dict[str, Any]]:
    """Run one query in its own transaction and return its rows."""
    async with request.app.state.pool.connection() as connection:
        cursor = await connection.execute(query, values or None)
        return await cursor.fetchall() if cursor.description else []
