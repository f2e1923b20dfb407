"""The outermost layer: every answer names the release, and an exception is an answer as well."""

import logging

from about import VERSION
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("uvicorn.error")


class Edge:
    """Adds `x-version` to every answer of the application inside it, its failures included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_signed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (b"x-version", VERSION.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_signed)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if not started:  # else half an answer is out, and its end will be missing
                answer = JSONResponse({"status": "failed"}, status_code=500)
                await answer(scope, receive, send_signed)
