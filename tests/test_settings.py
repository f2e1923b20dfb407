"""How the configuration is read, what is refused, and what the example promises."""

import ast
import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import settings
from docs import example as example_file
from release.configuration.key import Key, is_secret, keys_of, table_in, variable_of
from release.duration import parse_duration
from release.errors import BadConfiguration, BadRequest
from sandbox.layout import Sandbox
from settings import Settings, load_settings

ROOT = Path(settings.__file__).parent
EXAMPLE = ROOT / "ignition.example.toml"
SECRET = "correct-horse-battery"
DSN = f"postgresql://ada:{SECRET}@db.example.com/orders"

SMALLEST = """
[service]
name = "orders"

[repository]
url = "/srv/orders.git"

[registry]
address = "127.0.0.1:5000"

[environments.production]
url = "http://127.0.0.1:8080"

[environments.production.orchestrator]
directory = "deploy/production"
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets itself."""
    for name in [name for name in os.environ if name.startswith("IGNITION_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a text the configuration."""

    def write(text: str) -> Path:
        path = tmp_path / "ignition.toml"
        path.write_text(text)
        monkeypatch.setenv("IGNITION_CONFIG", str(path))
        return path

    return write


# ── What is refused, and with which sentence ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("addition", "sentence"),
    [
        (
            '[environments.production.watch]\nlenght = "5 min"',
            "environments.production.watch.lenght is not a setting; did you mean length?",
        ),
        (
            "[environments.production.rollout]\nreplica = 2",
            "environments.production.rollout.replica is not a setting; did you mean replicas?",
        ),
        ("[environment]\nx = 1", "environment is not a setting; did you mean environments?"),
        ("[ledger]\nxyzzy = 1", "ledger.xyzzy is not a setting"),
        (
            "[environments.production.watch]\nlength = 600",
            "environments.production.watch.length: 600 is not a duration: write a number and a "
            "unit (ms, s, min, h, d), as '30 s'",
        ),
        (
            '[environments.production.watch]\nevery = "0 s"',
            "environments.production.watch.every is 0 ms, and must be more than 0 ms",
        ),
        (
            '[environments.production.gate]\napproval = "nobody"',
            "environments.production.gate.approval is 'nobody', and must be "
            '"human" or "evidence"',
        ),
        (
            '[environments.EU]\nurl = "http://x"\n[environments.EU.orchestrator]\ndirectory = "d"',
            "environments: 'EU' is not a valid environment name: lower-case letters, digits and -, "
            "32 at most",
        ),
        (
            '[environments.-x]\nurl = "http://x"\n[environments.-x.orchestrator]\ndirectory = "d"',
            "environments: '-x' is not a valid environment name",
        ),
        (
            '[environments.eu]\nurl = "http://x"',
            "the table [environments.eu.orchestrator] is missing; it needs: directory",
        ),
        (
            '[environments.production.router]\nsocket = "s"\nbackend_file = "b"\nslots = 3\n'
            "[environments.production.rollout]\nreplicas = 2",
            "environments.production: router.slots is 3; rollout.replicas = 2 needs 4, because old "
            "and new serve side by side",
        ),
        ("[notify]\nblock = []", "notify.block is not a setting; did you mean blocks?"),
        ("[ledger]\nxyzzy = 1", "ledger.xyzzy is not a setting; there is: dsn"),
        (
            '[environments.production.gate]\napproval = "humans"',
            'must be "human" or "evidence"; did you mean human?',
        ),
        (
            "[environments.production.rollout]\nreplicas = 4",
            "environments.production.rollout.replicas is 4, and must be at most 3",
        ),
        (
            '[environments.production.rollout]\nreplicas = "two"',
            "environments.production.rollout.replicas is 'two', and must be a whole number: "
            "write replicas = 1",
        ),
        (
            '[environments.production.rollout]\nkeep_warm = "perhaps"',
            "keep_warm is 'perhaps', and must be true or false, without quotes: write keep_warm",
        ),
        (
            "[environments.production.auth]\nheader = 5",
            "environments.production.auth.header is 5, and must be text in quotes: "
            'write header = "…"',
        ),
        (
            "[environments.production.auth]\nheader = ['X-Token']",
            "header is a list, and must be text in quotes",
        ),
        (
            '[environments.production.auth]\nlogin_fields = "grant"',
            'must be a table of text: write login_fields = {NAME = "…"}',
        ),
        ('[notify]\nblocks = "slack-webhook/x"', 'must be a list: write blocks = ["…"]'),
        ("[environments.production.watch.length]\nmin = 5", "length is a table; it is a duration"),
        ("[environments.production.router]\nslots = 6", "router.socket is missing: write socket"),
        ('[environments.staging]\nurl = "http://x"\nstaging = "prod"', "[environments.staging."),
        (
            "[[ticket]]\nurl = 'https://x'",
            "[[ticket]] is a list of tables; it is one table: [ticket]",
        ),
        ("[[environments.eu]]\nurl = 'https://x'", "[[environments.eu]] is a list of tables"),
    ],
)
def test_a_wrong_setting_is_named_with_its_key(
    configure: Callable[[str], Path], addition: str, sentence: str
) -> None:
    path = configure(SMALLEST + addition + "\n")

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert refused.value.what.startswith(f"{path}: ")
    assert sentence in refused.value.what
    assert "\n" not in refused.value.what
    assert refused.value.hint == f"edit {path}, then: ignition doctor"


@pytest.mark.parametrize(
    ("written", "instead", "sentence"),
    [
        (
            "[service]",
            "[[service]]",
            "[[service]] is a list of tables; it is one table: [service], ",
        ),
        ("[service]", "[service.api]", "service.api is not a setting; there is: "),
        (
            '[repository]\nurl = "/srv/orders.git"',
            "",
            "the table [repository] is missing; it needs:",
        ),
        ("[service]", "ledger = 5\n[service]", "ledger is a value; it is one table: [ledger]"),
        (
            "[environments.production.orchestrator]",
            "[environments.production.orchestratr]",
            "environments.production.orchestratr is not a setting; did you mean orchestrator?",
        ),
        (
            "[environments.production]\n",
            "[environments.production]\nstaging = 'prodution'\n",
            "environments.production.staging names 'prodution'; did you mean production? There is",
        ),
        (
            "[environments.production]",
            "[environments]\neu = 'https://x'\n[environments.production]",
            "environments.eu is a value; it is one table: [environments.eu], with its keys below: "
            "url, orchestrator",
        ),
        (
            "[environments.production]",
            "[[environments]]",
            "[[environments]] is a list of tables; it is a table for each name: "
            "[environments.production]",
        ),
        ('name = "orders"', "name = ['orders']", "service.name is a list, and must be text in"),
        (
            '"127.0.0.1:5000"',
            '"http://127.0.0.1:5000/"',
            "registry.address: 'http://127.0.0.1:5000/' has a scheme and a slash at its end; it is "
            "host and port, as an image's name begins: write '127.0.0.1:5000', insecure = true for "
            "plain HTTP",
        ),
        (
            '"http://127.0.0.1:8080"',
            '"127.0.0.1:8080"',
            "environments.production.url: '127.0.0.1:8080' has no scheme: write "
            "'https://127.0.0.1:8080'",
        ),
    ],
)
def test_what_stands_in_the_wrong_place_is_named_with_what_belongs_there(
    configure: Callable[[str], Path], written: str, instead: str, sentence: str
) -> None:
    assert written in SMALLEST
    text = SMALLEST.replace(written, instead, 1)
    if instead == "[[environments]]":
        text = text.partition("[environments.production.orchestrator]")[0]
    path = configure(text)

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert refused.value.what.startswith(f"{path}: ")
    assert sentence in refused.value.what
    assert "Input should be" not in refused.value.what
    assert refused.value.hint == f"edit {path}, then: ignition doctor"


def test_a_variable_does_not_hide_what_stands_in_its_tables_place(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST.replace("[registry]", "[[registry]]"))
    monkeypatch.setenv("IGNITION_REGISTRY__PASSWORD", SECRET)

    with pytest.raises(BadConfiguration, match=r"\[\[registry\]\] is a list of tables"):
        load_settings()


def test_a_missing_file_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IGNITION_CONFIG", str(tmp_path / "none.toml"))

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert refused.value.what == f"no configuration at {tmp_path / 'none.toml'}"
    assert refused.value.hint.startswith("cp ignition.example.toml ignition.toml")


def test_a_file_that_is_no_toml_is_named_with_the_line(configure: Callable[[str], Path]) -> None:
    path = configure("[service\n")

    with pytest.raises(BadConfiguration, match=re.escape(f"{path} is not TOML")) as refused:
        load_settings()

    assert "line 1" in refused.value.what


def test_a_file_that_changed_is_read_again(configure: Callable[[str], Path]) -> None:
    """A worker lives for weeks; the next run must not see last week's rules."""
    path = configure(SMALLEST)
    assert load_settings().service.name == "orders"

    path.write_text(SMALLEST.replace("orders", "invoices"))
    os.utime(path, ns=(1, 1))

    assert load_settings().service.name == "invoices"


def test_an_unknown_environment_names_those_that_exist(configure: Callable[[str], Path]) -> None:
    configure(SMALLEST)

    with pytest.raises(BadRequest) as refused:
        load_settings().environment("prod")

    assert "environment 'prod' is not configured" in refused.value.what
    assert refused.value.what.endswith("; did you mean production? There is: production")


# ── The environment above the file ───────────────────────────────────────────────────────────────


def test_a_variable_overrides_one_key_and_leaves_its_neighbours(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST + '[environments.production.watch]\nlength = "4 min"\nevery = "5 s"\n')
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH", "15 min")

    watch = load_settings().environment("production").watch

    assert watch.length == timedelta(minutes=15)
    assert watch.every == timedelta(seconds=5)


def test_a_dash_in_an_environments_name_is_an_underscore_in_its_variables(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell cannot export a name with a dash, so the secret could not be given at all."""
    configure(SMALLEST.replace("production", "eu-west"))
    variable = variable_of("environments", "eu-west", "database", "dsn")
    monkeypatch.setenv(variable, DSN)

    dsn = load_settings().environment("eu-west").database.dsn

    assert variable == "IGNITION_ENVIRONMENTS__EU_WEST__DATABASE__DSN"
    assert dsn is not None
    assert dsn.get_secret_value() == DSN


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "IGNITION_LEGDER__DSN",
            SECRET,
            "IGNITION_LEGDER__DSN is not a setting; did you mean IGNITION_LEDGER__DSN?",
        ),
        (
            "IGNITION_REGISTRY__PASWORD",
            SECRET,
            "IGNITION_REGISTRY__PASWORD is not a setting; did you mean "
            "IGNITION_REGISTRY__PASSWORD?",
        ),
        (
            "IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH",
            "15",
            "IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH: '15' is not a duration",
        ),
        (
            "IGNITION_LEDGER__DSN",
            SECRET,
            "IGNITION_LEDGER__DSN is not a PostgreSQL connection string: write postgresql://USER",
        ),
        (
            "IGNITION_ENVIRONMENTS__PRODUCTION__REHEARSAL__CONTAINER_DSN",
            f"mysql://ada:{SECRET}@db/orders",
            "CONTAINER_DSN does not begin with postgresql://: write postgresql://USER:PASSWORD@",
        ),
        (
            "IGNITION_REGISTRY",
            SECRET,
            "variable IGNITION_REGISTRY is a table, and its value is not one in JSON",
        ),
        (
            "IGNITION_NOTIFY__BLOCKS",
            SECRET,
            "variable IGNITION_NOTIFY__BLOCKS is a list, and its value is not one in JSON",
        ),
        ("IGNITION_ENVIRONMENTS", f'["{SECRET}"]', "variable IGNITION_ENVIRONMENTS is a table"),
    ],
)
def test_a_wrong_variable_is_a_sentence_that_never_holds_a_secret(
    configure: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    sentence: str,
) -> None:
    configure(SMALLEST)
    monkeypatch.setenv(variable, value)

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert sentence in refused.value.what
    assert SECRET not in str(refused.value)
    assert "ignition.toml" not in str(refused.value)  # there is nothing to edit there
    assert variable in refused.value.hint


def own_variables() -> set[str]:
    """Every IGNITION_ variable that the project's programs set or read beside the settings."""
    sandbox = Sandbox.from_environment({"IGNITION_SANDBOX": "/srv/sandbox"})
    read = set()
    for folder in ("blocks", "cli", "flows", "sandbox", "tasks", "tests", "bench"):
        for module in (ROOT / folder).rglob("*.py"):
            if module != Path(__file__):
                read |= set(
                    re.findall(
                        r"(?:environ(?:\.get\(|\[)|_VARIABLE = |KEEP = )f?\"(IGNITION_\w+)",
                        module.read_text(encoding="utf-8"),
                    )
                )
    written = set(re.findall(r"\$(IGNITION_\w+)", (ROOT / "prefect.yaml").read_text()))
    own = {name for name in sandbox.variables() if name.startswith("IGNITION_")}
    ports = {f"IGNITION_SANDBOX_{name}_PORT" for name in ("REGISTRY", "STAGING", "PREFECT")}
    return own | read | written | ports | {"IGNITION_SANDBOX_PORTS"} - {"IGNITION_CONFIG"}


@pytest.mark.parametrize("variable", sorted(own_variables() - {"IGNITION_CONFIG"}))
def test_variables_that_are_no_settings_are_left_alone(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    configure(SMALLEST)
    monkeypatch.setenv(variable, "18000")

    assert load_settings().service.name == "orders"


def test_the_variables_of_our_own_programs_are_found() -> None:
    assert {
        "IGNITION_HOME",
        "IGNITION_PYTHON",
        "IGNITION_SANDBOX",
        "IGNITION_PRODUCTION_URL",
        "IGNITION_BROWSER_TRIES",
        "IGNITION_KEEP_TEST_SANDBOX",
    } <= own_variables()


def one_underscore() -> list[tuple[str, str]]:
    """Each setting's variable with one underscore where two belong: everywhere, or at one place."""
    found = []
    for key, _ in keys_of(Settings, ("production", "eu-west")):
        name = variable_of(*key)
        parts = name.split("__")
        found += [(name, "_".join(parts))] if len(parts) > 1 else []
        found += [
            (name, "__".join(parts[:place]) + "_" + "__".join(parts[place:]))
            for place in range(1, len(parts))
        ]
    return sorted(set(found))


@pytest.mark.parametrize(("meant", "written"), one_underscore())
def test_one_underscore_where_two_belong_is_refused_with_the_name_that_is_meant(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, meant: str, written: str
) -> None:
    configure(
        SMALLEST
        + SMALLEST.partition("[registry]")[2].partition("\n\n")[2].replace("production", "eu-west")
    )
    monkeypatch.setenv(written, SECRET)

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert refused.value.what == f"variable {written} is not a setting; did you mean {meant}?"
    assert refused.value.hint == f"unset {written}, and export {meant}=…"


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("IGNITION_REGISTRY_PASWORD", "did you mean IGNITION_REGISTRY__PASSWORD?"),
        ("ignition_registry_password", "did you mean IGNITION_REGISTRY__PASSWORD?"),
        (
            "IGNITION_PRODUCTION_DATABASE_DSN",
            "did you mean IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN?",
        ),
        (
            "IGNITION_PRODUCTION__DATABASE__DSN",
            "did you mean IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN?",
        ),
        (
            "IGNITION_ENVIRONMENTS__PRODUCTON__DATABASE__DSN",
            "did you mean IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN?",
        ),
        ("IGNITION_FORGE_XYZZY", "IGNITION_FORGE_XYZZY is not a setting, so it would do nothing"),
        ("IGNITION_FORGE__XYZZY", "IGNITION_FORGE__XYZZY is not a setting, so it would do nothing"),
    ],
)
def test_a_variable_that_would_do_nothing_is_refused(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, variable: str, sentence: str
) -> None:
    configure(SMALLEST)
    monkeypatch.setenv(variable, SECRET)

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert sentence in refused.value.what
    assert SECRET not in str(refused.value)


def test_an_environment_may_be_made_by_variables_alone(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST)
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__EU_WEST__URL", "https://eu.example.com")
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__EU_WEST__ORCHESTRATOR__DIRECTORY", "deploy/eu")
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__EU_WEST__AUTH__LOGIN_FIELDS__SCOPE", "all")

    found = load_settings().environment("eu-west")

    assert found.url == "https://eu.example.com"
    assert found.auth.login_fields == {"scope": "all"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (
            "IGNITION_ENVIRONMENTS",
            '{"eu": {"url": "https://x", "orchestrator": {"directory": "d"}}}',
        ),
        ("IGNITION_ENVIRONMENTS__EU", '{"url": "https://x", "orchestrator": {"directory": "d"}}'),
    ],
)
def test_an_environment_may_be_made_by_one_variable_in_json(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    configure(SMALLEST)
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__EU__WATCH__LENGTH", "15 min")

    found = load_settings().environment("eu")

    assert (found.url, found.watch.length) == ("https://x", timedelta(minutes=15))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("prod", "production"),
        ("Production", "production"),
        ("prodcution", "production"),
        ("stg", "staging"),
        ("stagng", "staging"),
    ],
)
def test_a_mistyped_environment_is_answered_with_the_nearest(
    configure: Callable[[str], Path], name: str, near: str
) -> None:
    configure(EXAMPLE.read_text())

    with pytest.raises(BadRequest) as refused:
        load_settings().environment(name)

    assert f"; did you mean {near}? There is: production, staging" in refused.value.what


