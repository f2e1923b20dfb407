"""Passwords and their stored form."""

import base64
import hashlib
import hmac


def matches(password: str, stored: str) -> bool:
    """Whether a password is the one behind `scrypt$<salt>$<hash>` (both base64)."""
    _, salt, expected = stored.split("$")
    found = hashlib.scrypt(password.encode(), salt=base64.b64decode(salt), n=2**14, r=8, p=1)
    return hmac.compare_digest(found, base64.b64decode(expected))
