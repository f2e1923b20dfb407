"""What is named exists, what is public is explained, and no module is too long to read."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import Flow
from prefect.tasks import Task

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("release", "blocks", "tasks", "flows")
LONGEST_MODULE = 400  # lines
# Modules that are longer for a reason, with the length that they may not exceed.
LONGER = {
    "blocks/compose/orchestrator.py": 550,
    "release/runbook/document.py": 450,
}
MOST_PARAMETERS = 5  # without self
# Functions with more for a reason. A command of the command line has as many as it has options.
MORE_PARAMETERS = {
    "blocks/http_client.py: ask": "what httpx takes of a request, and what bounds it",
    "blocks/ledger/events.py: entry_of": "the columns of an event, a keyword each",
    "blocks/ledger/ledger.py: record": "the columns of an event, a keyword each",
    "blocks/ledger/lock.py: take_lock_over": "a connection, and the columns of a lock",
    "blocks/program.py: run": "what subprocess.run takes, by its names",
    "blocks/program.py: follow": "what subprocess.run takes, by its names",
}


def modules(*folders: str) -> list[Path]:
    """The modules of our own in some folders, as paths from the root."""
    return sorted(
        path.relative_to(ROOT)
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py" and "releases" not in path.parts
    )


CODE = [*modules(*PACKAGES, "cli"), Path("settings.py")]


def tree_of(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), str(module))


# ── Deployments ──────────────────────────────────────────────────────────────────────────────────

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())[
    "deployments"
]


def flow_of(entrypoint: str) -> Any:
    module, _, name = entrypoint.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: f"{d['entrypoint']}/{d['name']}")
def test_a_deployment_points_to_a_flow_that_takes_its_parameters(
    deployment: dict[str, Any],
) -> None:
    found = flow_of(deployment["entrypoint"])

    assert isinstance(found, Flow)
    assert found.name == deployment["entrypoint"].rpartition(".")[2]
    assert set(deployment["parameters"]) <= set(found.parameters.properties)
    assert deployment["parameters"]["environment"] == deployment["name"]
    assert f"env:{deployment['name']}" in deployment["tags"]
    assert deployment["description"].endswith(".")


def test_the_command_line_starts_deployments_that_exist() -> None:
    there = {f"{d['entrypoint'].rpartition('.')[2]}/{d['name']}" for d in DEPLOYMENTS}
    flows = set(re.findall(r'start\(\s*f"(\w+)/\{', (ROOT / "cli/main.py").read_text()))

    assert flows == {"deploy", "rollback"}
    assert {f"{flow}/{name}" for flow in flows for name in ("staging", "production")} <= there


def test_only_the_nightly_deployment_and_the_watch_of_production_start_by_themselves() -> None:
    scheduled = [(d["entrypoint"], d["name"]) for d in DEPLOYMENTS if d.get("schedules")]

    assert scheduled == [("flows.nightly.nightly", "staging"), ("flows.window.watch", "production")]


def test_no_deployment_has_a_limit_that_the_server_counts() -> None:
    """It keeps who holds a slot in memory: one that is restarted cancels the run that was about to
    begin, counts the slot as taken for good, and begins no other."""
    assert [d["entrypoint"] for d in DEPLOYMENTS if "concurrency_limit" in d] == []


def test_the_work_pool_is_the_one_that_setup_makes() -> None:
    from cli.install import WORK_POOL

    assert {d["work_pool"]["name"] for d in DEPLOYMENTS} == {WORK_POOL}


# ── Names in texts ───────────────────────────────────────────────────────────────────────────────


def targets() -> set[str]:
    """The Makefile's targets."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def texts() -> list[Path]:
    """Everything that a person reads and types from."""
    found = [*CODE, *modules("sandbox")]
    found += [path.relative_to(ROOT) for path in ROOT.glob("*.md")]
    found += [path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")]
    found += [Path(name) for name in ("prefect.yaml", "ignition.example.toml", "Makefile")]
    return found


@pytest.mark.parametrize("text", texts(), ids=str)
def test_every_make_target_that_a_text_names_exists(text: Path) -> None:
    said = re.findall(
        r"(?:[`\"']|: |\$ )make ([a-z][a-z-]*)[`\"'\n]",
        (ROOT / text).read_text(encoding="utf-8"),
    )

    assert sorted(set(said) - targets()) == []


def test_every_phony_target_is_a_target_and_the_other_way_round() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert phony is not None
    assert set(phony[1].split()) == targets()


def test_every_module_that_the_makefile_runs_exists() -> None:
    named = re.findall(r"\(PYTHON\) -m ([a-z_.]+)", (ROOT / "Makefile").read_text())

    assert [name for name in named if importlib.util.find_spec(name) is None] == []


# ── Docstrings ───────────────────────────────────────────────────────────────────────────────────


def public(module: Path) -> Iterator[tuple[str, ast.AST]]:
    """Functions and classes that another module may use; flows and tasks are among them."""
    for node in tree_of(module).body:
        if isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not node.name.startswith("_"):
            yield node.name, node


@pytest.mark.parametrize("module", modules(*PACKAGES), ids=str)
def test_everything_public_says_what_it_means(module: Path) -> None:
    silent = [
        name
        for name, node in public(module)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
    ]

    assert silent == []


@pytest.mark.parametrize("module", CODE, ids=str)
def test_a_module_begins_with_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(tree_of(module))


# ── Shape ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", CODE, ids=str)
def test_a_module_can_be_read_in_one_sitting(module: Path) -> None:
    lines = len((ROOT / module).read_text(encoding="utf-8").splitlines())

    assert lines <= LONGER.get(str(module), LONGEST_MODULE)


def test_the_list_of_longer_modules_has_no_dead_entries() -> None:
    assert [
        name
        for name in LONGER
        if not (ROOT / name).exists()
        or len((ROOT / name).read_text().splitlines()) <= LONGEST_MODULE
    ] == []


def functions_with_too_many_parameters(module: Path) -> list[str]:
    return [
        f"{module}: {node.name}"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and number_of_parameters(node.args) > MOST_PARAMETERS
        and not any(ast.unparse(each).endswith(".command()") for each in node.decorator_list)
    ]


def number_of_parameters(taken: ast.arguments) -> int:
    given = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
    starred = [each for each in (taken.vararg, taken.kwarg) if each]
    return len([*given, *starred]) - (bool(given) and given[0].arg in ("self", "cls"))


@pytest.mark.parametrize("module", CODE, ids=str)
def test_what_belongs_together_is_passed_as_one_value(module: Path) -> None:
    found = functions_with_too_many_parameters(module)

    assert [name for name in found if name not in MORE_PARAMETERS] == []


def test_the_list_of_functions_with_more_parameters_has_no_dead_entries() -> None:
    there = [name for module in CODE for name in functions_with_too_many_parameters(module)]

    assert sorted(MORE_PARAMETERS) == sorted(there)


@pytest.mark.parametrize("module", CODE, ids=str)
def test_no_module_is_called_after_what_it_is_not(module: Path) -> None:
    assert module.stem not in {"utils", "util", "helpers", "helper", "common", "misc"}


@pytest.mark.parametrize("module", [*CODE, *modules("sandbox")], ids=str)
def test_no_program_is_started_through_a_shell(module: Path) -> None:
    """A branch name or a ticket must never be able to become a command."""
    through_shell = [
        node.lineno
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "shell"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]

    assert through_shell == []


def test_each_step_has_a_name_of_its_own_in_the_ui() -> None:
    steps = {
        step.task_key: step.name
        for module in modules("tasks", "flows")
        for step in vars(
            importlib.import_module(str(module.with_suffix("")).replace("/", "."))
        ).values()
        if isinstance(step, Task)
    }
    names = list(steps.values())

    assert len(names) > 40
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


@pytest.mark.parametrize("module", modules("flows", "tasks"), ids=str)
def test_a_flow_keeps_its_annotations(module: Path) -> None:
    """Prefect makes the form from them; as texts they would lose their types."""
    assert "from __future__ import annotations" not in (ROOT / module).read_text()
