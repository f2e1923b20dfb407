"""The items that users read and add."""

import asyncio
from collections.abc import AsyncIterator

import database
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

PAGE = 20  # items
EXPORT_PAGES = 10
EXPORT_PACE = 0.2  # seconds a page: a nightly export must not starve the readers


class Repeated(Exception):
    """The item that was added last has this name: somebody has sent it twice."""


last_name = ""


def refuse_repetition(name: str) -> None:
    """Raise Repeated for the name that came last."""
    global last_name
    if name == last_name:
        raise Repeated(name)
    last_name = name


async def list_items(request: Request) -> JSONResponse:
    """The newest items, newest first."""
    rows = await database.fetch(
        request, "SELECT id, name, note FROM items ORDER BY id DESC LIMIT %s", PAGE
    )
    return JSONResponse({"items": rows})


async def add_item(request: Request) -> JSONResponse:
    """Add one item, with a note if there is one, and answer with it."""
    item = await request.json()
    refuse_repetition(item["name"])
    rows = await database.fetch(
        request,
        "INSERT INTO items (name, note) VALUES (%s, %s) RETURNING id, name, note",
        item["name"],
        item.get("note"),
    )
    return JSONResponse(rows[0], status_code=201)


async def export_items(request: Request) -> StreamingResponse:
    """The oldest items as CSV, a page at a time: about 2 s."""
    return StreamingResponse(csv_pages(request), media_type="text/csv")


async def csv_pages(request: Request) -> AsyncIterator[str]:
    """The pages of an export, at the export's pace."""
    yield "id,name\n"
    last_id = 0
    for _ in range(EXPORT_PAGES):
        rows = await database.fetch(
            request, "SELECT id, name FROM items WHERE id > %s ORDER BY id LIMIT %s", last_id, PAGE
        )
        yield "".join(f"{row['id']},{row['name']}\n" for row in rows)
        last_id = rows[-1]["id"] if rows else last_id
        await asyncio.sleep(EXPORT_PACE)
