"""Addresses in the configuration: what one looks like, and what is wrong with a bad one.

Each function returns the address, or raises ValueError with what to write instead, so that a
settings model names the field. A message never holds a password or a connection string.
"""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, SecretStr

from release.wording import nearest

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/*")
_WITH_SLASHES = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?(\.[0-9A-Za-z][0-9A-Za-z-]*)*)"
_HOST_AND_PORT = re.compile(rf"{_HOST}(:[0-9]{{1,5}})?")
_IMAGE = re.compile(r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*)*")
_GIT_SCHEMES = ("https", "ssh", "http", "git", "file", "git+ssh", "ssh+git")
_ENGINE_SCHEMES = ("unix", "ssh", "tcp", "npipe", "fd", "http", "https")
_POSTGRES = ("postgresql", "postgres")
# Tokens of GitHub and GitLab, which are sent in place of a user's name.
_TOKEN = re.compile(r"(gh[a-z]_|github_pat_|gl[a-z]+-)")
# What libpq's own form of a connection string, `host=… dbname=…`, begins its parts with.
_CONNINFO = re.compile(r"(^|\s)(host|hostaddr|port|dbname|user|password|passfile|service)\s*=")
_SHOWN = 100  # characters of what was found
_VARIABLE = re.compile(r"[A-Za-z_][0-9A-Za-z_]*")
_BLOCK = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*/[^/\s]+")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def web_address(text: str) -> str:
    """An http or https URL: ``https://api.example.com``."""
    address = text.strip()
    found = _SCHEME.match(address)
    if not _WITH_SLASHES.match(address) and not (found and found[1].lower() in ("http", "https")):
        raise ValueError(f"{_shown(text)} has no scheme: write {_shown('https://' + address)}")
    parts = _split(text, address)
    if parts.scheme.lower() not in ("http", "https"):
        instead = "https://" + address.partition("://")[2]
        raise ValueError(f"{_shown(text)} is not an http or https URL: write {_shown(instead)}")
    if not parts.hostname:
        raise ValueError(f"{_shown(text)} names no host: write it as 'https://api.example.com'")
    if parts.query or parts.fragment:
        bare = parts._replace(query="", fragment="").geturl()
        raise ValueError(
            f"{_shown(text)} has a query or a fragment, and paths are appended to it: "
            f"write {_shown(bare)}"
        )
    if _CONTROL.search(text):
        raise ValueError(
            f"{_shown(text)} has a blank in or around it: write {_shown(_CONTROL.sub('', text))}"
        )
    return text


def api_address(text: str) -> str:
    """A :func:`web_address` without a login, which would be a secret. It may be empty."""
    if not text:
        return text
    web_address(text)
    if "@" in urlsplit(text).netloc:
        raise ValueError(
            f"holds a login, which does not belong in a file: write {_shown(text)}, "
            "and set its token or password as a variable"
        )
    return text


def registry_address(text: str) -> str:
    """Host and port of a registry, as an image's name begins with it: ``127.0.0.1:5000``."""
    if _HOST_AND_PORT.fullmatch(text):
        return text
    bare = _CONTROL.sub("", text)
    scheme = _WITH_SLASHES.match(bare)
    rest = bare[scheme.end() :] if scheme else bare
    authority, slash, path = rest.partition("/")
    _, login, host = authority.rpartition("@")
    path = path.strip("/")
    if not _HOST_AND_PORT.fullmatch(host):
        raise ValueError(
            f"{_shown(text)} is not a registry: write host and port, such as "
            "'registry.example.com' or '127.0.0.1:5000'"
        )
    what = [
        "a scheme" if scheme else "",
        "a login" if login else "",
        f"the path {path!r}" if path else "a slash at its end" if slash else "",
        "blanks" if bare != text else "",
    ]
    then = [
        "insecure = true for plain HTTP" if scheme and scheme[1].lower() == "http" else "",
        f"and the path in service.name: '{path}/NAME'" if path not in ("", "v2") else "",
        "and the login as registry.username and its variable" if what[1] else "",
    ]
    raise ValueError(
        f"{_shown(text)} has {_listed(what)}; it is host and port, as an image's name begins: "
        + ", ".join([f"write '{host}'", *filter(None, then)])
    )


def image_name(text: str) -> str:
    """An image's name without registry and tag, as registries take it: lower case."""
    if _IMAGE.fullmatch(text):
        return text
    bare = text.strip().partition("@")[0]
    name, _, tag = bare.rpartition(":")
    if name and "/" not in tag:
        bare = name
    first, slash, rest = bare.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        bare = rest
    low = re.sub(r"[^a-z0-9./_-]+", "-", bare.lower()).strip("-./_")
    instead = f": write '{low}'" if _IMAGE.fullmatch(low) else ", such as 'ignition-api'"
    raise ValueError(
        f"{text!r} is not an image name: lower-case letters, digits, '.', '_', '-' and '/', "
        f"without registry and tag{instead}"
    )


