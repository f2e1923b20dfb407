"""Which migration files can run, in which order, and what each refusal says."""

import hashlib
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.errors import MigrationRefused
from release.migration.files import (
    AppliedMigration,
    MigrationFile,
    plan_migrations,
    read_migration,
    read_migrations,
    statements_checksum,
    what_helps,
)
from release.migration.header import Header, Phase
from release.migration.sql.text import failing_line, pieces, split_statements, tokens


def a_file(version: str, name: str = "step", phase: Phase = Phase.EXPAND) -> MigrationFile:
    checksum = hashlib.sha256(f"{version}{name}".encode()).hexdigest()
    return MigrationFile(version, name, "SELECT 1;", checksum, Header(phase=phase))


def applied(file: MigrationFile, **changes: str) -> AppliedMigration:
    fields = {"name": file.name, "checksum": file.checksum, "phase": file.phase.value} | changes
    return AppliedMigration(version=file.version, **fields)  # type: ignore[arg-type]


def refusal(filename: str, content: bytes) -> str:
    with pytest.raises(MigrationRefused) as caught:
        read_migration(filename, content)
    return str(caught.value)


def plan_refusal(files: list[MigrationFile], rows: list[AppliedMigration]) -> str:
    with pytest.raises(MigrationRefused) as caught:
        plan_migrations(files, rows)
    return str(caught.value)


# --- one file -------------------------------------------------------------------------------------


def test_a_file_is_an_expand_migration_unless_its_header_says_otherwise():
    plain = read_migration("0007_add_email.sql", b"ALTER TABLE users ADD COLUMN email text;\n")
    late = read_migration(
        "0008_drop_mail.sql", b"-- migrate: phase=contract\nALTER TABLE users DROP COLUMN mail;"
    )

    assert (plain.version, plain.name, plain.phase) == ("0007", "add_email", Phase.EXPAND)
    assert plain.filename == "0007_add_email.sql"
    assert late.phase is Phase.CONTRACT


@pytest.mark.parametrize(
    "changed",
    [
        b"CREATE TABLE a (\r\n  x int\r\n);\r\n",
        b"CREATE TABLE a (\r  x int\r);\r",
        b"CREATE TABLE a (   \n  x int\t\n);\n\n\n",
    ],
    ids=["CRLF", "lone CR", "trailing blanks"],
)
def test_line_ends_and_trailing_blanks_do_not_change_the_checksum(changed):
    content = b"CREATE TABLE a (\n  x int\n);\n"

    assert (
        read_migration("0001_a.sql", changed).checksum
        == read_migration("0001_a.sql", content).checksum
    )


def test_crlf_does_not_reach_the_server():
    assert "\r" not in read_migration("0001_a.sql", b"SELECT 1;\r\nSELECT 2;\r\n").sql


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_a_file_read_in_pieces_is_the_file_read_at_once(length):
    content = "SELECT 'ä € 𝄞';\r\nSELECT 1;\r\rSELECT 2;\n\r\nSELECT 'ÿ';\r".encode()
    pieces = [content[start : start + length] for start in range(0, len(content), length)]

    assert read_migration("0001_a.sql", pieces) == read_migration("0001_a.sql", content)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"SELECT 1;\n", b"\nSELECT \0 2;"], ":3: a NUL byte"),
        ([b"SELECT 1;\n-- \xe2\x82", b"\n"], ":2: byte 0xe2 is not UTF-8"),
        ([b"SELECT 1;\n-- \xe2\x82"], ":2: byte 0xe2 is not UTF-8"),
        ([b" " * 1024**2] * 65, "it is larger than the 64 MB allowed"),
    ],
    ids=["NUL", "cut short by a line end", "cut short by the end", "too large"],
)
def test_what_is_wrong_in_a_later_piece_is_found_at_its_line(pieces, expected):
    with pytest.raises(MigrationRefused, match=re.escape(expected)):
        read_migration("0001_a.sql", pieces)


