"""The real squawk: what it is asked, what it answers, and what becomes of the answer."""

import stat
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.linter import run_squawk
from release.errors import Unreachable
from release.migration.files import MigrationFile, read_migration
from release.migration.header import Header, Phase
from release.migration.lint.findings import lint
from release.migration.lint.rules import Severity
from release.migration.lint.squawk_rules import LEFT_OUT, SQUAWK_RULES

ROOT = Path(__file__).resolve().parents[2]
EXPAND, CONTRACT = Phase.EXPAND, Phase.CONTRACT
SERVER = 150018  # as libpq numbers 15.18


def a_file(
    sql: str,
    name: str = "step",
    phase: Phase = EXPAND,
    in_transaction: bool = True,
    version: str = "0007",
) -> MigrationFile:
    header = Header(phase=phase, in_transaction=in_transaction)
    return MigrationFile(version, name, sql, "", header)


def rules(file: MigrationFile) -> list[str]:
    return [finding.rule for finding in lint(file, run_squawk([file], SERVER))]


def errors(file: MigrationFile) -> list[str]:
    findings = lint(file, run_squawk([file], SERVER))
    return [finding.rule for finding in findings if finding.severity is Severity.ERROR]


# ── The answer ───────────────────────────────────────────────────────────────────────────────────


def test_findings_say_where_they_are_in_lines_and_characters():
    first = a_file("SELECT 1;\nALTER TABLE ä ADD ö text, DROP COLUMN x;\n", "a")
    second = a_file("DROP TABLE b;", "b", version="0008")

    found = [f for f in run_squawk([second, first]) if f.rule in SQUAWK_RULES]

    assert [(f.filename, f.line, f.column, f.rule) for f in found] == [
        ("0008_b.sql", 1, 0, "ban-drop-table"),
        ("0007_a.sql", 2, 26, "ban-drop-column"),
    ]
    assert found[0].message


def test_files_without_a_finding_have_none():
    assert run_squawk([a_file("SELECT 1;")]) == ()
    assert run_squawk([]) == ()


def test_a_file_is_judged_by_how_it_runs():
    """In one transaction a constraint is validated under the lock that added it."""
    sql = (
        "ALTER TABLE orders ADD CONSTRAINT k CHECK (x > 0) NOT VALID;\n"
        "ALTER TABLE orders VALIDATE CONSTRAINT k;\n"
    )

    assert "constraint-missing-not-valid" in rules(a_file(sql))
    assert "constraint-missing-not-valid" not in rules(a_file(sql, in_transaction=False))


@pytest.mark.parametrize(
    "comment",
    [
        "-- squawk-ignore ban-drop-table",
        "-- squawk-ignore-file",
        "/* squawk-ignore-file ban-drop-table */",
    ],
)
def test_only_the_header_allows_anything(comment):
    assert rules(a_file(f"{comment}\nDROP TABLE orders;")) == ["ban-drop-table"]


def test_a_configuration_that_lies_around_does_not_count(tmp_path, monkeypatch):
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["ban-drop-table"]')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert rules(a_file("DROP TABLE orders;")) == ["ban-drop-table"]


def test_what_follows_a_statement_that_squawk_cannot_read_is_linted():
    sql = (
        "DROP TABLE a; ALTER TABLE b\n  ADD COLUMN x text COMPRESSION lz4;\n\nDROP TABLE c;"
        "ALTER TABLE d ADD COLUMN ä text, DROP COLUMN x;"
    )
    file = a_file(sql)

    found = [(f.line, f.rule) for f in lint(file, run_squawk([file]))]

    assert [name for name in found if name[1] != "several-tables"] == [
        (1, "ban-drop-table"),
        (1, "unread-by-squawk"),
        (4, "ban-drop-column"),
        (4, "ban-drop-table"),
    ]


def test_a_thousand_files_are_one_question():
    files = [a_file("DROP TABLE orders;", version=f"{number:04}") for number in range(1000)]

    found = [f for f in run_squawk(files, SERVER) if f.rule == "ban-drop-table"]

    assert [f.filename for f in found] == [file.filename for file in files]