def git_remote(text: str) -> str:
    """A git remote: a URL, ``user@host:path``, or a path. It holds no password."""
    if not text or text.startswith("-") or _CONTROL.search(text.strip()) or text != text.strip():
        raise ValueError(
            "is not a git remote: write a URL, such as 'https://git.example.com/team/backend.git', "
            "or a path, without blanks around it"
        )
    scheme = _WITH_SLASHES.match(text)
    if not scheme:
        return text
    if scheme[1].lower() not in _GIT_SCHEMES:
        near = nearest(scheme[1], _GIT_SCHEMES) or "https"
        raise ValueError(
            f"has the scheme {scheme[1]!r}, which git does not know: "
            f"write {_shown(f'{near}://{text[scheme.end() :]}')}"
        )
    login, at, _ = _split(text, text).netloc.rpartition("@")
    if at and (":" in login or _TOKEN.match(login)):
        raise ValueError(
            f"holds a password or a token, and this file is in git: write {_shown(text)}, and give "
            "the login to the worker's git credential store"
        )
    return text


def engine_address(text: str) -> str:
    """DOCKER_HOST of an engine: ``unix:///var/run/docker.sock``, ``ssh://user@host``; or empty."""
    if not text:
        return text
    scheme = _WITH_SLASHES.match(text)
    if not scheme:
        kind = "unix://" if text.startswith("/") else "ssh://"
        raise ValueError(f"{_shown(text)} has no scheme: write {_shown(kind + text)}")
    if scheme[1].lower() not in _ENGINE_SCHEMES:
        near = nearest(scheme[1], _ENGINE_SCHEMES) or "ssh"
        instead = f"{near}://{text[scheme.end() :]}"
        raise ValueError(f"{_shown(text)} is not a DOCKER_HOST: write {_shown(instead)}")
    return text


def web_path(text: str) -> str:
    """A path below an address: it begins with ``/``. Empty where it is not used."""
    if not text:
        return text
    parts = _WITH_SLASHES.match(text)
    if parts:
        path = "/" + text[parts.end() :].partition("/")[2]
        raise ValueError(f"is a whole address, and a path belongs here: write {path!r}")
    if not text.startswith("/"):
        instead = f"/{text.strip()}"
        raise ValueError(f"{text!r} does not begin with '/': write {instead!r}")
    if _CONTROL.search(text):
        raise ValueError(f"{text!r} has a blank in it: write {_CONTROL.sub('', text)!r}")
    return text


def needed_path(text: str) -> str:
    """A :func:`web_path` that may not be empty."""
    if not text:
        raise ValueError("is empty: write a path, such as '/'")
    return web_path(text)


def postgres_dsn(secret: SecretStr | None) -> SecretStr | None:
    """A PostgreSQL connection string: a URL, or libpq's own ``host=… dbname=…``. Never shown."""
    text = secret.get_secret_value().strip() if secret else ""
    if not text:
        return secret
    scheme = _WITH_SLASHES.match(text)
    example = "write postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    if not scheme and not _CONNINFO.search(text):
        raise ValueError(f"is not a PostgreSQL connection string: {example}")
    if scheme and scheme[1].lower() not in _POSTGRES:
        if scheme[1].lower().partition("+")[0] in _POSTGRES:
            raise ValueError(f"begins with {scheme[1]}://, which names a driver: {example}")
        raise ValueError(f"does not begin with postgresql://: {example}")
    return secret


def variable_name(text: str) -> str:
    """The name of an environment variable, as a shell and Compose take it."""
    if not _VARIABLE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a variable's name: letters, digits and _, as 'API_IMAGE'"
        )
    return text


def block_name(text: str) -> str:
    """A Prefect block: ``slack-webhook/deployments``. Any other text may be a secret address."""
    if not _BLOCK.fullmatch(text):
        raise ValueError(
            "does not name a Prefect block: write type and name, such as "
            "'slack-webhook/deployments'; a webhook's address belongs in the block"
        )
    return text


def _split(shown: str, text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(
            f"{_shown(shown)} has a port or a host that cannot be one: "
            "write it as 'https://api.example.com:8443'"
        ) from None
    return parts


def _shown(text: str) -> str:
    """A text in quotes, without what stands before the host, which may be a login."""
    scheme = _WITH_SLASHES.match(text)
    begin = scheme[0] if scheme else ""
    host, slash, path = text[len(begin) :].partition("/")
    bare = f"{begin}{host.rpartition('@')[2]}{slash}{path}"
    return repr(bare if len(bare) <= _SHOWN else f"{bare[:_SHOWN]}…")


def _listed(words: list[str]) -> str:
    *most, last = [word for word in words if word]
    return f"{', '.join(most)} and {last}" if most else last


WebAddress = Annotated[str, AfterValidator(web_address)]
ApiAddress = Annotated[str, AfterValidator(api_address)]
RegistryAddress = Annotated[str, AfterValidator(registry_address)]
ImageName = Annotated[str, AfterValidator(image_name)]
GitRemote = Annotated[str, AfterValidator(git_remote)]
EngineAddress = Annotated[str, AfterValidator(engine_address)]
WebPath = Annotated[str, AfterValidator(web_path)]
NeededPath = Annotated[str, AfterValidator(needed_path)]
VariableName = Annotated[str, AfterValidator(variable_name)]
BlockName = Annotated[str, AfterValidator(block_name)]
PostgresDsn = Annotated[SecretStr | None, AfterValidator(postgres_dsn)]