def test_another_literal_changes_the_checksum():
    one = read_migration("0001_a.sql", b"INSERT INTO t VALUES (1);")
    two = read_migration("0001_a.sql", b"INSERT INTO t VALUES (2);")

    assert one.checksum != two.checksum


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfSELECT 1;", ":1: it begins with a byte order mark"),
        ("SELECT 1;".encode("utf-16"), ":1: it is UTF-16"),
        ("SELECT 1;".encode("utf-16-le"), ":1: a NUL byte"),
        (b"SELECT 1;\n\nSELECT \0 2;", ":3: a NUL byte"),
        (b"SELECT 1;\nSELECT '\xe4';", ":2: byte 0xe4 is not UTF-8"),
        (b"", "it holds no statement"),
        (b"-- nothing yet\n/* or /* nested */ here */ ;;\n", "it holds no statement"),
        (b"SELECT 1;\n\\i other.sql\n", ":2: \\i is a command of psql"),
        (b"SELECT 1 \\gset\n", ":1: \\gset is a command of psql"),
        (b"CREATE TABLE t (x int);\nCOPY t FROM STDIN;\n1\n\\.\n", ":2: COPY over the connection"),
        (b"SELECT 1;\nSELECT :limit;", ":2: :limit is a variable of psql"),
        (b"SELECT 1;\nSELECT :'name';", ":2: :'name is a variable of psql"),
        (b"CREATE TABLE t (x int);\nCOPY t (x) FROM STDIN;\n", ":2: COPY over the connection"),
        (b"COPY (SELECT 1) TO stdout", ":1: COPY over the connection"),
        (b"BEGIN;\nSELECT 1;\nCOMMIT;", ":1: BEGIN would end the transaction"),
        (b"SELECT 1;\ncommit ;", ":2: COMMIT would end the transaction"),
        (b"SELECT 1;\n/* x */ ROLLBACK TO SAVEPOINT a;", ":2: ROLLBACK would end"),
        (b"START TRANSACTION;", ":1: START would end"),
        (b"PREPARE TRANSACTION 'x';", ":1: PREPARE would end"),
        (b"SAVEPOINT a;", ":1: SAVEPOINT would end"),
        (b"-- migrate: no-transaction\nBEGIN; VACUUM;", ":2: BEGIN would hold the statements"),
        (
            b"-- migrate: no-transaction\nUPDATE t SET x = 1;",
            ":2: if this statement is",
        ),
        (b"-- migrate: no-transaction\nSET ROLE x;", ":2: if this statement is"),
        (
            b"-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY ON t (x);",
            ":2: the index has no name",
        ),
        (b"-- migrate: no-transactions\nSELECT 1;", "unknown; did you mean no-transaction?"),
        (b"-- migrate: lock-timeout=0s\nSELECT 1;", ":1: lock-timeout=0s is unknown: a limit"),
        (b"-- migrate: lock-timeout=5\nSELECT 1;", ":1: lock-timeout=5 is unknown: '5' is no"),
        (b"-- migrate: min-app=v1.0.0\nSELECT 1;", ":1: min-app is for phase=contract"),
        (
            b"-- migrate: phase=contract min-app=1\nSELECT 1;",
            ":1: min-app=1: '1' is not a valid version",
        ),
        (b"-- migrate: idempotent\nSELECT 1;", ":1: idempotent is for no-transaction"),
        (b"-- migrate: allow=ban-drop-table\nSELECT 1;", ":1: allow=ban-drop-table needs a reason"),
        (b'-- migrate: reason="open\nSELECT 1;', ":1: '-- migrate: reason=\"open' cannot be read"),
        (b"-- migrate:up\nSELECT 1;", ":1: '-- migrate: up' is unknown"),
        (b"-- about\n-- migrate: phase=later\nSELECT 1;", ":2: phase=later is unknown"),
        (b"SELECT 1;\n-- migrate: phase=contract\n", ":2: '-- migrate:' stands below"),
        (b"SELECT 1;\nSELECT 'open;", ":2: a string that begins here is never closed"),
        (b'SELECT "open;', ":1: a quoted name that begins here is never closed"),
        (b"DO $body$ BEGIN END $bodi$;", ":1: what $body$ opens that begins here is never closed"),
        (b"SELECT 1; /* /* */", ":1: what /* opens that begins here is never closed"),
    ],
)
def test_a_file_that_would_not_do_what_it_says_is_refused_by_file_and_line(content, expected):
    """Nothing was sent to a database; the message names the place and the hint what to do."""
    message = refusal("0002_b.sql", content)

    assert message.startswith("0002_b.sql")
    assert expected in message
    assert "\nhint: " in message


