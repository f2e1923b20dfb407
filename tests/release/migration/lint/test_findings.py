"""Which statements stop a deployment, which are worth a warning, and what each sentence says."""

import tracemalloc

import pytest

from docs import migrations_lint
from release.errors import MigrationRefused
from release.migration.files import MigrationFile
from release.migration.header import Header, Phase
from release.migration.lint.checks import parsed_statements
from release.migration.lint.findings import Finding, lint, lint_all, refuse_errors
from release.migration.lint.rules import BREAKING, LARGEST_SEED, NEVER_ALLOWED, OWN_RULES, Severity
from release.migration.lint.squawk import SquawkFinding
from release.migration.lint.squawk_rules import LEFT_OUT, SQUAWK_RULES

REASON = "it is empty, PR 812"
EXPAND, CONTRACT = Phase.EXPAND, Phase.CONTRACT


def a_file(
    sql: str, phase: Phase = EXPAND, in_transaction: bool = True, allows: tuple[str, ...] = ()
) -> MigrationFile:
    header = Header(
        phase=phase, in_transaction=in_transaction, allows=frozenset(allows), reason=REASON
    )
    return MigrationFile("0007", "step", sql, "", header)


def rules(sql: str, phase: Phase = EXPAND, in_transaction: bool = True) -> list[str]:
    return [finding.rule for finding in lint(a_file(sql, phase, in_transaction), [])]


def said(rule: str, line: int = 1, column: int = 0, filename: str = "0007_step.sql"):
    return SquawkFinding(filename, line, column, rule, "It is so.", "Do that.")


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


# ── Our own rules, one statement at a time ───────────────────────────────────────────────────────

HITS = [
    ("needs-no-transaction", "CREATE INDEX CONCURRENTLY i ON orders (id)"),
    ("needs-no-transaction", "DROP INDEX CONCURRENTLY i"),
    ("needs-no-transaction", "REINDEX TABLE CONCURRENTLY orders"),
    ("needs-no-transaction", "VACUUM orders"),
    ("needs-no-transaction", "ALTER SYSTEM SET work_mem = '1MB'"),
    ("needs-no-transaction", "ALTER TABLE orders DETACH PARTITION orders_1 CONCURRENTLY"),
    ("do-block", "DO $$ BEGIN EXECUTE 'DROP TABLE ' || 'orders'; END $$"),
    ("setting-lock-timeout", "SET lock_timeout = 0"),
    ("setting-lock-timeout", "SET LOCAL lock_timeout = '1h'"),
    ("setting-lock-timeout", "RESET ALL"),
    ("setting-lock-timeout", "SELECT set_config('lock_timeout', '0', true)"),
    ("setting-statement-timeout", "SET statement_timeout = 0"),
    ("changing-session", "SET ROLE owner"),
    ("changing-session", "SET search_path = audit"),
    ("changing-session", "SET session_replication_role = replica"),
    ("changing-session", "SET standard_conforming_strings = off"),
    ("releasing-runner-lock", "DISCARD ALL"),
    ("releasing-runner-lock", "SELECT pg_advisory_unlock_all()"),
    ("writing-own-record", "INSERT INTO schema_migrations (version) VALUES ('0007')"),
    ("writing-own-record", "INSERT INTO public.schema_migrations VALUES ('0007')"),
    ("lock-table-waits", "LOCK TABLE orders"),
    ("lock-table-waits", "LOCK TABLE orders IN SHARE MODE"),
    ("unbounded-write", "UPDATE orders SET total = 0"),
    ("unbounded-write", "DELETE FROM orders WHERE true"),
    ("unbounded-write", "WITH gone AS (DELETE FROM orders RETURNING id) SELECT * FROM gone"),
    ("truncating-table", "TRUNCATE orders"),
    ("disabling-trigger", "ALTER TABLE orders DISABLE TRIGGER audit"),
    ("disabling-trigger", "ALTER TABLE orders DISABLE TRIGGER ALL"),
    ("adding-serial-column", "ALTER TABLE orders ADD COLUMN number bigserial"),
    ("adding-column-with-check", "ALTER TABLE orders ADD COLUMN total int CHECK (total > 0)"),
    (
        "adding-exclusion-constraint",
        "ALTER TABLE orders ADD CONSTRAINT k EXCLUDE USING gist (span WITH &&)",
    ),
    (
        "changing-generated-column",
        "ALTER TABLE orders ALTER COLUMN total SET EXPRESSION AS (a * 2)",
    ),
    ("moving-table", "ALTER TABLE orders SET UNLOGGED"),
    ("moving-table", "ALTER TABLE orders SET TABLESPACE fast"),
    ("moving-table", "ALTER TABLE ALL IN TABLESPACE slow SET TABLESPACE fast"),
    ("full-vacuum-or-cluster", "CLUSTER orders USING orders_id"),
    ("blocking-refresh", "REFRESH MATERIALIZED VIEW totals"),
    ("attaching-partition", "ALTER TABLE orders ATTACH PARTITION old DEFAULT"),
    ("creating-partition", "CREATE TABLE old PARTITION OF orders DEFAULT"),
    ("dropping-with-cascade", "DROP TABLE orders CASCADE"),
    ("dropping-with-cascade", "ALTER TABLE orders DROP COLUMN total CASCADE"),
    ("unreadable-statement", "ALTER TABLE orders ADD COLUMN IN A NEWER WAY"),
]

