"""The registry of kinds, and what it takes to add one."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, get_current_settings
from pytest_httpserver import HTTPServer

import settings
from blocks import kinds
from blocks.part import Part
from release.configuration.kinds import KindSettings
from tests.fakes.ticket_systems import TOKEN, Gitlab

ROOT = Path(settings.__file__).parent
SORTS = {name: sort for name, sort in vars(kinds).items() if isinstance(sort, kinds.Kinds)}
KINDS = [(sort, kind) for sort, of in SORTS.items() for kind in of]

# What a team adds is in tests/fakes/gitlab.py. This is a program that has its line of the registry.
ADDED = """
import json, sys
from tests.fakes.gitlab import register
register()
from release.errors import BadConfiguration
try:
    {body}
except BadConfiguration as error:
    print(json.dumps({{"refused": error.what}}))
"""
CONFIGURATION = """
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
[ticket]
"""
DSN = "postgresql://ada@127.0.0.1:9/orders"


@pytest.mark.parametrize(("sort", "kind"), KINDS, ids=[f"{s}-{k.name}" for s, k in KINDS])
def test_a_block_is_made_of_the_fields_of_its_settings(sort: str, kind: kinds.Kind) -> None:
    """No field is written twice: the block has the settings class for a base."""
    assert issubclass(kind.block, Part)
    assert issubclass(kind.block, kind.settings)
    own = vars(kind.block).get("__annotations__", {}).keys()
    assert not own & kind.settings.model_fields.keys()


@pytest.mark.parametrize(("sort", "kind"), KINDS, ids=[f"{s}-{k.name}" for s, k in KINDS])
def test_a_kind_is_its_settings_only_choice(sort: str, kind: kinds.Kind) -> None:
    annotation: Any = kind.settings.model_fields["kind"].annotation
    assert annotation.__args__ == (kind.name,)
    assert issubclass(kind.settings, KindSettings)


def added(
    folder: Path, table: str, body: str, variables: dict[str, str] | None = None
) -> dict[str, Any]:
    """What a program says that knows one kind more, with a table ``[ticket]`` in its file."""
    file = folder / "ignition.toml"
    file.write_text(CONFIGURATION + table)
    own = {name: value for name, value in os.environ.items() if not name.startswith("IGNITION_")}
    own |= {
        "IGNITION_CONFIG": str(file),
        "IGNITION_LEDGER__DSN": DSN,
        "IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN": DSN,
        **(variables or {}),
    }
    program = ADDED.format(body=body.strip().replace("\n", "\n    "))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_kind_that_is_one_line_more_is_reached_from_the_file_and_closes_the_ticket(
    httpserver: HTTPServer, tmp_path: Path, prefect_server: None
) -> None:
    """One module, one class of settings, one line: it is configured, saved, loaded and asked."""
    tickets = Gitlab(httpserver)
    table = f'kind = "gitlab"\nproject = "{httpserver.url_for("")}"\n'
    body = """
from cli import install
from cli.registered import ask_blocks
from cli.target import build_target
from flows.run import load_target
from settings import load_settings
target = build_target(load_settings(), "production")
install._save(target)
loaded = load_target("production")
loaded.ticketing.close("42", "v1.1.0 is deployed")
same = ask_blocks(target)
print(json.dumps({"kind": loaded.ticketing.kind, "block": type(loaded.ticketing).__name__,
    "problem": same.problem}))