@pytest.mark.parametrize(
    "name",
    ["7_a.sql", "0001-a.sql", "0001_A.sql", "0001_a b.sql", "a.sql", "0001_.SQL", "V1__a.sql"],
)
def test_a_file_with_another_name_is_refused(name):
    assert "NNNN_snake_name.sql" in refusal(name, b"SELECT 1;")


def test_a_folder_may_hold_other_files_than_sql():
    files = read_migrations(
        {"README.md": b"\0", "0002_b.sql": b"SELECT 2", "0001_a.sql": b"SELECT"}
    )

    assert [file.filename for file in files] == ["0001_a.sql", "0002_b.sql"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'COMMIT; \\i x';",
        "SELECT E'it\\'s; COMMIT';",
        "SELECT E'a'\n  'b\\'; COMMIT';",
        'SELECT 1 AS "x;\\COMMIT";',
        "DO $$ BEGIN PERFORM 1; END $$;",
        "DO $a$ BEGIN EXECUTE $$COMMIT;$$; END $a$;",
        "-- COMMIT;\nSELECT 1;",
        "/* COMMIT; /* \\i */ ' */ SELECT 1;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 1; END",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY m;",
        "COPY t FROM '/var/lib/data.csv';",
        "SELECT '%s', 7 % 4;",
        "SELECT a$b$c FROM t;",
        'CLUSTER "t";',
    ],
)
def test_what_only_looks_forbidden_is_one_statement_and_passes(sql):
    assert len(split_statements(read_migration("0001_a.sql", sql.encode()).sql)) == 1


def test_each_statement_knows_its_line():
    sql = "-- head\n\nCREATE TABLE a ();\n/* two\nlines */ CREATE TABLE b ();CREATE TABLE c ();\n"

    assert [part.line for part in split_statements(sql)] == [3, 5, 5]


def test_an_error_is_placed_where_the_server_points_else_at_its_statement():
    sql = "SELECT 1;\nSELECT 2;\nSELECT\n  3;"

    assert failing_line(sql, position=None, statement=0) == 1
    assert failing_line(sql, position=None, statement=2) == 3
    assert failing_line(sql, position=sql.index("3") + 1, statement=0) == 4


@given(st.text())
def test_tokens_lose_nothing(text):
    """Whatever stands in a file: the tokens joined are the file, or it is refused with a line."""
    found: list[str] = []
    with suppress(MigrationRefused):
        found.extend(token.text for token in tokens(text))
        assert "".join(found) == text
    assert text.startswith("".join(found))


QUOTED = st.sampled_from(
    [
        lambda text: "SELECT '" + text.replace("'", "''") + "'",
        lambda text: "SELECT E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'",
        lambda text: 'SELECT 1 AS "' + text.replace('"', '""') + '"',
        lambda text: "DO $q1$" + text.replace("$q1$", "") + "$q1$",
        lambda text: "SELECT 1 /* " + text.replace("/*", "").replace("*/", "").rstrip("/*") + " */",
        lambda text: "SELECT 1 -- " + text.replace("\n", " ").replace("\r", " ") + "\n",
    ]
)


@given(st.lists(st.tuples(QUOTED, st.text("';\\$\"/*-aE\n") | st.text()), min_size=1, max_size=6))
def test_quoted_text_never_ends_a_statement(parts):
    sql = ";\n".join(quote(text) for quote, text in parts)

    assert len(split_statements(sql)) == len(parts)