NEAR_MISSES = [
    "CREATE TABLE orders (id bigint)",
    "ANALYZE orders",
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN COMMIT; END'",
    "CREATE FUNCTION f() RETURNS void BEGIN ATOMIC DELETE FROM orders; END",
    "SET client_min_messages = warning",
    "SET standard_conforming_strings = on",
    "SELECT set_config('app.user', 'migration', true)",
    "COMMENT ON TABLE orders IS 'SET lock_timeout = 0'",
    "DISCARD PLANS",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT * FROM schema_migrations",
    "INSERT INTO my_schema_migrations VALUES ('0007')",
    "LOCK TABLE orders NOWAIT",
    "LOCK TABLE orders IN ROW EXCLUSIVE MODE",
    "UPDATE orders SET total = 0 WHERE id = 7",
    "ALTER TABLE orders ENABLE TRIGGER audit",
    "ALTER TABLE orders ADD COLUMN number bigint",
    "ALTER TABLE orders ADD CONSTRAINT k CHECK (total > 0) NOT VALID",
    "ALTER TABLE orders ALTER COLUMN total SET STATISTICS 200",
    "ALTER TABLE orders SET (fillfactor = 70)",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY totals",
    "CREATE TABLE orders (at int) PARTITION BY RANGE (at)",
    "DROP TABLE orders",
]


@pytest.mark.parametrize(("rule", "sql"), HITS, ids=[sql[:60] for _, sql in HITS])
def test_a_statement_that_hurts_is_found(rule, sql):
    assert rule in rules(sql + ";")


@pytest.mark.parametrize("sql", NEAR_MISSES)
def test_a_statement_that_looks_alike_is_not(sql):
    assert rules(sql + ";") == []


def test_only_a_contract_file_may_empty_a_table_and_it_is_told_so():
    assert only(lint(a_file("TRUNCATE orders;"), [])).severity is Severity.ERROR
    assert only(lint(a_file("TRUNCATE orders;", CONTRACT), [])).severity is Severity.WARNING


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE orders ADD COLUMN number bigserial",
        "ALTER TABLE orders ADD COLUMN total int CHECK (total > 0)",
        "ALTER TABLE orders SET UNLOGGED",
        "ALTER TABLE orders DISABLE TRIGGER ALL",
        "UPDATE orders SET id = 1",
        "DELETE FROM orders",
        "TRUNCATE orders",
        "LOCK TABLE orders",
        "CLUSTER orders USING orders_id",
        "DROP TABLE orders CASCADE",
        "CREATE TABLE old PARTITION OF orders DEFAULT",
    ],
)
def test_what_the_file_itself_created_is_its_own(sql):
    assert rules(f"CREATE TABLE public.orders (id bigint);\n{sql};") == []


def test_a_new_table_that_takes_an_old_ones_name_is_still_new():
    assert rules("CREATE TABLE a (id int); ALTER TABLE a RENAME TO b; TRUNCATE b;") == []


