"""Measured figures land where they are read."""

from pathlib import Path

import pytest

from sandbox import markdown

PAGE = "# Trials\n\n<!-- trials: measured -->\nold\n<!-- trials: end -->\n\nAfter it.\n"


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)

    markdown.put(page, "trials", "new")
    markdown.put(page, "trials", "newer")

    assert page.read_text() == PAGE.replace("old", "newer")


def test_a_page_without_a_place_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Trials\n")

    with pytest.raises(ValueError, match="has no place for trials"):
        markdown.put(page, "trials", "new")
    assert page.read_text() == "# Trials\n"


def test_only_the_named_columns_are_aligned_to_the_right() -> None:
    assert markdown.table(("a", "b"), [("x", "1")], right=(1,)) == (
        "| a | b |\n| --- | ---: |\n| x | 1 |"
    )


def test_the_page_of_the_trials_has_a_place_for_them(tmp_path: Path) -> None:
    page = tmp_path / "trials.md"
    page.write_text((markdown.DOCS / "trials.md").read_text(encoding="utf-8"))

    markdown.put(page, "trials", "| a |")

    assert "| a |" in page.read_text()