# --- the folder against the database --------------------------------------------------------------


def test_the_plan_holds_what_is_not_applied_in_order():
    files = [a_file("0003"), a_file("0001"), a_file("0002"), a_file("0004", phase=Phase.CONTRACT)]

    plan = plan_migrations(files, [applied(a_file("0001"))])

    assert [file.version for file in plan.pending] == ["0002", "0003", "0004"]
    assert [file.version for file in plan.expand] == ["0002", "0003"]
    assert [file.version for file in plan.contract] == ["0004"]
    assert plan.schema_version == "0001"


def test_a_contract_file_may_wait_behind_newer_expand_files():
    """Its release was rolled back before the watch ended; the next release's schema is newer."""
    late, newer = a_file("0002", phase=Phase.CONTRACT), a_file("0003")

    plan = plan_migrations([a_file("0001"), late, newer], [applied(a_file("0001")), applied(newer)])

    assert plan.pending == (late,)


def test_nothing_is_pending_when_everything_is_applied():
    assert plan_migrations([a_file("0001")], [applied(a_file("0001"))]).pending == ()
    assert plan_migrations([], []).pending == ()


@pytest.mark.parametrize(
    ("files", "rows", "expected"),
    [
        (["0001", "0003"], [], "0003_step.sql: 0002 is missing before it"),
        (["0002"], [], "0002_step.sql: 0001 is missing before it"),
        (["0001", "00002"], [], "numbers of different width"),
        (["0001"], ["00001"], "numbers of different width"),
        (["0001"], ["0001", "0002"], "0002_step.sql was applied, but the file is gone"),
        (["0001", "0002", "0003"], ["0001", "0003"], "0002_step.sql is pending but 0003_step.sql"),
        ([], ["0001"], "0001_step.sql was applied, but the file is gone"),
    ],
)
def test_numbers_that_do_not_follow_each_other_are_refused(files, rows, expected):
    message = plan_refusal([a_file(one) for one in files], [applied(a_file(one)) for one in rows])

    assert expected in message
    assert "\nhint: " in message


def test_a_number_used_twice_names_both_files_and_the_next_free_number():
    message = plan_refusal([a_file("0001", "a"), a_file("0001", "b"), a_file("0002")], [])

    assert "0001 is used by 0001_a.sql and 0001_b.sql" in message
    assert "renumber one of them to 0003" in message


def test_a_late_contract_file_is_refused_behind_an_applied_contract_file():
    newer = a_file("0003", phase=Phase.CONTRACT)
    files = [a_file("0001"), a_file("0002", phase=Phase.CONTRACT), newer]

    assert "0002_step.sql is pending" in plan_refusal(
        files, [applied(a_file("0001")), applied(newer)]
    )


def test_an_edited_applied_file_is_refused_with_both_checksums():
    row = applied(a_file("0001"), checksum="f" * 64)

    message = plan_refusal([a_file("0001")], [row])

    assert "ffffffffffff… was applied" in message
    assert a_file("0001").checksum[:12] in message
    assert "put the change into 0002_" in message


def test_a_renamed_applied_file_is_refused_with_both_names():
    message = plan_refusal([a_file("0001", "new")], [applied(a_file("0001", "old"))])

    assert "0001_old.sql was applied, but the file is 0001_new.sql now" in message


def test_a_renumbered_applied_file_is_recognised_by_its_name():
    row = applied(a_file("0002", "email"), app_version="v1.1.0")

    message = plan_refusal([a_file("0001"), a_file("0002", "b"), a_file("0003", "email")], [row])

    assert "0002_email.sql was applied by v1.1.0, but the file is 0002_b.sql now" in message


def test_a_row_that_another_tool_wrote_is_taken_as_it_is():
    """It has no checksum and no name, so there is nothing to compare."""
    plan = plan_migrations([a_file("0001"), a_file("0002")], [AppliedMigration(version="0001")])

    assert [file.version for file in plan.pending] == ["0002"]


# --- files that were begun without a transaction --------------------------------------------------

