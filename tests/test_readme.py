"""What the pages name exists, and what has to be explained is explained."""

import ast
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
import yaml
from prefect.blocks.core import Block

from blocks.compose.orchestrator import ComposeOrchestrator
from blocks.haproxy.router import HaproxyRouter
from blocks.target import Target
from cli.main import app
from docs import architecture
from docs import settings as settings_page
from release.outcome import Ending
from settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LAYERS = ("flows", "tasks", "blocks", "release", "cli")

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
DEPLOYMENTS = {
    f"{d['entrypoint'].rpartition('.')[2]}/{d['name']}"
    for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fences(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a language; of none, by default."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.M | re.S)
    return [content for name, content in found if name == language]


def prose_of(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)


def code_of(page: Path) -> list[str]:
    """Everything in code: the lines of fenced blocks, and the spans in prose."""
    lines = "".join(fences(page)).replace("\\\n", " ").splitlines()
    return lines + named(page)


def named(page: Path) -> list[str]:
    """The names in prose and tables that stand in code."""
    return re.findall(r"`([^`\n]+)`", prose_of(page))


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


def commands_in(page: Path) -> Iterator[list[str]]:
    for line in code_of(page):
        for found in re.findall(r"(?:^|hint: |: |\$ )(ignition [a-z].*)", line):
            yield shlex.split(found, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_ignition_command_exists_with_its_options(page: Path) -> None:
    for _, name, *arguments in commands_in(page):
        assert name in COMMANDS, f"ignition {name}"
        command: Any = COMMANDS[name]
        if hasattr(command, "commands") and arguments:  # a group: its own command comes next
            assert arguments[0] in command.commands, f"ignition {name} {arguments[0]}"
            command = command.commands[arguments[0]]
        known = {option for each in command.params for option in each.opts}
        options = {word for word in arguments if word.startswith("--")}
        assert options <= known, f"ignition {name} has no {options - known}"


def test_the_pages_show_every_command() -> None:
    shown = {name for page in PAGES for _, name, *_ in commands_in(page)}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_make_target_exists(page: Path) -> None:
    for line in code_of(page):
        for target in re.findall(r"(?:^|&& )make ([a-z-]+)", line):
            assert target in TARGETS, f"make {target}"


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def deployments_in(page: Path) -> set[str]:
    flows = {deployment.partition("/")[0] for deployment in DEPLOYMENTS}
    return {
        name
        for name in named(page)
        if re.fullmatch(r"[a-z]+/[a-z]+", name) and name.partition("/")[0] in flows
    }


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_deployment_exists(page: Path) -> None:
    assert deployments_in(page) <= DEPLOYMENTS


def test_the_page_on_ones_own_backend_names_every_deployment() -> None:
    assert deployments_in(ROOT / "docs/your-own-backend.md") == DEPLOYMENTS


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_block_exists(page: Path) -> None:
    types = [*blocks_of(Target), ComposeOrchestrator, HaproxyRouter]
    slugs = {block.get_block_type_slug() for block in types}
    titles = {block.get_block_type_name() for block in types}
    for name in named(page):
        found = re.fullmatch(r"(ignition-[a-z-]+)/[a-z]+", name)
        if found:
            assert found[1] in slugs, name
        if name.startswith("Ignition "):
            assert name in titles, name


def blocks_of(target: type[Block]) -> Iterator[type[Block]]:
    yield target
    for field in target.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Block):
                yield from blocks_of(part)


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_setting_exists(page: Path) -> None:
    keys = list(settings_page.setting_keys())
    groups = {key.rpartition(".")[0].rpartition(".")[2] for key in keys}
    for name in named(page):
        group = name.partition(".")[0]
        if group in groups and re.fullmatch(r"[a-z_]+\.[a-z_]+", name) and name[-3:] != ".py":
            assert any(key.endswith(name) for key in keys), name


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_variable_is_a_setting(page: Path) -> None:
    known = {"IGNITION_CONFIG"} | {
        "IGNITION_" + key.upper().replace(".", "__").replace("-", "_")
        for key in settings_page.setting_keys()
    }
    for name in re.findall(r"IGNITION_[A-Z_]+", text_of(page).replace("&lt;NAME>", "PRODUCTION")):
        general = re.sub(r"__(STAGING|PRODUCTION)__", "__<NAME>__", name)
        assert general in known or name == "IGNITION_", name


def test_every_ending_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", text_of(ROOT / "docs/endings.md"), re.M)
    assert dict(rows) == {str(each): "green" if each.good else "red" for each in Ending}


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def anchors(page: Path) -> set[str]:
    """The headings of a page, as a forge links to them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_no_link_is_dead(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def layout() -> dict[str, str]:
    """The README's tree: path → what it is for."""
    fence = next(f for f in fences(README) if f.startswith("RUNBOOK.md"))
    found: dict[str, str] = {}
    folder = ""
    for line in fence.splitlines():
        name, _, purpose = line.strip().partition(" ")
        folder = folder if line.startswith("  ") else name if name.endswith("/") else ""
        path = folder + name if line.startswith("  ") else name
        found[path] = purpose.strip()
    return found


def test_the_layout_names_what_is_there_and_says_what_for() -> None:
    for path, purpose in layout().items():
        assert (ROOT / path).exists(), path
        assert purpose, path


def test_the_layout_is_short_and_names_every_layer() -> None:
    assert len(layout()) <= 12
    assert {f"{folder}/" for folder in LAYERS} <= set(layout())


@pytest.mark.parametrize("folder", LAYERS)
def test_the_page_on_the_architecture_links_every_module(folder: str) -> None:
    links = re.findall(r"^- \[`[a-z_0-9]+\.py`\]\(\.\./([^)]+)\): .", text_of(ARCHITECTURE), re.M)
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("[!_]*.py")}
    assert there == {link for link in links if link.startswith(f"{folder}/")}


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    for name in named(page):
        if re.fullmatch(r"[a-z_0-9]+(/[a-z_0-9]+)+(\.py|/)", name):
            assert (ROOT / name).exists(), name


def test_what_the_architecture_finds_in_a_module_is_there() -> None:
    """Each "`name` in `path.py`" of the page."""
    prose = " ".join(prose_of(ARCHITECTURE).split())
    found = re.findall(r"`(\w+)(?:\.\w+)?` in `([a-z_/]+\.py)`", prose)
    assert len(found) > 10
    for name, module in found:
        assert name in defined_in(ROOT / module), f"{name} in {module}"


def test_the_path_of_a_deployment_names_functions_of_the_flow() -> None:
    rows = re.findall(
        r"^\| [^|]+ \| (`[a-z_]+`[^|]*) \| `(?:tasks|blocks)/", text_of(ARCHITECTURE), re.M
    )
    steps = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert len(steps) > 5
    assert steps <= defined_in(ROOT / "flows/deploy.py")


def defined_in(module: Path) -> set[str]:
    """The functions, classes and fields of a module."""
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in nodes if isinstance(node, kinds)}
    targets = [node.target for node in nodes if isinstance(node, ast.AnnAssign)]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_pictures_are_small_enough_for_a_page() -> None:
    for picture in (ROOT / "docs/images").glob("*.png"):
        assert picture.stat().st_size < 200_000, picture.name
        assert picture.name in "".join(map(text_of, PAGES)), f"nobody shows {picture.name}"