# ── No answer ────────────────────────────────────────────────────────────────────────────────────


def stand_in(folder: Path, script: str) -> str:
    """A program beside an interpreter of its own, as squawk stands beside ours."""
    program = folder / "squawk"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(folder / "python")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'thread panicked' >&2; exit 101", "ended with 101: thread panicked"),
        ("kill -SEGV $$", "ended with -11: without a word"),
        ("echo 'no such file' >&2; exit 1", "gave no findings: no such file"),
        ("echo '[{\"file\"'; exit 1", "gave no findings: without a word"),
    ],
)
def test_a_squawk_that_fails_says_how(tmp_path, monkeypatch, script, why):
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, script))

    with pytest.raises(Unreachable) as caught:
        run_squawk([a_file("SELECT 1;")])

    assert caught.value.what == f"squawk, the linter of migrations, {why}"


def test_a_squawk_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, "exec sleep 600"))

    with pytest.raises(Unreachable, match=r"took longer than 0\.2 s for 1 file\n"):
        run_squawk([a_file("SELECT 1;")], timeout=timedelta(seconds=0.2))


def test_a_squawk_that_is_not_there_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unreachable, match="is not installed\nhint: make setup"):
        run_squawk([a_file("SELECT 1;")])


# ── The rules ────────────────────────────────────────────────────────────────────────────────────

HITS = [
    ("adding-field-with-default", "ALTER TABLE orders ADD COLUMN x uuid DEFAULT gen_random_uuid()"),
    ("adding-foreign-key-constraint", "ALTER TABLE orders ADD FOREIGN KEY (x) REFERENCES a (x)"),
    ("adding-not-nullable-field", "ALTER TABLE orders ALTER COLUMN x SET NOT NULL"),
    ("adding-required-field", "ALTER TABLE orders ADD COLUMN x int NOT NULL"),
    ("adding-serial-primary-key-field", "ALTER TABLE orders ADD PRIMARY KEY (x)"),
    ("ban-alter-domain-with-add-constraint", "ALTER DOMAIN email ADD CHECK (value <> '')"),
    ("ban-drop-database", "DROP DATABASE shop"),
    ("ban-truncate-cascade", "TRUNCATE orders CASCADE"),
    ("changing-column-type", "ALTER TABLE orders ALTER COLUMN x TYPE bigint"),
    ("constraint-missing-not-valid", "ALTER TABLE orders ADD CONSTRAINT k CHECK (x > 0)"),
    ("disallowed-unique-constraint", "ALTER TABLE orders ADD CONSTRAINT k UNIQUE (x)"),
    ("require-concurrent-index-creation", "CREATE INDEX i ON orders (x)"),
    ("require-concurrent-reindex", "REINDEX TABLE orders"),
    ("ban-alter-identity", "ALTER TABLE orders ALTER COLUMN x DROP IDENTITY"),
    ("ban-alter-row-level-security", "ALTER TABLE orders ENABLE ROW LEVEL SECURITY"),
    ("ban-detach-inheritance", "ALTER TABLE orders NO INHERIT base"),
    ("ban-drop-column", "ALTER TABLE orders DROP COLUMN x"),
    ("ban-drop-constraint", "ALTER TABLE orders DROP CONSTRAINT k"),
    ("ban-drop-default", "ALTER TABLE orders ALTER COLUMN x DROP DEFAULT"),
    ("ban-drop-domain", "DROP DOMAIN email"),
    ("ban-drop-extension", "DROP EXTENSION hstore"),
    ("ban-drop-function", "DROP FUNCTION f()"),
    ("ban-drop-generated-expression", "ALTER TABLE orders ALTER COLUMN x DROP EXPRESSION"),
    ("ban-drop-policy", "DROP POLICY p ON orders"),
    ("ban-drop-schema", "DROP SCHEMA audit"),
    ("ban-drop-sequence", "DROP SEQUENCE numbers"),
    ("ban-drop-table", "DROP TABLE orders"),
    ("ban-drop-trigger", "DROP TRIGGER t ON orders"),
    ("ban-drop-type", "DROP TYPE state"),
    ("ban-drop-view", "DROP VIEW totals"),
    ("ban-revoke", "REVOKE SELECT ON orders FROM api"),
    ("ban-set-schema", "ALTER TABLE orders SET SCHEMA audit"),
    ("renaming-column", "ALTER TABLE orders RENAME COLUMN x TO y"),
    ("renaming-object", "ALTER TYPE state RENAME TO status"),
    ("renaming-table", "ALTER TABLE orders RENAME TO sales"),
    ("ban-alter-sequence-values", "ALTER SEQUENCE numbers RESTART"),
    ("ban-drop-index", "DROP INDEX i"),
    ("ban-drop-not-null", "ALTER TABLE orders ALTER COLUMN x DROP NOT NULL"),
    ("ban-new-write-restriction", "ALTER TABLE orders ADD CHECK (x > 0) NOT VALID"),
    ("identifier-too-long", f"CREATE TABLE {'x' * 64} (id bigint)"),
    ("require-concurrent-index-deletion", "DROP INDEX i"),
    ("require-concurrent-partition-detach", "ALTER TABLE orders DETACH PARTITION orders_1"),
]