def test_a_table_of_the_same_name_in_another_schema_is_not_new():
    assert rules("CREATE TABLE audit.orders (id int); TRUNCATE orders;") == ["truncating-table"]


# ── Transactions ─────────────────────────────────────────────────────────────────────────────────

CONCURRENT = "CREATE INDEX CONCURRENTLY i ON orders (id);"


def test_the_header_and_the_statements_agree_on_the_transaction():
    assert rules(CONCURRENT) == ["needs-no-transaction"]
    assert rules(CONCURRENT, in_transaction=False) == []
    assert rules("ALTER TABLE orders ADD x int;", in_transaction=False) == [
        "needless-no-transaction"
    ]


@pytest.mark.parametrize(
    "sql", ["CALL fill_in_batches();", "DO $$ BEGIN COMMIT; END $$;", "CREATE WHAT NOBODY KNOWS;"]
)
def test_what_may_commit_by_itself_needs_the_header(sql):
    assert "needless-no-transaction" not in rules(sql, in_transaction=False)


def test_a_statement_that_could_run_in_a_transaction_is_told_to():
    found = only(lint(a_file(CONCURRENT + "\nALTER TABLE a ADD x int;", EXPAND, False), []))

    assert (found.rule, found.line) == ("mixed-no-transaction", 2)
    assert found.severity is Severity.WARNING


def test_a_do_block_that_commits_cannot_run_in_a_transaction():
    block = "DO $$ BEGIN COMMIT; END $$;"
    quoted = "DO $$ BEGIN RAISE NOTICE 'COMMIT'; /* COMMIT */ END $$;"

    assert rules(block) == ["commit-in-do-block", "do-block"]
    assert rules(block, in_transaction=False) == ["do-block"]
    assert rules(quoted) == ["do-block"]


def test_a_concurrent_index_has_a_name_so_that_its_remains_can_be_found():
    unnamed = "CREATE INDEX CONCURRENTLY ON orders (id);"

    assert rules(unnamed, in_transaction=False) == ["unnamed-concurrent-index"]


@pytest.mark.parametrize(
    ("use", "found"),
    [
        ("UPDATE parcels SET state = 'lost' WHERE id = 1;", True),
        ("ALTER TABLE parcels ALTER state SET DEFAULT 'lost';", True),
        ("UPDATE parcels SET state = 'sent' WHERE id = 1;", False),
        ("ALTER TYPE state ADD VALUE 'found' AFTER 'lost';", False),
    ],
)
def test_a_new_enum_value_is_used_from_the_next_file_on(use, found):
    sql = f"ALTER TYPE state ADD VALUE 'lost';\n{use}"

    assert ("new-enum-value-used" in rules(sql)) is found
    assert "new-enum-value-used" not in rules(sql, in_transaction=False)


# ── Several statements ───────────────────────────────────────────────────────────────────────────

ADD = "ALTER TABLE orders ADD COLUMN paid boolean;\n"


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (ADD + "UPDATE orders SET paid = false WHERE id < 100;", ["writing-some-with-ddl"]),
        ("UPDATE orders SET paid = false WHERE id < 100;" + ADD, ["writing-some-with-ddl"]),
        (ADD + "INSERT INTO archive SELECT * FROM orders;", ["writing-with-ddl"]),
        (ADD + "COPY items FROM '/data/items';", ["writing-with-ddl"]),
        (ADD + "CREATE TABLE archive AS SELECT * FROM orders;", ["writing-with-ddl"]),
        (ADD + "UPDATE orders SET paid = false;", ["unbounded-write", "writing-with-ddl"]),
        (ADD + "INSERT INTO flags VALUES ('paid');", []),
        (ADD + "CREATE TABLE a (x int); INSERT INTO a VALUES (1); UPDATE a SET x = 2;", []),
        ("INSERT INTO archive SELECT * FROM orders;", []),
        ("COMMENT ON TABLE orders IS 'x'; COPY items FROM '/data/items';", []),
    ],
)
def test_rows_are_not_written_while_a_table_is_locked(sql, found):
    assert sorted(rules(sql)) == found


def test_seed_rows_may_stand_beside_a_schema_change_up_to_a_limit():
    seed = "INSERT INTO flags VALUES " + ", ".join(["('x')"] * LARGEST_SEED) + ";\n"

    assert rules(ADD + seed) == []
    assert rules(ADD + seed + "INSERT INTO flags VALUES ('x');") == ["writing-with-ddl"]


