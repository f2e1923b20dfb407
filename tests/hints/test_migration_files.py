"""What the refusals of migration files say to do is done, and the files are taken."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import release.migration.text
from release.errors import MigrationRefused
from release.migration.contract import refuse_while_older_runs
from release.migration.files import MigrationFile, plan_migrations, read_migrations
from release.migration.header import _FLAGS, _READERS
from release.migration.lint.findings import lint_all
from release.migration.rehearsal.compatibility import Broken, StatementCheck
from release.migration.rehearsal.outcome import Rehearsal, refuse_breaking
from release.model import ImageRef, Instance, Release
from tests.fakes.commands import ROOT
from tests.fakes.refusals import (
    ALONE,
    EARLY,
    EDITED,
    HALF,
    INDEX,
    LATE,
    ONE,
    OTHER,
    TWO,
    TWO_INDEXES,
    A,
    B,
    Case,
    applied,
    begun,
    case,
    follow,
    header_case,
    read,
    refusal,
    renamed,
    text_case,
)
from tests.hints import test_other_tools as other_tools

SOURCE = ROOT / "release" / "migration"


def small(size: int, text: bytes) -> MigrationFile:
    """Read with a smaller limit than 64 MB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release.migration.text, "LARGEST_FILE", size)
        return read(text)


# ── When it may run ──────────────────────────────────────────────────────────────────────────────

NEW = Release("v1.2.0", "2" * 40, ImageRef("registry/api", "sha256:" + "2" * 64))
OLD_IMAGE = ImageRef("registry/api", "sha256:" + "1" * 64)
OLDER = Instance("1", "api-1", "10.0.0.2", OLD_IMAGE, "v1.1.0", "1" * 40, "running", "healthy")
STOPPED = replace(OLDER, state="exited")
BREAKS = Rehearsal(
    ("0001_a.sql",),
    statements=StatementCheck(checked=1, broken=(Broken("SELECT x FROM a", "gone", 9),)),
)


def rehearsed(file: MigrationFile) -> None:
    """Only what runs before the rollout is rehearsed, and judged."""
    expand = plan_migrations([file], []).expand
    refuse_breaking(BREAKS if expand else Rehearsal(()), expand)