def test_every_rule_of_squawk_that_is_judged_has_a_hit_here():
    assert {rule for rule, _ in HITS} == set(SQUAWK_RULES)


@pytest.mark.parametrize(("rule", "sql"), HITS, ids=[rule for rule, _ in HITS])
def test_a_statement_that_hurts_is_found_in_the_phases_that_it_hurts_in(rule, sql):
    for phase in Phase:
        expected = SQUAWK_RULES[rule].severity(phase)
        file = a_file(sql + ";", phase=phase)
        found = {f.rule: f.severity for f in lint(file, run_squawk([file], SERVER))}

        assert found.get(rule) is expected


def test_every_rule_that_squawk_has_on_its_own_is_judged_or_left_out():
    """A newer squawk brings rules; whoever updates it decides about them here."""
    sql = "\n".join(f"{sql};" for _, sql in HITS) + "\nCREATE TABLE a (x serial, y char(3));"

    found = {finding.rule for finding in run_squawk([a_file(sql)], SERVER)}

    assert found <= {*SQUAWK_RULES, *LEFT_OUT}


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX i ON orders (x)",
        "ALTER TABLE orders ADD COLUMN x int NOT NULL",
        "ALTER TABLE orders ADD CONSTRAINT k UNIQUE (x)",
        "ALTER TABLE orders ADD FOREIGN KEY (x) REFERENCES orders (x)",
        "ALTER TABLE orders ALTER COLUMN x TYPE bigint",
        "ALTER TABLE orders DROP COLUMN x",
        "DROP TABLE orders",
        "REVOKE ALL ON orders FROM PUBLIC",
    ],
)
def test_what_the_file_itself_created_is_its_own(sql):
    assert rules(a_file(f"CREATE TABLE public.orders (x int);\n{sql};")) == []


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE orders ADD COLUMN x int",
        "ALTER TABLE orders ADD COLUMN x int NOT NULL DEFAULT 0",
        "ALTER TABLE orders ADD COLUMN x timestamptz DEFAULT now()",
        "ALTER TABLE orders ADD COLUMN x text DEFAULT lower('A')",
        "ALTER TABLE orders VALIDATE CONSTRAINT k",
        "ALTER TABLE orders ALTER COLUMN x SET DEFAULT 1",
        "ALTER TABLE orders ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES a (x) NOT VALID",
        "ALTER INDEX i RENAME TO j",
        "CREATE OR REPLACE VIEW totals AS SELECT 1",
        "CREATE TABLE orders (id int PRIMARY KEY, a varchar(3), at timestamp)",
        "GRANT SELECT ON orders TO api",
        "ALTER TYPE state ADD VALUE 'lost'",
        "INSERT INTO orders VALUES (1)",
    ],
)
def test_what_an_expand_file_is_for_passes(sql):
    assert errors(a_file(sql + ";")) == []


