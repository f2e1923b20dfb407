"""Writes the list of modules in docs/architecture.md: `python -m docs.architecture`.

Each module is listed with the first line of its docstring, so the list and the code always agree.
The rest of the page is written by hand.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_suffix(".md")
LIST_BEGINS = "<!-- Everything below is written by `python -m docs.architecture` -->"
FOLDERS = ("cli", "flows", "tasks", "blocks", "release", "sandbox", "bench", "docs")
_OTHER_PROJECTS = ("sandbox/backend", "sandbox/releases")


def page() -> str:
    """The whole page: what was written by hand, then the list as the code has it now.

    Raises ValueError if the page has no line at which the list begins.
    """
    by_hand, begins, _ = PAGE.read_text(encoding="utf-8").partition(LIST_BEGINS)
    if not begins:
        raise ValueError(f"{PAGE} has no line {LIST_BEGINS}")
    return f"{by_hand}{begins}\n{module_list()}"


def module_list() -> str:
    """Every module below the heading of its folder, in the order of the layers."""
    parts = ["", _line(ROOT / "settings.py")]
    for folder, modules in _folders():
        said = _first_line(ROOT / folder / "__init__.py")
        parts += ["", f"### {folder}", "", *([said, ""] if said else []), *map(_line, modules)]
    return "\n".join(parts) + "\n"


def _folders() -> Iterator[tuple[str, list[Path]]]:
    """The folders that hold modules, each before those inside it."""
    for top in FOLDERS:
        by_folder: dict[str, list[Path]] = {}
        for module in sorted((ROOT / top).rglob("*.py")):
            folder = module.parent.relative_to(ROOT).as_posix()
            if module.name != "__init__.py" and not folder.startswith(_OTHER_PROJECTS):
                by_folder.setdefault(folder, []).append(module)
        yield from sorted(by_folder.items())


def _line(module: Path) -> str:
    path = module.relative_to(ROOT).as_posix()
    return f"- [`{module.name}`](../{path}): {_first_line(module)}"


def _first_line(module: Path) -> str:
    """The first line of a module's docstring; "" if it has none."""
    if not module.is_file():
        return ""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0].replace("``", "`")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