def test_a_relative_path_starts_at_the_configuration_file(configure: Callable[[str], Path]) -> None:
    path = configure(SMALLEST)

    loaded = load_settings()

    assert loaded.located(loaded.runbook) == path.parent / "RUNBOOK.md"
    assert loaded.located(Path("/srv/RUNBOOK.md")) == Path("/srv/RUNBOOK.md")


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────


def test_secrets_are_in_no_text_of_the_settings(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST)
    for variable in secret_variables("production"):
        monkeypatch.setenv(variable, DSN if variable.endswith("DSN") else SECRET)

    loaded = load_settings()

    assert loaded.registry.password.get_secret_value() == SECRET
    for text in (repr(loaded), str(loaded), loaded.model_dump_json(), f"{loaded.ledger!r}"):
        assert SECRET not in text


def test_a_wrong_setting_beside_a_secret_does_not_show_the_secret(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST.replace('name = "orders"', ""))
    for variable in secret_variables("production"):
        monkeypatch.setenv(variable, DSN if variable.endswith("DSN") else SECRET)

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert 'service.name is missing: write name = "…"' in refused.value.what
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("table", "key", "variable"),
    [
        ("ledger", "dsn", "IGNITION_LEDGER__DSN"),
        ("ticket", "token", "IGNITION_TICKET__TOKEN"),
        (
            "environments.production.database",
            "dsn",
            "IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN",
        ),
        (
            "environments.production.auth",
            "password",
            "IGNITION_ENVIRONMENTS__PRODUCTION__AUTH__PASSWORD",
        ),
    ],
)
def test_a_secret_in_the_file_is_refused_with_its_variable(
    configure: Callable[[str], Path], table: str, key: str, variable: str
) -> None:
    """The file is in git: a secret there would be everybody's."""
    configure(SMALLEST + f'[{table}]\n{key} = "{SECRET}"\n')

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert f"{table}.{key} is a secret" in refused.value.what
    assert variable in refused.value.hint
    assert SECRET not in str(refused.value)