# What the recipes say, written out: a recipe that does not pass is no recipe.
RECIPES = [
    ("CREATE INDEX CONCURRENTLY i ON orders (x);", EXPAND, False),
    ("DROP INDEX CONCURRENTLY i;", CONTRACT, False),
    ("REINDEX (CONCURRENTLY) TABLE orders;", EXPAND, False),
    ("VACUUM (ANALYZE) orders;", EXPAND, False),
    ("ALTER TABLE orders DETACH PARTITION orders_1 CONCURRENTLY;", CONTRACT, False),
    ("CREATE UNIQUE INDEX CONCURRENTLY orders_key ON orders (x);", EXPAND, False),
    ("ALTER TABLE orders ADD CONSTRAINT k UNIQUE USING INDEX orders_key;", EXPAND, True),
    ("ALTER TABLE orders ADD CONSTRAINT k PRIMARY KEY USING INDEX orders_key;", EXPAND, True),
    ("ALTER TABLE orders ADD CONSTRAINT k CHECK (x > 0) NOT VALID;", EXPAND, True),
    ("ALTER TABLE orders VALIDATE CONSTRAINT k;", EXPAND, True),
    ("ALTER TABLE orders ADD CONSTRAINT x_set CHECK (x IS NOT NULL) NOT VALID;", EXPAND, True),
    (
        "ALTER TABLE orders VALIDATE CONSTRAINT x_set;\n"
        "ALTER TABLE orders ALTER COLUMN x SET NOT NULL;",
        EXPAND,
        True,
    ),
    (
        "ALTER TABLE orders ADD COLUMN x uuid;\n"
        "ALTER TABLE orders ALTER COLUMN x SET DEFAULT gen_random_uuid();",
        EXPAND,
        True,
    ),
    (
        "ALTER TABLE orders ADD COLUMN x int;\n"
        "ALTER TABLE orders ADD CONSTRAINT x_check CHECK (x > 0) NOT VALID;",
        EXPAND,
        True,
    ),
    ("UPDATE orders SET x = 1 WHERE id BETWEEN 1 AND 10000;", EXPAND, True),
    ("LOCK TABLE orders IN SHARE MODE NOWAIT;", EXPAND, True),
    ("REFRESH MATERIALIZED VIEW CONCURRENTLY totals;", EXPAND, True),
    ("ALTER TABLE orders ADD COLUMN x bigint;", EXPAND, True),
    ("CREATE SEQUENCE numbers;", EXPAND, True),
    ("ALTER TABLE orders ALTER COLUMN x SET DEFAULT nextval('numbers');", EXPAND, True),
    (
        "CREATE TABLE orders_2 (LIKE orders INCLUDING ALL);\n"
        "ALTER TABLE orders ATTACH PARTITION orders_2 FOR VALUES IN (2);",
        EXPAND,
        True,
    ),
    ("ALTER DOMAIN email ADD CONSTRAINT k CHECK (value <> '') NOT VALID;", EXPAND, True),
    ("ALTER DOMAIN email VALIDATE CONSTRAINT k;", EXPAND, True),
    ("ALTER TABLE orders DROP COLUMN x;", CONTRACT, True),
    ("DROP TABLE orders;", CONTRACT, True),
]


@pytest.mark.parametrize(("sql", "phase", "in_transaction"), RECIPES)
def test_what_a_recipe_says_passes(sql, phase, in_transaction):
    assert errors(a_file(sql, phase=phase, in_transaction=in_transaction)) == []


@pytest.mark.parametrize(
    "path",
    sorted(
        [
            *(ROOT / "migrations").glob("*.sql"),
            *(ROOT / "sandbox").glob("backend/app/backend/migrations/*.sql"),
            *(ROOT / "sandbox").glob("releases/*/app/backend/migrations/*.sql"),
        ]
    ),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_migrations_of_this_repository_pass(path):
    assert errors(read_migration(path.name, path.read_bytes())) == []
