"""How the configuration is read, what is refused, and what the example promises."""

import ast
import itertools
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

import settings
from release.duration import parse_duration
from release.errors import BadConfiguration, BadRequest
from settings import Settings, load_settings, variable_of

ROOT = Path(settings.__file__).parent
EXAMPLE = ROOT / "ignition.example.toml"
SECRET = "correct-horse-battery"

SMALLEST = """
[service]
name = "orders"

[repository]
url = "/srv/orders.git"

[registry]
address = "127.0.0.1:5000"

[environments.production]
url = "http://127.0.0.1:8080"

[environments.production.compose]
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
            "environments.production.watch.lenght is no setting; did you mean length?",
        ),
        (
            "[environments.production.rollout]\nreplica = 2",
            "environments.production.rollout.replica is no setting; did you mean replicas?",
        ),
        ("[environment]\nx = 1", "environment is no setting; did you mean environments?"),
        ("[ledger]\nxyzzy = 1", "ledger.xyzzy is no setting"),
        (
            "[environments.production.watch]\nlength = 600",
            "environments.production.watch.length: 600 is no duration: write a number and a unit "
            "(ms, s, min, h, d), as '30 s'",
        ),
        (
            '[environments.production.watch]\nevery = "0 s"',
            "environments.production.watch.every: Input should be greater than 0",
        ),
        (
            '[environments.production.gate]\napproval = "nobody"',
            "environments.production.gate.approval: Input should be 'human' or 'evidence'",
        ),
        (
            '[environments.EU]\nurl = "http://x"\n[environments.EU.compose]\ndirectory = "d"',
            "environments: 'EU' is no environment name: lower-case letters, digits and -, "
            "32 at most",
        ),
        (
            '[environments.-x]\nurl = "http://x"\n[environments.-x.compose]\ndirectory = "d"',
            "environments: '-x' is no environment name",
        ),
        (
            '[environments.eu]\nurl = "http://x"',
            "environments.eu.compose: Field required",
        ),
        (
            '[environments.production.router]\nsocket = "s"\nbackend_file = "b"\nslots = 3\n'
            "[environments.production.rollout]\nreplicas = 2",
            "environments.production: router.slots is 3; rollout.replicas = 2 needs 4, because old "
            "and new serve side by side",
        ),
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

    with pytest.raises(BadConfiguration, match=re.escape(f"{path} is no TOML")) as refused:
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
    assert refused.value.what.endswith("there is: production")


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
    monkeypatch.setenv(variable, SECRET)

    dsn = load_settings().environment("eu-west").database.dsn

    assert variable == "IGNITION_ENVIRONMENTS__EU_WEST__DATABASE__DSN"
    assert dsn is not None
    assert dsn.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "IGNITION_LEGDER__DSN",
            SECRET,
            "IGNITION_LEGDER__DSN is no setting; did you mean IGNITION_LEDGER__DSN?",
        ),
        (
            "IGNITION_REGISTRY__PASWORD",
            SECRET,
            "registry.pasword is no setting; did you mean password?",
        ),
        ("IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH", "15", "'15' is no duration"),
        ("IGNITION_REGISTRY", SECRET, 'error parsing value for field "registry"'),
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


def test_variables_that_are_no_settings_are_left_alone(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST)
    monkeypatch.setenv("IGNITION_HOME", "/srv/ignition")
    monkeypatch.setenv("IGNITION_SANDBOX_PORTS", "18000")

    assert load_settings().service.name == "orders"


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
        monkeypatch.setenv(variable, SECRET)

    loaded = load_settings()

    assert loaded.registry.password.get_secret_value() == SECRET
    for text in (repr(loaded), str(loaded), loaded.model_dump_json(), f"{loaded.ledger!r}"):
        assert SECRET not in text


def test_a_wrong_setting_beside_a_secret_does_not_show_the_secret(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(SMALLEST.replace('name = "orders"', ""))
    for variable in secret_variables("production"):
        monkeypatch.setenv(variable, SECRET)

    with pytest.raises(BadConfiguration) as refused:
        load_settings()

    assert "service.name: Field required" in refused.value.what
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


# ── The example ──────────────────────────────────────────────────────────────────────────────────


def test_the_example_is_a_working_file(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(EXAMPLE.read_text())
    for name in ("staging", "production"):
        for variable in secret_variables(name):
            monkeypatch.setenv(variable, SECRET)

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
    known = {key for key, field in fields_of(Settings) if not is_secret(field)}

    assert sorted(known - set(shown)) == [], "settings that the example does not show"
    assert sorted(set(shown) - known) == [], "keys of the example that are no settings"


def test_every_secret_is_in_the_example_as_a_variable() -> None:
    text = EXAMPLE.read_text()

    for name in ("staging", "production"):
        for variable in secret_variables(name):
            assert variable in text


def test_the_example_shows_the_codes_own_defaults() -> None:
    """A commented-out line is a default; a line that is taken in is a choice."""
    chosen = dict(leaves_of(Settings, tomllib.loads(EXAMPLE.read_text())))
    shown = dict(leaves_of(Settings, example(("production",))))

    wrong = {
        ".".join(key): (shown[key], field.default)
        for key, field in fields_of(Settings)
        if not is_secret(field) and not field.is_required() and key not in chosen
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


Key = tuple[str, ...]


def fields_of(model: type[BaseModel], at: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    """Every setting that is a value, with its key; an environment's name is ``*``."""
    for name, field in model.model_fields.items():
        inner = settings._model_in(field.annotation)
        if inner is None:
            yield (*at, name), field
        else:
            named = ("*",) if get_origin(field.annotation) is dict else ()
            yield from fields_of(inner, (*at, name, *named))


def leaves_of(model: type[BaseModel], table: Any, at: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every key of a TOML table with its value, by the same keys as :func:`fields_of`."""
    for name, value in table.items():
        field = model.model_fields.get(name)
        inner = settings._model_in(field.annotation) if field else None
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


def is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def secret_variables(environment: str) -> list[str]:
    return [
        variable_of(*(environment if part == "*" else part for part in key))
        for key, field in fields_of(Settings)
        if is_secret(field)
    ]


def as_default(field: FieldInfo, value: Any) -> Any:
    if isinstance(field.default, timedelta):
        return parse_duration(value)
    return type(field.default)(value)


# ── What settings may know ───────────────────────────────────────────────────────────────────────


def test_settings_know_the_rules_and_nothing_above_them() -> None:
    tree = ast.parse((ROOT / "settings.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert not imported & {"cli", "flows", "tasks", "blocks", "prefect", "docker", "psycopg"}
    assert "release" in imported
