"""What an address looks like, and what a person is told to write instead of one that does not."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from release.configuration.address import (
    api_address,
    block_name,
    engine_address,
    git_remote,
    image_name,
    needed_path,
    postgres_dsn,
    registry_address,
    variable_name,
    web_address,
    web_path,
)

PASSWORD = "correct-horse"
Checked = Callable[[str], str]


def dsn(text: str) -> str:
    found = postgres_dsn(SecretStr(text))
    assert found is not None
    return found.get_secret_value()


GOOD: list[tuple[Checked, str]] = [
    *((web_address, text) for text in ("https://api.example.com", "http://127.0.0.1:8080/app/")),
    (web_address, f"https://probe:{PASSWORD}@staging.example.com"),
    (web_address, "HTTPS://[::1]:8443"),
    *((api_address, text) for text in ("", "https://api.github.com/repos/a/b")),
    *((registry_address, text) for text in ("registry.example.com", "127.0.0.1:5000", "localhost")),
    *((registry_address, text) for text in ("[::1]:5000", "registry:5000", "r-1.example.com:443")),
    *((image_name, text) for text in ("ignition-api", "team/api", "a.b__c/d-e", "api2")),
    *(
        (git_remote, text)
        for text in ("https://git.example.com/t/b.git", "git@example.com:t/b.git")
    ),
    *((git_remote, text) for text in ("/srv/b.git", "../b.git", "ssh://git@example.com:22/b.git")),
    *((git_remote, text) for text in ("file:///srv/b.git", "https://ada@example.com/b.git")),
    *((engine_address, text) for text in ("", "unix:///run/docker.sock", "ssh://deploy@host")),
    (engine_address, "tcp://10.0.0.2:2376"),
    *((web_path, text) for text in ("", "/", "/health", "/api/?x=1")),
    (needed_path, "/health"),
    *((variable_name, text) for text in ("API_IMAGE", "_x", "image2")),
    *((block_name, text) for text in ("slack-webhook/deployments", "pager-duty-webhook/on-call")),
    *((dsn, text) for text in ("", "postgresql://a:b@c/d", "postgres://c", "host=/tmp dbname=x")),
    *((dsn, text) for text in ("postgresql://a,b:5433/d", "dbname = x", "service=orders")),
]


@pytest.mark.parametrize(("checked", "text"), GOOD)
def test_an_address_is_left_as_it_is(checked: Checked, text: str) -> None:
    assert checked(text) == text


BAD: list[tuple[Checked, str, str]] = [
    (web_address, "", "has no scheme"),
    (web_address, "api.example.com", "has no scheme: write 'https://api.example.com'"),
    (web_address, "localhost:8080", "has no scheme: write 'https://localhost:8080'"),
    (
        web_address,
        "htps://api.example.com",
        "not an http or https URL: write 'https://api.example.com'",
    ),
    (
        web_address,
        "ftp://api.example.com/x",
        "not an http or https URL: write 'https://api.example.com/x",
    ),
    (web_address, "https:/api.example.com", "names no host"),
    (web_address, "http://", "names no host"),
    (web_address, "https://api.example.com:http", "has a port or a host that cannot be one"),
    (web_address, "https://[::1", "has a port or a host that cannot be one"),
    (web_address, "https://api.example.com/?a=b", "write 'https://api.example.com/'"),
    (web_address, " https://api.example.com", "has a blank in or around it: write 'https://api"),
    (api_address, f"https://ada:{PASSWORD}@api.example.com", "holds a login"),
    (
        registry_address,
        "http://127.0.0.1:5000",
        "'http://127.0.0.1:5000' has a scheme; it is host and port, as an image's name begins: "
        "write '127.0.0.1:5000', insecure = true for plain HTTP",
    ),
    (registry_address, "https://r.example.com", "has a scheme; "),
    (registry_address, "r.example.com/", "has a slash at its end; "),
    (registry_address, "r.example.com ", "has blanks; "),
    (
        registry_address,
        "https://ghcr.io/team/",
        "has a scheme and the path 'team'; it is host and port, as an image's name begins: write "
        "'ghcr.io', and the path in service.name: 'team/NAME'",
    ),
    (registry_address, f"ada:{PASSWORD}@r.example.com", "has a login; "),
    (registry_address, f"https://ada:{PASSWORD}@r.example.com", "has a scheme and a login; "),
    (registry_address, "", "is not a registry: write host and port"),
    (registry_address, "r.example.com:port", "is not a registry: write host and port"),
    (image_name, "Ignition-API", "is not an image name: lower-case letters"),
    (image_name, "Ignition API", "write 'ignition-api'"),
    (image_name, "r.example.com:5000/api:v1", "without registry and tag: write 'api'"),
    (image_name, "api:latest", "write 'api'"),
    (image_name, "/", "such as 'ignition-api'"),
    (git_remote, "", "is not a git remote"),
    (git_remote, "--upload-pack=x", "is not a git remote"),
    (git_remote, "/srv/b.git ", "is not a git remote"),
    (
        git_remote,
        "htps://git.example.com/b",
        "'htps', which git does not know: write 'https://git.",
    ),
    (
        git_remote,
        f"https://ada:{PASSWORD}@git.example.com/b.git",
        "holds a password or a token, and this file is in git: write "
        "'https://git.example.com/b.git', and give the login to the worker's git credential store",
    ),
    (git_remote, "https://ghp_0123456789@github.com/a/b", "holds a password or a token"),
    (engine_address, "deploy@host", "has no scheme: write 'ssh://"),
    (engine_address, "/run/docker.sock", "has no scheme: write 'unix:///run/docker.sock'"),
    (engine_address, "sssh://host", "is not a DOCKER_HOST: write 'ssh://host'"),
    (web_path, "health", "does not begin with '/': write '/health'"),
    (web_path, "https://api.example.com/health", "a path belongs here: write '/health'"),
    (web_path, "/a b", "has a blank in it"),
    (needed_path, "", "is empty: write a path"),
    (variable_name, "API-IMAGE", "is not a variable's name"),
    (variable_name, "", "is not a variable's name"),
    (block_name, "deployments", "does not name a Prefect block"),
    (block_name, "https://hooks.example.com/secret", "does not name a Prefect block"),
    (dsn, PASSWORD, "is not a PostgreSQL connection string: write postgresql://USER:PASSWORD@HOST"),
    (dsn, f"mysql://ada:{PASSWORD}@db/orders", "does not begin with postgresql://: write postgres"),
    (
        dsn,
        f"postgresql+psycopg://ada:{PASSWORD}@db/x",
        "begins with postgresql+psycopg://, which names a driver: write postgresql:",
    ),
    (dsn, f"ada:{PASSWORD}@db/orders", "is not a PostgreSQL connection string"),
]


@pytest.mark.parametrize(("checked", "text", "sentence"), BAD)
def test_what_is_none_is_refused_with_what_to_write_and_without_a_password(
    checked: Checked, text: str, sentence: str
) -> None:
    with pytest.raises(ValueError) as refused:
        checked(text)

    said = str(refused.value)
    assert sentence in said
    assert PASSWORD not in said
    assert "secret" not in said.replace("its token", "")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "checked",
    [web_address, registry_address, image_name, git_remote, engine_address, web_path, dsn],
)
@given(text=st.text())
def test_whatever_is_typed_is_taken_or_refused_in_one_line(checked: Checked, text: str) -> None:
    try:
        said = checked(text) and ""
    except ValueError as error:
        said = str(error)

    assert len(said.splitlines()) <= 1


@example("/@0")
@example("registry.example.com/team@1")
@example("@registry.example.com")
@given(st.from_regex(r"[A-Za-z0-9.:/@ -]{0,40}", fullmatch=True))
def test_what_is_told_to_write_as_registry_is_one(text: str) -> None:
    try:
        registry_address(text)
    except ValueError as error:
        told = str(error).rpartition(" write '")[2].partition("'")[0]
        if "is not a registry" not in str(error):
            assert registry_address(told) == told