"""
    variables = {
        "IGNITION_TICKET__ACCESS_TOKEN": TOKEN,
        "PREFECT_API_URL": str(PREFECT_API_URL.value() or get_current_settings().api.url),
    }

    found = added(tmp_path, table, body, variables)

    assert found == {"kind": "gitlab", "block": "GitlabTicketing", "problem": ""}
    assert (tickets.comments, tickets.open) == (["v1.1.0 is deployed"], False)


LOAD = """
from settings import load_settings
loaded = load_settings()
print(json.dumps({"kind": loaded.ticket.kind, "missing": list(loaded.missing_secrets())}))
"""


def test_a_file_from_before_means_the_kind_that_there_was(tmp_path: Path) -> None:
    table = 'url = "https://api.github.com/repos/o/n"\n'

    found = added(tmp_path, table, LOAD)

    assert found["kind"] == "github"
    assert found["missing"] == [
        "IGNITION_TICKET__TOKEN is not set (ticket.url is set, and needs it)"
    ]


def test_what_a_kind_needs_is_missed_by_its_own_names(tmp_path: Path) -> None:
    found = added(tmp_path, 'kind = "gitlab"\nproject = "https://gitlab.com"\n', LOAD)

    assert found["missing"] == [
        "IGNITION_TICKET__ACCESS_TOKEN is not set (ticket.project is set, and needs it)"
    ]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            'kind = "gitlub"',
            'ticket.kind is \'gitlub\', and must be "github" or "gitlab"; did you mean gitlab?',
        ),
        (
            'kind = "gitlab"\nprojekt = "x"',
            "ticket.projekt is not a setting; did you mean project?",
        ),
        (
            'kind = "gitlab"\nurl = "https://x"',
            "ticket.url is not a setting; there is: access_token",
        ),
        ('kind = "gitlab"\nproject = "x"', "ticket.project: 'x' has no scheme: write 'https://x'"),
        ('kind = "gitlab"\nproject = 5', "ticket.project is 5, and must be text in quotes"),
        (
            'kind = "gitlab"\naccess_token = "x"',
            "ticket.access_token is a secret and does not belong in a file",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said_as_of_its_kind(
    tmp_path: Path, table: str, sentence: str
) -> None:
    refused = added(tmp_path, f"{table}\n", LOAD)["refused"]

    assert sentence in refused


def test_the_page_of_settings_has_a_section_for_each_kind(tmp_path: Path) -> None:
    found = added(
        tmp_path,
        "",
        """
from docs import example, settings
page, lines = settings.page(), example.text().splitlines()
print(json.dumps({
    "sections": [line for line in page.splitlines() if "[ticket]" in line],
    "variable": "IGNITION_TICKET__ACCESS_TOKEN" in page,
    "example": [line for line in lines if line.startswith("#kind") and "gitlab" in line],
}))
""",
    )

    assert found == {
        "sections": [f'## `[ticket]` with `kind = "{kind}"`' for kind in ("github", "gitlab")],
        "variable": True,
        "example": ['#kind = "github"  # or "gitlab": docs/settings.md'],
    }


# ── Names ────────────────────────────────────────────────────────────────────────────────────────

# "Dockerfile" and "Docker image" are formats that other builders know, too.
NAMES = re.compile(
    r"haproxy|compose|docker(?!file| image)|prometheus|github|pagerduty", re.IGNORECASE
)

# Where a kind's name stands nevertheless, and what for.
EXCEPTIONS = {
    "cli/registered.py": "the key service.compose_service",
    "cli/target.py": "the same",
    "release/masking.py": "COMPOSE_… are variables that hold no secret",
    "release/plan.py": "what to type for a service that the rollout leaves out",
}


def names_in(module: Path) -> list[str]:
    """The kinds that a module's code names. Its docstrings and comments may explain with them."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    words = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            words.append(node.value)
        words += [
            value
            for field, value in ast.iter_fields(node)
            if field in ("id", "attr", "name", "module", "arg") and isinstance(value, str)
        ]
    return [word for word in words if NAMES.search(word)]


def modules() -> list[str]:
    found = [path for folder in ("cli", "flows", "tasks", "release") for path in of(folder)]
    return [path for path in found if not path.startswith("release/configuration/")]


def of(folder: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py"))


def test_no_module_knows_a_kind_but_its_own_its_settings_and_the_registry() -> None:
    knowing = {module for module in modules() if names_in(ROOT / module)}

    assert knowing == EXCEPTIONS.keys()


def test_no_text_names_a_table_as_it_was_called_before() -> None:
    """A table has its sort's name: a hint that names its kind sends people to one that is not
    there."""
    old = re.compile(r"\b(compose\.(file|directory)|prometheus\.(url|requests|errors))\b")
    texts = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "ignition.example.toml"]
    code = [
        ROOT / path
        for folder in ("blocks", "cli", "flows", "tasks", "release")
        for path in of(folder)
    ]

    assert [str(path) for path in [*texts, *code] if old.search(path.read_text())] == []
