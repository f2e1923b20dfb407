"""What the migration benchmark applies: many small migrations, or one big data file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import psycopg

# In turn: a table with a key, one more column, a row.
_KINDS = (
    "CREATE TABLE item_{n} (id bigint PRIMARY KEY, name text NOT NULL);",
    "ALTER TABLE item_{n} ADD COLUMN note text;",
    "INSERT INTO item_{n} (id, name) VALUES (1, 'first');",
)
_ROW_LENGTH = 450  # characters of text: 100,000 statements are 50 MB


def small_migrations(number: int) -> list[str]:
    """The SQL text of ``number`` migrations, a third of each kind."""
    return [_KINDS[index % 3].format(n=index // 3 + 1) for index in range(number)]


def what_is_there(connection: psycopg.Connection) -> tuple[int, int, int]:
    """How many tables, added columns and rows of the small migrations a database holds."""
    row = connection.execute(
        "SELECT count(*), sum((SELECT count(*) FROM pg_attribute a"
        "   WHERE a.attrelid = c.oid AND a.attname = 'note')),"
        " sum((xpath('/row/n/text()', query_to_xml("
        "   format('SELECT count(*) AS n FROM %I', c.relname), true, true, '')))[1]::text::int)"
        " FROM pg_class c WHERE c.relkind = 'r' AND c.relname LIKE 'item\\_%'"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1] or 0), int(row[2] or 0)


def what_should_be_there(number: int) -> tuple[int, int, int]:
    """What :func:`what_is_there` finds if all of ``number`` migrations are applied."""
    return (number + 2) // 3, (number + 1) // 3, number // 3


def write_plain(folder: Path, migrations: Sequence[str], above: str = "", below: str = "") -> None:
    """A folder of SQL files, numbered from 0001, with the lines that a tool wants in each."""
    for index, text in enumerate(migrations, 1):
        (folder / f"{index:04}_step.sql").write_text(f"{above}{text}\n{below}")


def write_data_file(folder: Path, rows: int) -> Path:
    """A file that makes a table and adds ``rows`` rows, each with a statement of its own."""
    path = folder / "0001_data.sql"
    with path.open("w") as file:
        file.write("CREATE TABLE notes (id int, body text);\n")
        for number in range(rows):
            body = hashlib.sha512(str(number).encode()).hexdigest() * 4
            file.write(f"INSERT INTO notes VALUES ({number}, '{body[:_ROW_LENGTH]}');\n")
    return path