# ── Probes ───────────────────────────────────────────────────────────────────────────────────────


PROBES = """
[[environments.production.watch.probes]]
path = "/api/orders"
weight = 3
expect = [200, 304]

[[environments.production.watch.probes]]
path = "/api/me"
expect = 200
session = true
"""


def test_probes_are_listed_a_table_each(configure: Callable[[str], Path]) -> None:
    configure(SMALLEST + '[environments.production.auth]\nusername = "check"\n' + PROBES)

    probes = load_settings().environment("production").watch.probes

    assert [(p.name, p.weight, p.expect, p.session) for p in probes] == [
        ("GET /api/orders", 3, (200, 304), False),
        ("GET /api/me", 1, (200,), True),
    ]


def test_a_probe_with_a_session_needs_an_account(configure: Callable[[str], Path]) -> None:
    configure(SMALLEST + PROBES)

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert "GET /api/me is asked with a session, and auth.username names no account" in str(
        refused.value
    )


@pytest.mark.parametrize(
    ("addition", "variable"),
    [
        ("", "IGNITION_LEDGER__DSN"),
        ("", "IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN"),
        (
            "[environments.production.auth]\nusername = 'probe'",
            "IGNITION_ENVIRONMENTS__PRODUCTION__AUTH__PASSWORD",
        ),
        (
            "[environments.production.metrics]\nurl = 'https://x'\nusername = 'probe'",
            "IGNITION_ENVIRONMENTS__PRODUCTION__METRICS__PASSWORD",
        ),
        ("[ticket]\nurl = 'https://api.example.com/repos/a/b'", "IGNITION_TICKET__TOKEN"),
        ("[on_call]\nschedule = 'P1'", "IGNITION_ON_CALL__TOKEN"),
    ],
)
def test_a_secret_that_something_needs_is_missing_until_its_variable_is_set(
    configure: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    addition: str,
    variable: str,
) -> None:
    configure(SMALLEST + addition + "\n")
    missing = "; ".join(load_settings().missing_secrets())
    monkeypatch.setenv(variable, DSN if variable.endswith("DSN") else SECRET)

    assert f"{variable} is not set" in missing
    assert variable not in "; ".join(load_settings().missing_secrets())


