"""Which release answers: `GET /api/`."""

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse

VERSION = Path(__file__).with_name("VERSION.txt").read_text().strip()
REVISION = os.environ["REVISION"]


async def about(request: Request) -> JSONResponse:
    """Answer with the service's name, version and revision."""
    return JSONResponse({"name": "ignition-api", "version": VERSION, "revision": REVISION})
