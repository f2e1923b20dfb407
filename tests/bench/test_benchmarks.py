"""What a benchmark counts is there, and its figures land where they are read."""

import psycopg
import pytest

from bench import inside, report
from bench.migrations import require_all
from bench.processes import NotApplied
from bench.tools import TOOLS
from bench.workload import (
    small_migrations,
    what_is_there,
    what_should_be_there,
    write_data_file,
    write_plain,
)

RECORDS = {
    inside.ours: "SELECT count(*) FROM schema_migrations",
    inside.bare: "SELECT count(*) FROM bare_migrations",
}


@pytest.mark.parametrize("how", RECORDS, ids=lambda how: how.__name__)
def test_a_run_counts_when_all_is_there_and_not_before(dsn, tmp_path, how):
    write_plain(tmp_path, small_migrations(8))

    how(dsn, tmp_path)

    require_all(dsn, RECORDS[how], 8)
    with pytest.raises(NotApplied, match=r"\(3, 3, 2\) of \(3, 3, 3\)"):
        require_all(dsn, RECORDS[how], 9)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE item_2 DROP COLUMN note")
        assert what_is_there(connection) != what_should_be_there(8)


def test_a_thousand_small_migrations_make_334_tables(tmp_path):
    assert what_should_be_there(1000) == (334, 333, 333)
    assert len(small_migrations(1000)) == 1000


def test_the_data_file_is_of_the_size_that_the_page_says(tmp_path):
    size = write_data_file(tmp_path, 1000).stat().st_size

    assert size * 100 == pytest.approx(50 * 1024**2, rel=0.1)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_is_told_the_database_in_a_way_that_others_cannot_read(tool, tmp_path):
    url = tool.url("postgresql://owner:secret@127.0.0.1:1/app")
    tool.write(tmp_path, small_migrations(3), url)

    assert "secret" in url
    assert not any("secret" in str(part) for part in tool.command)
    readable = [path for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077]
    assert not any("secret" in path.read_text() for path in readable if path.is_file())


@pytest.mark.parametrize("section", ["migrations", "stalls", "gates"])
def test_figures_replace_those_before_them_and_nothing_else(section, tmp_path, monkeypatch, capsys):
    page = report.DOCUMENT.read_text()
    monkeypatch.setattr(report, "DOCUMENT", tmp_path / "benchmarks.md")
    report.DOCUMENT.write_text(page)

    report.publish(section, "run 1", write=True)
    once = report.DOCUMENT.read_text()
    report.publish(section, "run 2", write=True)

    assert report.DOCUMENT.read_text() == once.replace("run 1", "run 2", 1)
    assert page.splitlines()[:10] == once.splitlines()[:10]
    assert "\nrun 1\n" in once
    assert capsys.readouterr().out == "run 1\nrun 2\n"