def test_a_new_table_is_filled_in_the_next_file_if_its_foreign_keys_lock_another():
    create = "CREATE TABLE owners (id bigint REFERENCES items (id));\n"
    found = only(lint(a_file(create + "INSERT INTO owners SELECT id FROM items;"), []))

    assert (found.rule, found.line) == ("filling-under-foreign-key", 2)
    assert "keep items from being written to" in found.message
    assert rules(create + "INSERT INTO owners VALUES (1);") == []


def test_the_second_table_is_waited_for_while_the_first_is_locked():
    two = "ALTER TABLE orders ADD x int;\nALTER TABLE orders ADD y int;\nALTER TABLE a ADD x int;"
    at_once = "LOCK TABLE orders, a IN ACCESS EXCLUSIVE MODE NOWAIT;\n"

    assert [(f.rule, f.line) for f in lint(a_file(two), [])] == [("several-tables", 3)]
    assert rules(at_once + two) == []
    assert rules("DROP TABLE a; DROP TABLE b;") == []
    assert rules("CREATE TABLE a (x int);" + ADD) == []


# ── squawk's findings ────────────────────────────────────────────────────────────────────────────


def test_what_the_running_release_uses_goes_in_a_contract_file():
    sql, findings = "ALTER TABLE orders DROP COLUMN total;", [said("ban-drop-column")]

    found = only(lint(a_file(sql), findings))

    assert found.severity is Severity.ERROR
    assert "ALTER TABLE orders DROP COLUMN total in a file with" in found.recipe
    assert lint(a_file(sql, CONTRACT), findings) == ()


@pytest.mark.parametrize("rule", sorted(LEFT_OUT))
def test_what_the_runner_does_by_itself_is_left_out(rule):
    assert lint(a_file("ALTER TABLE orders ADD COLUMN x int;"), [said(rule)]) == ()


def test_a_rule_that_squawk_learned_since_is_a_warning_in_its_own_words():
    found = only(lint(a_file("SELECT 1;"), [said("ban-something-new")]))

    assert found.severity is Severity.WARNING
    assert (found.message, found.recipe) == ("SELECT: It is so", "Do that.")


def test_a_finding_belongs_to_the_statement_at_its_line_and_column():
    sql = "CREATE TABLE a (x int); DROP TABLE b;\nDROP TABLE a;"
    findings = [
        said("ban-drop-table", 2, 0),
        said("ban-drop-table", 1, 24),
        said("ban-drop-table", 1, 24, "0008_other.sql"),
    ]

    found = only(lint(a_file(sql), findings))

    assert found.sentence == (
        "0007_step.sql:1: DROP TABLE b: every query of the running release that names b fails "
        "(42P01) [ban-drop-table]"
    )


def test_an_action_is_shown_at_its_own_line():
    sql = "ALTER TABLE orders\n  ADD COLUMN x int,\n  DROP COLUMN y;"

    assert only(lint(a_file(sql), [said("ban-drop-column", 3, 2)])).line == 3


def test_what_is_dropped_and_made_anew_in_one_transaction_was_never_missing():
    sql = (
        "DROP TRIGGER audit ON orders;\n"
        "CREATE TRIGGER audit AFTER INSERT ON orders EXECUTE FUNCTION f();"
    )
    findings = [said("ban-drop-trigger")]

    assert lint(a_file(sql), findings) == ()
    assert rules_of(a_file(sql.replace("CREATE TRIGGER audit", "CREATE TRIGGER b")), findings) == [
        "ban-drop-trigger"
    ]


def rules_of(file: MigrationFile, findings: list[SquawkFinding]) -> list[str]:
    return [finding.rule for finding in lint(file, findings)]