# ── generated ────────────────────────────────────────────────────────────────────────────────────


def test_the_page_of_settings_is_up_to_date() -> None:
    """Otherwise: make docs."""
    assert text_of(settings_page.PAGE) == settings_page.page()


def test_the_list_of_modules_is_up_to_date() -> None:
    """Otherwise: make docs."""
    assert text_of(ARCHITECTURE) == architecture.page()


def test_every_folder_in_the_list_of_modules_says_what_it_holds() -> None:
    headings = re.findall(r"^### (\S+)\n\n(.)", text_of(ARCHITECTURE), re.M)
    assert [folder for folder, first in headings if first == "-" and folder != "docs"] == []


def test_the_page_of_settings_has_every_setting_of_the_example_file() -> None:
    example = tomllib.loads(text_of(ROOT / "ignition.example.toml"))
    assert set(example) <= set(Settings.model_fields)
    page = text_of(settings_page.PAGE)
    assert all(f"`{key.rpartition('.')[2]}`" in page for key in settings_page.setting_keys())


def test_the_readme_has_the_sections_in_their_order() -> None:
    assert re.findall(r"^## (.+)$", text_of(README), re.M) == [
        "The runbook as a picture",
        "Two commands",
        "One real run",
        "Deploy",
        "Approve",
        "Roll back by hand",
        "It is 3 am",
        "Your own backend",
        "Layout",
        "What it does not do",
        "More",
    ]


def test_the_readme_is_no_longer_than_one_reads_at_a_door() -> None:
    assert len(text_of(README).splitlines()) <= 200


def test_the_readme_leads_to_every_page() -> None:
    links = set(re.findall(r"\]\(([^)#]+)", text_of(README)))
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} <= links


def test_the_picture_has_the_headings_of_the_runbook() -> None:
    picture = "".join(fences(README, "mermaid"))
    runbook = text_of(ROOT / "RUNBOOK.md")
    steps = re.findall(r"^### (\d\. .+)$", runbook, re.M)
    assert len(steps) == 5
    for heading in [*steps, "Pre-Deployment Checklist", "Post-Deployment"]:
        assert f'"{heading}' in picture, heading


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_no_page_names_this_checkout(page: Path) -> None:
    assert str(ROOT) + os.sep not in text_of(page)
