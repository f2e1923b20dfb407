"""Which of an environment's values are secret, and how they are masked in text that people read.

A container gets its values from `.env`, `env_file:`, `environment:` and its image, in whatever
syntax each has: what counts is what it got. If too much is masked, a log says less; if too little,
a secret stands in a database that many can read.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

MASK = "***"
_SHORTEST = 6  # characters; shorter values are ordinary words and numbers
_SHORTEST_NAMED = 4  # … unless the name says that they are secret, as of a PIN
_SWITCHES = ("true", "false", "none", "null")  # as of AUTH_ENABLED
_NEVER_SECRET = re.compile(
    r"COMPOSE_.*|LC_.*|(.*_)?(IMAGE|NETWORK|PORT|USER|HOST|NAME|TAG|VERSION|ENV|ENVIRONMENT|LEVEL"
    r"|MODE|REGION|ZONE|DEBUG|TZ|LANG|LANGUAGE|PATH|HOME|DIR|FORMAT|WORKERS|THREADS|TIMEOUT|STAGE)",
    re.IGNORECASE,
)
_SAYS_SECRET = re.compile(
    r".*(PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|SIGNATURE|SALT|COOKIE|(^|_)(PIN|OTP|DSN|AUTH)(_|$)).*",
    re.IGNORECASE,
)
_PAIR = re.compile(r"""([A-Za-z_][\w.-]*)\s*=\s*("[^"]*"|'[^']*'|[^\s;&,]+)""")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*(?:[=:](.*))?$", re.DOTALL)


def secrets_of(values: Mapping[str, str | None]) -> frozenset[str]:
    """The secrets among variables: each value in the forms that a program may write it in.

    A variable whose name is never secret (``PUBLIC_PORT``, ``LOG_LEVEL``) is none, but the password
    in its URL is one. A value shorter than 6 characters is none either, or shorter than 4 if the
    name says that it is secret.
    """
    found: set[str] = set()
    for name, value in values.items():
        if value:
            found |= set(_secret_parts(name, value))
    return frozenset(found)


def secrets_of_file(text: str) -> frozenset[str]:
    """The secrets in a file that is a secret as a whole: its text, and each of its lines."""
    return frozenset(_forms(text.strip(), _SHORTEST_NAMED))


def secrets_in_lines(text: str) -> frozenset[str]:
    """The secrets in the text of an `.env` file, in whichever way its lines are read.

    For a file that nothing else could read: a line may be broken, and an error may repeat it.
    """
    found: set[str] = set()
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        name, value = match.groups() if match else ("", line.strip())
        for reading in {value, *_readings(value)} if value is not None else {name}:
            found |= secrets_of({name if value is not None else "": reading})
    return frozenset(found)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret masked; a short one only if it stands alone."""
    for secret in sorted(secrets, key=lambda secret: (-len(secret), secret)):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return text


def _secret_parts(name: str, value: str) -> Iterator[str]:
    shortest = _SHORTEST_NAMED if _SAYS_SECRET.fullmatch(name) else _SHORTEST
    if not _NEVER_SECRET.fullmatch(name):
        yield from _forms(value.strip(), shortest)
    yield from _forms(_password(value), _SHORTEST_NAMED)
    for key, part in _pairs(value):
        if _SAYS_SECRET.fullmatch(key) and not _NEVER_SECRET.fullmatch(key):
            yield from _forms(part, _SHORTEST_NAMED)


def _forms(value: str, shortest: int) -> Iterator[str]:
    """A value as it is, as JSON and in a URL; one of several lines also line by line."""
    lines = [line.strip() for line in value.splitlines()]
    for part in {value, *lines}:
        quoted = quote(part, safe="", errors="replace")  # half a character is no reason to fail
        for form in {part, unquote(part), quoted, json.dumps(part)[1:-1]}:
            if len(form) >= shortest and form.lower() not in _SWITCHES:
                yield form


def _password(text: str) -> str:
    """The password in a URL; "" if there is none."""
    try:
        return urlsplit(text).password or ""
    except ValueError:
        return ""


def _pairs(value: str) -> Iterator[tuple[str, str]]:
    """Names and values in a connection string, a URL's query or a JSON object."""
    for key, part in _PAIR.findall(value):
        yield key, part.strip("\"'")
    if value.lstrip().startswith("{"):
        try:
            yield from _leaves(json.loads(value))
        except (ValueError, RecursionError):
            return


def _leaves(found: object) -> Iterator[tuple[str, str]]:
    if isinstance(found, dict):
        for key, value in found.items():
            if isinstance(value, str):
                yield str(key), value
            else:
                yield from _leaves(value)
    elif isinstance(found, list):
        for value in found:
            yield from _leaves(value)


def _readings(value: str) -> Iterator[str]:
    """What a line's value may mean: without its comment, its quotes, its escapes."""
    value = value.strip()
    quoted = re.match(r"""(["'])((?:\\.|(?!\1).)*)\1""", value)
    if quoted:
        yield quoted[2]
        yield re.sub(r"\\(.)", r"\1", quoted[2])
        yield quoted[2].encode(errors="replace").decode("unicode_escape", "replace")
    bare = re.split(r"\s#", value, maxsplit=1)[0].strip()
    yield bare
    yield bare.strip("\"'")