STEPWISE = "-- migrate: no-transaction\nVACUUM a;\nVACUUM b;\nVACUUM c;\n"


def stepwise(sql: str = STEPWISE) -> MigrationFile:
    return read_migration("0001_step.sql", sql.encode())


def begun(file: MigrationFile, done: int) -> AppliedMigration:
    return AppliedMigration(
        file.version,
        file.name,
        status="failed",
        checksum=file.checksum,
        statements_total=3,
        statements_done=done,
        done_checksum=statements_checksum(file, done),
    )


def test_a_file_that_was_begun_is_pending_and_known_as_unfinished():
    file = stepwise()

    plan = plan_migrations([file], [begun(file, 2)])

    assert plan.pending == (file,)
    assert [row.statements_done for row in plan.unfinished] == [2]
    assert plan.schema_version == "", "a schema stands at what is finished"


def test_the_part_that_is_not_done_may_be_mended():
    mended = stepwise(STEPWISE.replace("VACUUM c", "VACUUM d"))

    assert plan_migrations([mended], [begun(stepwise(), 2)]).pending == (mended,)


def test_a_comment_in_the_part_that_is_done_changes_nothing():
    noted = stepwise(STEPWISE.replace("VACUUM b", "-- why\n  VACUUM b"))

    assert plan_migrations([noted], [begun(stepwise(), 2)]).pending == (noted,)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([stepwise(STEPWISE.replace("VACUUM a", "VACUUM z"))], "its first 2 statements ran"),
        ([], "2 of 3 statements are done, but the file is gone now"),
        ([a_file("0001")], "was begun without a transaction, and now it asks for one"),
        ([a_file("0001", "other")], "but the file is 0001_other.sql now"),
    ],
)
def test_what_is_half_done_has_to_be_finished_as_it_was_begun(files, says):
    """Nothing more is run; the schema stays half way, and the sentence says how far."""
    assert says in plan_refusal(files, [begun(stepwise(), 2)])


# --- what failed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("53100", "the server lacks disk"),
        ("42501", "grant the migration's role"),
        ("57014", "statement-timeout="),
        ("42703", "mend the file"),
        (None, "mend the file"),
    ],
)
def test_what_helps_depends_on_who_is_at_fault(code, says):
    assert says in what_helps(code, "mend the file")


# --- files of another tool ------------------------------------------------------------------------


def test_numbers_by_the_time_of_writing_need_no_row():
    """Rails and dbmate number so; a gap in them says nothing."""
    files = [a_file("20240102030405"), a_file("20250102030405")]

    plan = plan_migrations(files, [AppliedMigration("20240102030405")])

    assert [file.version for file in plan.pending] == ["20250102030405"]


def test_rows_of_another_tool_without_a_file_here_are_left_alone():
    rows = [AppliedMigration("20190102030405"), applied(a_file("0001"))]

    plan = plan_migrations([a_file("0001"), a_file("0002")], rows)

    assert plan.pending == (a_file("0002"),)
    assert plan.schema_version == "0001", "theirs are numbers of another kind"


# --- checksums ------------------------------------------------------------------------------------


@given(st.text(alphabet="a \t\n;-'", max_size=60))
def test_a_checksum_is_over_the_lines_without_what_nobody_sees(text):
    """As it always was: records of every version of this tool stay valid."""
    text = f"SELECT 1;{text}"
    kept = "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
    with suppress(MigrationRefused):
        file = read_migration("0001_a.sql", text.encode())
        assert file.checksum == hashlib.sha256(kept.encode()).hexdigest()


# --- large files ----------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["SELECT 1;", "SELECT ';';\n", "-- c;\n", "\n"])), st.integers(1, 30)
)
def test_pieces_are_whole_statements_and_joined_they_are_the_text(parts, largest):
    text = "".join(parts)

    cut = [text[start:end] for start, end in pieces(text, largest)]

    assert "".join(cut) == text
    assert sum(len(split_statements(piece)) for piece in cut) == len(split_statements(text))
