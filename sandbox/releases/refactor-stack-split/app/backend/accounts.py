"""Who is asking: log in, log out, `GET /api/me`."""

from typing import Any

import database
import passwords
import tokens
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


async def authenticate(request: Request) -> dict[str, Any]:
    """The claims of the request's Bearer token; 401 when it has none that is good."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        claims = tokens.verify(token)
    except tokens.InvalidToken as error:
        raise HTTPException(401, str(error)) from None
    if scheme.lower() != "bearer" or await was_revoked(request, claims["jti"]):
        raise HTTPException(401, "log in first")
    return claims


async def was_revoked(request: Request, token_id: str) -> bool:
    """Whether the token's owner has logged out."""
    return bool(
        await database.fetch(request, "SELECT 1 FROM revoked_tokens WHERE id = %s", token_id)
    )


async def login(request: Request) -> JSONResponse:
    """Exchange a username and a password for a token; 401 when they do not belong together."""
    credentials = await request.json()
    rows = await database.fetch(
        request, "SELECT password_hash FROM users WHERE username = %s", credentials["username"]
    )
    # scrypt takes tens of milliseconds, in which the event loop serves others.
    if not rows or not await run_in_threadpool(
        passwords.matches, credentials["password"], rows[0]["password_hash"]
    ):
        raise HTTPException(401, "unknown user or wrong password")
    return JSONResponse({"token": tokens.issue(credentials["username"])})


async def logout(request: Request) -> Response:
    """Make the request's token worthless."""
    claims = await authenticate(request)
    await database.fetch(
        request,
        "INSERT INTO revoked_tokens (id, expires_at) VALUES (%s, to_timestamp(%s))"
        " ON CONFLICT DO NOTHING",
        claims["jti"],
        claims["exp"],
    )
    return Response(status_code=204)


async def me(request: Request) -> JSONResponse:
    """Who the request's token belongs to."""
    claims = await authenticate(request)
    return JSONResponse({"username": claims["sub"]})