@pytest.mark.parametrize(
    ("rule", "sql", "stays"),
    [
        ("adding-field-with-default", "ADD COLUMN x text DEFAULT lower('A')", False),
        ("adding-field-with-default", "ADD COLUMN x text DEFAULT random()", True),
        ("adding-field-with-default", "ADD COLUMN x int GENERATED ALWAYS AS (1) VIRTUAL", False),
        ("adding-field-with-default", "ADD COLUMN x int GENERATED ALWAYS AS (1) STORED", True),
        ("adding-field-with-default", "ADD COLUMN x int GENERATED ALWAYS AS IDENTITY", True),
        ("constraint-missing-not-valid", "ADD CONSTRAINT k UNIQUE (x)", False),
        ("constraint-missing-not-valid", "ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES a", False),
        ("constraint-missing-not-valid", "ADD CONSTRAINT k CHECK (x > 0)", True),
        ("constraint-missing-not-valid", "VALIDATE CONSTRAINT k", True),
        ("ban-new-write-restriction", "ADD COLUMN x int NOT NULL DEFAULT 0", False),
        ("ban-new-write-restriction", "ADD CONSTRAINT k CHECK (x > 0) NOT VALID", True),
    ],
)
def test_squawk_is_not_believed_where_the_tree_shows_otherwise(rule, sql, stays):
    found = rules_of(a_file(f"ALTER TABLE orders {sql};"), [said(rule)])

    assert found == ([rule] if stays else [])


def test_an_index_is_renamed_unnoticed_and_a_type_is_not():
    findings = [said("renaming-object")]

    assert lint(a_file("ALTER INDEX i RENAME TO j;"), findings) == ()
    assert rules_of(a_file("ALTER TYPE a RENAME TO b;"), findings) == ["renaming-object"]


def test_a_statement_that_squawk_alone_cannot_read_is_a_warning():
    syntax = [said("syntax-error", 1, 30)]
    found = only(lint(a_file("ALTER TABLE orders ADD COLUMN x text COMPRESSION lz4;"), syntax))

    assert (found.rule, found.severity) == ("unread-by-squawk", Severity.WARNING)
    assert rules_of(a_file("ALTER TABEL orders;"), syntax) == ["unreadable-statement"]


# ── allow= ───────────────────────────────────────────────────────────────────────────────────────

HEADER = '-- migrate: allow=truncating-table,do-block reason="it is empty, PR 812"\n'


def test_what_the_header_allows_is_a_warning_with_its_reason():
    file = a_file(HEADER + "TRUNCATE orders;", allows=("truncating-table",))

    found = only(lint(file, []))

    assert found.severity is Severity.WARNING
    assert found.message.endswith("(allowed: it is empty, PR 812)")


def test_a_rule_of_squawk_is_allowed_like_one_of_ours():
    file = a_file("DROP TABLE orders;", allows=("ban-drop-table",))

    found = only(lint(file, [said("ban-drop-table")]))

    assert (found.severity, found.message[-9:]) == (Severity.WARNING, ", PR 812)")


def test_an_allowance_that_nothing_needs_is_a_warning():
    file = a_file("\n" + HEADER + "TRUNCATE orders;", allows=("truncating-table", "do-block"))

    needless = lint(file, [])[0]

    assert (needless.rule, needless.severity, needless.line) == (
        "needless-allow",
        Severity.WARNING,
        2,
    )
    assert needless.message.startswith("allow=do-block: ")


def test_an_unknown_rule_is_an_error_that_names_the_nearest():
    found = only(lint(a_file("SELECT 1;", allows=("ban-dropping-column",)), []))

    assert (found.rule, found.severity) == ("unknown-rule", Severity.ERROR)
    assert found.recipe.startswith("the nearest is ban-drop-column")


def test_nothing_is_ever_allowed_to_wait_without_a_limit():
    file = a_file("SET lock_timeout = 0;", allows=("setting-lock-timeout",))

    assert only(lint(file, [])).severity is Severity.ERROR


# ── What a person reads ──────────────────────────────────────────────────────────────────────────


def test_findings_come_in_the_order_of_the_lines():
    sql = "ALTER TABLE a ADD x int;\nTRUNCATE b;\nUPDATE a SET x = 1;\nSET ROLE c;"

    assert [finding.line for finding in lint(a_file(sql), [])] == [2, 2, 3, 3, 4]


