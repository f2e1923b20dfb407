"""What of a container's values is secret, and that no text repeats it."""

import json

import pytest

from release.masking import secrets_in_lines, secrets_of, secrets_of_file, without_secrets


@pytest.mark.parametrize(
    ("name", "value", "text", "shown"),
    [
        ("TOKEN", "hunter2hunter2", "login with hunter2hunter2", "login with ***"),
        ("GREETING", "not a secret by name", "say not a secret by name", "say ***"),
        # A password in a URL is one by itself, as the URL has it and as a program reads it.
        ("DATABASE_URL", "postgresql://u:s3cr3tpass@db/x", "password s3cr3tpass", "password ***"),
        ("DATABASE_URL", "postgresql://u:p%40ss@db/x", "p@ss or p%40ss", "*** or ***"),
        ("PROXY_HOST", "http://u:s3cr3tpass@proxy", "at proxy: s3cr3tpass", "at proxy: ***"),
        ("CACHE", "redis://:abcd@cache:6379", "AUTH abcd", "AUTH ***"),
        # … and in what else holds one.
        ("DB", "host=db user=app password=s3cr3t", "password is s3cr3t", "password is ***"),
        ("DB", "Server=db;Pwd='s3 cr3t';Timeout=5", "refused: s3 cr3t", "refused: ***"),
        ("HOOK", "https://x.example.com/?token=abc123def", "sent abc123def", "sent ***"),
        ("GCP", '{"type": "account", "a": [{"private_key": "k-77-x"}]}', "k-77-x", "***"),
        ("GCP", '{"type": "account", "a": [{"private_key": "k-77-x"}]}', "account", "account"),
        # One of several lines is written a line at a time, or as JSON.
        ("CERT", "BEGIN KEY\nbWlhb3c=\nEND KEY", "read bWlhb3c=", "read ***"),
        ("CERT", "BEGIN KEY\nbWlhb3c=\nEND KEY", r'"BEGIN KEY\nbWlhb3c=\nEND KEY"', '"***"'),
        ("KEY", 'quo"ted-value', json.dumps({"key": 'quo"ted-value'}), '{"key": "***"}'),
        ("COOKIE", "a b&c=d1", "in a URL: a%20b%26c%3Dd1", "in a URL: ***"),
        # Short values are words, unless the name says more, and then only where they stand alone.
        ("GREETING", "hello", "hello", "hello"),
        ("CARD_PIN", "4711", "PIN 4711 is wrong", "PIN *** is wrong"),
        ("CARD_PIN", "4711", "port 47110, id a4711", "port 47110, id a4711"),
        ("DB_PASSWORD", "abc", "abc", "abc"),
        ("AUTH_ENABLED", "true", "it is true", "it is true"),
        ("SHIPPING", "4711", "4711", "4711"),
        # Names that are never secret, so that a log can be read.
        ("PUBLIC_PORT", "18080", "port 18080", "port 18080"),
        ("COMPOSE_PROJECT_NAME", "project", "project shop", "project shop"),
        ("APP_ENV", "production", "production is up", "production is up"),
        ("LOG_LEVEL", "warning", "warning: disk", "warning: disk"),
        ("PATH", "/usr/local/bin", "in /usr/local/bin", "in /usr/local/bin"),
        ("EMPTY", "", "nothing", "nothing"),
    ],
)
def test_a_value_is_masked_in_every_form(name: str, value: str, text: str, shown: str) -> None:
    assert without_secrets(text, secrets_of({name: value})) == shown


def test_a_value_that_holds_another_is_masked_as_a_whole() -> None:
    secrets = secrets_of({"A_TOKEN": "abcdef", "B_TOKEN": "abcdef-ghijkl"})

    assert without_secrets("abcdef-ghijkl abcdef", secrets) == "*** ***"


def test_a_variable_without_a_value_masks_nothing() -> None:
    assert secrets_of({"TOKEN": None}) == frozenset()


def test_a_file_that_is_a_secret_is_one_in_each_of_its_lines() -> None:
    secrets = secrets_of_file("first-half\nhalf-two\n")

    assert without_secrets("first-half, then half-two", secrets) == "***, then ***"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("TOKEN=hunter2hunter2", "hunter2hunter2"),
        ("export TOKEN = hunter2hunter2", "hunter2hunter2"),
        ("TOKEN: hunter2hunter2", "hunter2hunter2"),
        ("TOKEN='hunter2hunter2'", "hunter2hunter2"),
        ("TOKEN='hunter2 hunter2' # of the forge", "hunter2 hunter2"),
        ("TOKEN=hunter2#hunter2 # of the forge", "hunter2#hunter2"),
        (r'TOKEN="say \"hunter2\"" # quoted', 'say "hunter2"'),
        (r'TOKEN="two\nlines-here"', "lines-here"),
        ("hunter2hunter2 without a name", "hunter2hunter2 without a name"),
        ("HUNTERHUNTER", "HUNTERHUNTER"),
    ],
)
def test_a_line_of_env_is_masked_whichever_way_it_is_read(line: str, value: str) -> None:
    """Comments, quotes, escapes and colons are read in one way by Compose, in another by others."""
    assert without_secrets(f"error: {value}", secrets_in_lines(line)) == "error: ***"


@pytest.mark.parametrize(
    "line", ["TOKEN=gr\udcfcn-token", r'TOKEN="\ud800-token"', '{"a": "\\ud800"}']
)
def test_half_a_character_is_no_reason_to_show_a_log_to_nobody(line: str) -> None:
    """A file that is not UTF-8, or an escape of half a character: what can be masked is masked."""
    secrets = secrets_in_lines(f"{line}\nOTHER=hunter2hunter2") | secrets_of({"A": line})

    assert without_secrets("hunter2hunter2 logs in", secrets) == "*** logs in"


def test_comments_and_empty_lines_of_env_mask_nothing() -> None:
    assert secrets_in_lines("# a comment that is long\n\n  \n#TOKEN=old-token-value\n") == set()