CASES: dict[str, Case] = {
    # A file by itself
    "a name": case(
        lambda: read(A, "add-a.sql"),
        r"such as (\S+\.sql)\nhint: rename it, or move it out of the migrations folder",
        lambda name: read(A, name),
        lambda _: read_migrations({}),
    ),
    "nothing in it": case(
        lambda: read("-- later\n"),
        "hint: write it, or delete it",
        lambda: read(A),
        lambda: read_migrations({}),
    ),
    "BEGIN": text_case(f"BEGIN;\n{A}", "hint: remove BEGIN: ", A),
    "COMMIT without a transaction": text_case(
        f"{ALONE}{INDEX.format('x ')}COMMIT;", "hint: remove COMMIT: ", ALONE + INDEX.format("x ")
    ),
    "COPY": text_case("COPY a FROM STDIN", "hint: write INSERTs", "INSERT INTO a VALUES (1)"),
    "a command of psql": text_case(
        "\\i data.sql",
        "hint: write it as SQL; data belongs into INSERTs",
        "INSERT INTO a VALUES (1)",
    ),
    "a variable of psql": text_case(
        "INSERT INTO a VALUES (:id)", "hint: write its value", "INSERT INTO a VALUES (1)"
    ),
    "a string that is not closed": text_case("SELECT 'a", "hint: close it$", "SELECT 'a'"),
    "a comment that is not closed": text_case(f"{A}/* a", "hint: close it$", f"{A}/* a */"),
    "both ways in one file": text_case(
        f"-- migrate:up\n{A}-- migrate:down\nDROP TABLE a;\n",
        "hint: delete this line and all below it, and the line that begins the way up",
        A,
    ),
    # Its bytes
    "UTF-16": text_case(A.encode("utf-16"), "hint: save it as UTF-8", A),
    "a byte order mark": text_case(
        A.encode("utf-8-sig"), "hint: save it as UTF-8 without a byte order mark", A
    ),
    "Latin-1": text_case("SELECT 'ä'".encode("latin-1"), "hint: save it as UTF-8", "SELECT 'ä'"),
    "a NUL byte": text_case(A.encode() + b"\0", "hint: save it as UTF-8", A),
    "too large": case(
        lambda: small(40, f"{A}{B}".encode()),
        "hint: split it",
        lambda: (small(40, A.encode()), small(40, B.encode())),
    ),
    # Its header
    "a header below": text_case(
        f"{A}-- migrate: phase=contract\n",
        "hint: move it to the top of the file",
        f"-- migrate: phase=contract\n{A}",
    ),
    "a quote in a header": header_case(
        'allow=x reason="a', r'hint: quote as in reason="…"', 'allow=x reason="a"'
    ),
    "a misspelt key": case(
        lambda: read(f"-- migrate: phse=contract\n{A}"),
        r"did you mean phase\?.*\nhint: write (\S+)$",
        lambda right: read(f"-- migrate: {right}\n{A}").phase == "contract",
    ),
    "a flag with a value": case(
        lambda: read(f"-- migrate: no-transaction=yes\n{INDEX.format('x ')}"),
        r"hint: write (\S+)$",
        lambda right: read(f"-- migrate: {right}\n{INDEX.format('x ')}"),
    ),
    "a key that there is not": text_case(f"-- migrate: xyz\n{A}", "hint: remove it; docs", A),
    "a way down": text_case(
        f"-- migrate: up\n{A}", "hint: remove it; a file that undoes another is a new", A
    ),
    "another phase": header_case(
        "phase=later", "write phase=expand or phase=contract", "phase=expand", "phase=contract"
    ),
    "a bare number": header_case("lock-timeout=5", "write a number and a unit", "lock-timeout=5s"),
    "a version": case(
        lambda: read(f"-- migrate: phase=contract min-app=1.2\n{A}"),
        r"such as (v\S+)\nhint: docs/migrations.md lists",
        lambda right: read(f"-- migrate: phase=contract min-app={right}\n{A}"),
    ),
    "min-app of an expand file": header_case(
        "min-app=v1.0.0", "min-app is for phase=contract", "phase=contract min-app=v1.0.0"
    ),
    "an allowance without a reason": header_case(
        "allow=x", 'needs a reason="…" beside it', 'allow=x reason="a view"'
    ),
    "idempotent in a transaction": header_case(
        "idempotent", "is for no-transaction", "no-transaction idempotent"
    ),
    "a reason for nothing": header_case('reason="a"', "is for allow=…", 'reason="a" allow=x'),
    # Its statements, without a transaction
    "a statement that cannot be taken up": case(
        lambda: read(ALONE + A),
        "into a file of its own without '-- migrate: no-transaction', or write '(.+)' if",
        lambda _: read(A),
        lambda header: read(f"{header}\n{A}"),
    ),
    "an index without a name": case(
        lambda: read(ALONE + INDEX.format("")),
        "hint: write (CREATE INDEX CONCURRENTLY name ON) …",
        lambda begins: read(f"{ALONE}{begins} a (id)"),
    ),
    # Its number among others
    "two widths": case(
        lambda: plan_migrations([ONE, renamed(TWO, "00002_b.sql")], []),
        r"hint: write every number with (\d+) digits",
        lambda digits: plan_migrations(
            [renamed(ONE, f"{1:0{digits}}_a.sql"), renamed(TWO, f"{2:0{digits}}_b.sql")], []
        ),
    ),
    "one number twice": case(
        lambda: plan_migrations([ONE, TWO, OTHER], []),
        r"hint: renumber one of them to (\d+)",
        lambda to: plan_migrations([ONE, TWO, renamed(OTHER, f"{to}_c.sql")], []),
    ),
    "a gap": case(
        lambda: plan_migrations([ONE, renamed(TWO, "0003_b.sql")], []),
        r"hint: add (\d+), or renumber what follows the gap",
        lambda to: plan_migrations([ONE, read(A, f"{to}_c.sql"), renamed(TWO, "0003_b.sql")], []),
        lambda to: plan_migrations([ONE, renamed(TWO, f"{to}_b.sql")], []),
    ),
    "older than what is applied": case(
        lambda: plan_migrations([EARLY, LATE], [applied(LATE)]),
        r"hint: renumber it to (\d+)",
        lambda to: plan_migrations([renamed(EARLY, f"{to}_a.sql"), LATE], [applied(LATE)]),
    ),
    # What was applied, or begun, and is another file now
    "gone": case(
        lambda: plan_migrations([ONE], [applied(ONE), applied(TWO)]),
        r"hint: bring (\S+) back, as it was",
        lambda name: plan_migrations([ONE, renamed(TWO, name)], [applied(ONE), applied(TWO)]),
    ),
    "renamed": case(
        lambda: plan_migrations([ONE, OTHER], [applied(ONE), applied(TWO)]),
        r"hint: name it (\S+) again",
        lambda name: plan_migrations([ONE, renamed(OTHER, name)], [applied(ONE), applied(TWO)]),
    ),
    "edited": case(
        lambda: plan_migrations([EDITED], [applied(ONE)]),
        r"hint: bring the old text back and put the change into (\d+)_….sql",
        lambda number: plan_migrations([ONE, renamed(TWO, f"{number}_b.sql")], [applied(ONE)]),
    ),
    "begun and gone": case(
        lambda: plan_migrations([], [begun(HALF)]),
        r"hint: bring (\S+) back, so that it can be finished",
        lambda name: plan_migrations([renamed(HALF, name)], [begun(HALF)]),
    ),
    "begun and in a transaction now": case(
        lambda: plan_migrations([ONE], [begun(HALF)]),
        r"hint: bring the header '(.+)' back",
        lambda header: plan_migrations(
            [read(f"{header}\n{TWO_INDEXES.removeprefix(ALONE)}")], [begun(HALF)]
        ),
    ),
    "begun and edited": case(
        lambda: plan_migrations([read(TWO_INDEXES.replace(" x ", " z "))], [begun(HALF)]),
        "hint: bring the old text back there; what follows it may be edited",
        lambda: plan_migrations([HALF], [begun(HALF)]),
        lambda: plan_migrations([read(TWO_INDEXES.replace(" y ", " z "))], [begun(HALF)]),
    ),
    # What it does to those who use the schema
    "an older release still runs": case(
        lambda: refuse_while_older_runs([ONE], [OLDER], NEW),
        "hint: stop what should not run, then start the deployment again",
        lambda: refuse_while_older_runs([ONE], [STOPPED], NEW),
    ),
    "it breaks the running release": case(
        lambda: rehearsed(ONE),
        "hint: write it as (phase=contract), .*; or allow it",
        lambda header: rehearsed(read(f"-- migrate: {header}\n{A}")),
        lambda _: rehearsed(
            read(f'-- migrate: allow=breaking-running-release reason="a report"\n{A}')
        ),
    ),
    "the lint finds an error": case(
        lambda: lint_all([read("UPDATE a SET id = 0")], []),
        "hint: .* in batches",
        lambda: lint_all([read("UPDATE a SET id = 0 WHERE id BETWEEN 1 AND 9")], []),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_refusal_says_is_done_and_the_file_is_taken(name: str) -> None:
    follow(CASES[name])


def sites() -> Iterator[tuple[str, int, int]]:
    """Where a file is refused: the module, and the lines of the statement that does it."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                if name in ("MigrationRefused", "_unknown"):
                    yield str(path), node.lineno, node.end_lineno or node.lineno


def place(error: BaseException) -> tuple[str, int]:
    """Where an error was raised."""
    trace = error.__traceback__
    assert trace
    while trace.tb_next:
        trace = trace.tb_next
    return str(Path(trace.tb_frame.f_code.co_filename)), trace.tb_lineno


def test_each_refusal_has_a_case() -> None:
    """A new one without is found by where it stands."""
    reached = [place(refusal(one)) for one in (CASES | other_tools.CASES).values()]

    lacking = [
        f"{Path(path).relative_to(ROOT)}:{first}"
        for path, first, last in sites()
        if not any(there == path and first <= line <= last for there, line in reached)
    ]
    assert lacking == []
    assert len(list(sites())) > 30


def test_every_error_of_the_package_that_a_person_meets_is_found_here() -> None:
    """No other helper makes one, so that its place would not be seen."""
    made = [
        f"{path.name}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for tree in [ast.parse(path.read_text(encoding="utf-8"))]
        for node in ast.walk(tree)
        if isinstance(node, ast.Return)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "MigrationRefused"
    ]
    assert [one.partition(":")[0] for one in made] == ["header.py"], "_unknown"


def test_the_page_that_a_hint_names_lists_all_that_a_header_may_say() -> None:
    with pytest.raises(MigrationRefused, match=r"hint: (docs/migrations\.md) ") as refused:
        read(f'-- migrate: reason="a"\n{A}')
    page = (ROOT / refused.value.hint.split()[0]).read_text(encoding="utf-8")

    listed = set(
        re.findall(r"[a-z-]+", " ".join(re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)))
    )
    assert {*_FLAGS, *_READERS} <= listed