def test_a_secret_that_nothing_needs_is_not_missing(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forge may be public; whoever has no Prometheus needs no login for one."""
    configure(SMALLEST + "[forge]\nurl = 'https://api.example.com/repos/a/b'\n")
    monkeypatch.setenv("IGNITION_LEDGER__DSN", DSN)
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN", DSN)

    assert list(load_settings().missing_secrets()) == []


# ── What a machine keeps for itself ──────────────────────────────────────────────────────────────


def test_a_machine_keeps_its_own_in_the_users_state_directory_apart_for_each_file(
    configure: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    configure(SMALLEST)
    first = load_settings()
    folder, places = first.state_folder, (first.mirror, first.approvers_file, first.spool)
    other = tmp_path / "other.toml"
    other.write_text(SMALLEST)
    monkeypatch.setenv("IGNITION_CONFIG", str(other))

    assert {place.parent for place in places} == {folder}
    assert folder.parent == tmp_path / "state" / "ignition"
    assert load_settings().state_folder.parent == tmp_path / "state" / "ignition"
    assert load_settings().state_folder != folder


@pytest.mark.parametrize("given", ["", "relative/state"])
def test_without_an_absolute_xdg_state_home_it_is_local_state(
    configure: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", given)
    configure(SMALLEST)

    assert load_settings().state_folder.parent == tmp_path / ".local/state/ignition"


def test_the_folder_is_the_same_wherever_the_command_is_typed(
    configure: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST)
    folder = load_settings().state_folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IGNITION_CONFIG", "ignition.toml")

    assert load_settings().state_folder == folder


def test_a_folder_from_before_goes_on_being_used(
    configure: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its approvers, its mirror and events that the ledger has not taken yet are not lost."""
    (tmp_path / ".ignition").mkdir()
    configure(SMALLEST)

    assert load_settings().approvers_file == tmp_path / ".ignition/approvers.json"
    assert load_settings().mirror == tmp_path / ".ignition/repository.git"
    assert load_settings().spool == tmp_path / ".ignition/ledger-spool"


def test_a_chosen_folder_holds_all_but_what_has_a_place_of_its_own(
    configure: Callable[[str], Path], tmp_path: Path
) -> None:
    text = SMALLEST.replace("[repository]", "[repository]\nworkspace = '/srv/mirror.git'")
    configure("state = 'own'\n" + text)

    assert load_settings().mirror == Path("/srv/mirror.git")
    assert load_settings().approvers_file == tmp_path / "own/approvers.json"
    assert load_settings().spool == tmp_path / "own/ledger-spool"


def test_a_chosen_folder_leaves_nothing_behind_unsaid(
    configure: Callable[[str], Path], tmp_path: Path
) -> None:
    """Approvers would be nobody, and events that the ledger has not taken yet would be lost."""
    (tmp_path / ".ignition").mkdir()
    configure("state = 'own'\n" + SMALLEST)

    with pytest.raises(BadConfiguration) as refused:
        _ = load_settings().approvers_file
    assert "has what this machine kept until now, and state names" in refused.value.what
    assert refused.value.hint == f"mv {tmp_path}/.ignition {tmp_path}/own, then: ignition setup"

    (tmp_path / ".ignition").rename(tmp_path / "own")
    assert load_settings().approvers_file == tmp_path / "own/approvers.json"


# ── The example ──────────────────────────────────────────────────────────────────────────────────


def test_the_example_is_as_the_settings_classes_write_it() -> None:
    """Otherwise: make docs."""
    assert EXAMPLE.read_text() == example_file.text()


def test_the_example_is_a_working_file(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(EXAMPLE.read_text())
    for name in ("staging", "production"):
        for variable in secret_variables(name):
            monkeypatch.setenv(variable, DSN if variable.endswith("DSN") else SECRET)

    loaded = load_settings()

    assert sorted(loaded.environments) == ["production", "staging"]
    assert loaded.environment("production").gate.approval == "human"
    assert loaded.environment("staging").gate.approval == "evidence"
    assert loaded.environment("production").staging == "staging"


def test_the_example_is_a_working_file_with_every_setting_taken_in(
    configure: Callable[[str], Path],
) -> None:
    configure(everything_in(EXAMPLE.read_text()))

    assert load_settings().environment("production").router is not None


def test_the_example_asks_for_five_edits() -> None:
    edits = re.findall(r"^# EDIT (\d)\.", EXAMPLE.read_text(), re.MULTILINE)

    assert edits == ["1", "2", "3", "4", "5"]


def test_every_setting_is_in_the_example_and_nothing_else() -> None:
    shown = dict(leaves_of(Settings, example()))
    known = {key for key, field in keys_of(Settings) if not is_secret(field)}

    assert sorted(known - set(shown)) == [], "settings that the example does not show"
    assert sorted(set(shown) - known) == [], "keys of the example that are no settings"


def test_every_secret_is_in_the_example_as_a_variable() -> None:
    text = EXAMPLE.read_text()

    for name in ("staging", "production"):
        for variable in secret_variables(name):
            assert variable in text


def test_the_example_shows_the_codes_own_defaults() -> None:
    """A commented-out line is a default; a line that is taken in is a choice, and so is an entry
    of a list of tables."""
    chosen = dict(leaves_of(Settings, tomllib.loads(EXAMPLE.read_text())))
    shown = dict(leaves_of(Settings, example(("production",))))

    wrong = {
        ".".join(key): (shown[key], field.default)
        for key, field in keys_of(Settings)
        if not is_secret(field) and not field.is_required() and key not in chosen
        if not any(map(table_in, get_args(field.annotation)))
        if as_default(field, shown[key]) != field.default
    }

    assert wrong == {}


def test_every_setting_of_the_example_has_a_comment_above_it() -> None:
    lines = EXAMPLE.read_text().splitlines()
    bare = [
        line
        for above, line in itertools.pairwise(lines)
        if re.match(r"#?[a-z_]+ = ", line)
        and not above.startswith("# ")
        and not re.search(r"  # ", line)
        and not above.startswith(("[environments.staging", "#[environments.staging"))
    ]

    assert bare == []


def everything_in(text: str) -> str:
    """The example with its defaults taken in: ``#key = …`` and ``#[table]``."""
    return re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)


def example(environments: tuple[str, ...] = ("staging", "production")) -> dict[str, Any]:
    found = tomllib.loads(everything_in(EXAMPLE.read_text()))
    kept = {name: found["environments"][name] for name in environments}
    return found | {"environments": kept}


def leaves_of(model: type[BaseModel], table: Any, at: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every key of a TOML table with its value, by the same keys as ``keys_of``."""
    for name, value in table.items():
        field = model.model_fields.get(name)
        inner = table_in(field.annotation) if field else None
        if inner is None:
            yield (*at, name), value
        elif field is not None and get_origin(field.annotation) is dict:
            for tables in value.values():
                yield from leaves_of(inner, tables, (*at, name, "*"))
        elif isinstance(value, list):
            for one in value:
                yield from leaves_of(inner, one, (*at, name))
        else:
            yield from leaves_of(inner, value, (*at, name))


def secret_variables(environment: str) -> list[str]:
    return [
        variable_of(*(environment if part == "*" else part for part in key))
        for key, field in keys_of(Settings)
        if is_secret(field)
    ]


def as_default(field: FieldInfo, value: Any) -> Any:
    if field.default is None:  # a place that is chosen, where the file says ""
        return value or None
    if isinstance(field.default, timedelta):
        return parse_duration(value)
    return type(field.default)(value)


# ── What settings may know ───────────────────────────────────────────────────────────────────────


def test_settings_know_the_rules_the_kinds_and_nothing_above_them() -> None:
    tree = ast.parse((ROOT / "settings.py").read_text())
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    ours = {name for name in imported if name.split(".")[0] in ("cli", "flows", "tasks", "blocks")}

    assert ours == {"blocks.kinds"}
    assert any(name.startswith("release.") for name in imported)


def test_reading_settings_waits_for_no_client_library() -> None:
    """`ignition --help` and the refusal of a wrong file are there at once: Prefect takes 2 s."""
    heavy = ("prefect", "docker", "psycopg", "httpx", "matplotlib")
    program = f"import settings, sys; print(*[n for n in {heavy} if n in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert loaded.stdout.split() == []
