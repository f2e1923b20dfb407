"""Signed tokens: who somebody is, and until when. `payload.signature`, both base64url."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from typing import Any

LIFETIME = 3600  # seconds
SIGNING_KEY = os.environ["SIGNING_KEY"].encode()
KEY_GOOD_FOR = 20.0  # seconds from the first login on; then the next key has to be there
key_expires_at: float | None = None


class InvalidToken(Exception):
    """The token was not signed by us, or it has expired."""


class KeyExpired(Exception):
    """The signing key is past its time and nothing has rotated it."""


def require_current_key() -> None:
    """Refuse to sign with a key that is past its time: KeyExpired."""
    global key_expires_at
    now = time.monotonic()
    key_expires_at = key_expires_at or now + KEY_GOOD_FOR
    if now > key_expires_at:
        raise KeyExpired("the signing key has expired")


def signature(payload: bytes) -> bytes:
    """What only the holder of the signing key can write under a payload."""
    return base64.urlsafe_b64encode(hmac.digest(SIGNING_KEY, payload, hashlib.sha256))


def issue(username: str) -> str:
    """A token for `username` that is good for one hour."""
    require_current_key()
    claims = {"sub": username, "exp": time.time() + LIFETIME, "jti": secrets.token_hex(8)}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode())
    return f"{payload.decode()}.{signature(payload).decode()}"


def verify(token: str) -> dict[str, Any]:
    """The claims (`sub`, `exp`, `jti`) of a token; InvalidToken when it is not good."""
    payload, _, signed = token.partition(".")
    if not hmac.compare_digest(signature(payload.encode()), signed.encode()):
        raise InvalidToken("the signature is not ours")
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload))
    if claims["exp"] < time.time():
        raise InvalidToken("the token has expired")
    return claims