def test_every_error_is_named_and_the_first_recipe_is_the_hint():
    findings = lint(a_file("TRUNCATE a;\n-- then\nDO '';\nDISCARD ALL;"), [])

    with pytest.raises(MigrationRefused) as caught:
        refuse_errors(findings)

    what = caught.value.what
    assert what.startswith("2 errors in the migrations: 0007_step.sql:1: TRUNCATE a: ")
    assert "; 0007_step.sql:4: DISCARD: it releases the advisory lock" in what
    assert "do-block" not in what
    assert caught.value.hint.startswith("delete in batches (DELETE FROM a WHERE")


def test_one_error_stands_for_itself():
    with pytest.raises(MigrationRefused) as caught:
        refuse_errors(lint(a_file("DISCARD ALL;"), []))

    assert caught.value.what.startswith("0007_step.sql:1: DISCARD: ")


def test_warnings_alone_stop_nothing():
    findings = lint(a_file("DO '';"), [])

    assert refuse_errors(findings) == findings
    assert len(findings) == 1


def test_a_password_never_reaches_a_sentence():
    sql = "CREATE SUBSCRIPTION s CONNECTION 'host=db password=hunter2' PUBLICATION p;"

    assert "hunter2" not in "".join(finding.sentence for finding in lint(a_file(sql), []))


def test_a_name_that_is_not_known_is_not_invented():
    sql = "ALTER TABLE orders DROP COLUMN a, DROP COLUMN b;"

    assert "DROP COLUMN the_column" in only(lint(a_file(sql), [said("ban-drop-column")])).recipe


def test_every_rule_has_a_hit_in_these_tests_or_in_those_of_squawk():
    by_header = {"unknown-rule", "needless-allow"}
    of_files = {
        "needless-no-transaction",
        "mixed-no-transaction",
        "commit-in-do-block",
        "new-enum-value-used",
        "several-tables",
        "writing-with-ddl",
        "writing-some-with-ddl",
        "filling-under-foreign-key",
        "unnamed-concurrent-index",
        "unread-by-squawk",
    }

    rehearsed = {BREAKING.name}  # no text shows it: tests/release/test_rehearsal.py
    assert {rule for rule, _ in HITS} | by_header | of_files | rehearsed == set(OWN_RULES)


def test_no_name_means_two_rules():
    assert not OWN_RULES.keys() & SQUAWK_RULES.keys()
    assert not LEFT_OUT.keys() & {*OWN_RULES, *SQUAWK_RULES}
    assert set(OWN_RULES) >= NEVER_ALLOWED


# ── Large files ──────────────────────────────────────────────────────────────────────────────────


def test_a_large_file_is_looked_at_one_statement_at_a_time():
    count = 2_000
    row = "INSERT INTO items VALUES (1, '" + "x" * 400 + "');\n"
    file = a_file(row * count)
    statements = parsed_statements(file)
    next(statements)  # the text is cut into statements once, before the first

    tracemalloc.start()
    assert sum(1 for _ in statements) == count - 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 100 * len(row)


def test_a_statement_that_is_too_large_for_a_tree_is_a_warning_and_a_write():
    values = ", ".join(["('" + "x" * 200 + "')"] * 6_000)
    sql = f"INSERT INTO items VALUES {values};\n"

    assert rules(sql) == ["unreadable-statement"]
    assert sorted(rules(ADD + sql)) == ["unreadable-statement", "writing-with-ddl"]


# ── The page ─────────────────────────────────────────────────────────────────────────────────────


def test_the_page_says_what_the_rules_say():
    """Otherwise: make docs."""
    assert migrations_lint.PAGE.read_text(encoding="utf-8") == migrations_lint.page()


# ── All pending files ────────────────────────────────────────────────────────────────────────────


def test_all_pending_files_are_judged_before_any_is_refused():
    bad = a_file("TRUNCATE orders;")
    worse = MigrationFile("0008", "more", "LOCK TABLE orders;", "", Header())

    with pytest.raises(MigrationRefused) as caught:
        lint_all([bad, worse], [])

    assert "0007_step.sql:1: " in caught.value.what
    assert "0008_more.sql:1: " in caught.value.what


def test_what_is_left_are_warnings_a_sentence_each():
    allowed = a_file("TRUNCATE orders;", allows=("truncating-table",))

    (sentence,) = lint_all([allowed, a_file("SELECT 1;")], [])

    assert sentence.startswith("0007_step.sql:1: TRUNCATE")
