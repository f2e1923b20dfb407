"""What the lint says to write instead is written, and linted again: by us, and by squawk.

Each case is a file that breaks a rule, and the files that its recipe asks for. They are read,
linted and judged as a deployment's are.
"""

import re
from collections.abc import Iterable
from functools import cache

import pytest

from blocks.linter import run_squawk
from release.migration.files import MigrationFile, read_migration
from release.migration.lint.findings import Finding, lint
from release.migration.lint.rules import BREAKING, OWN_RULES, Severity
from release.migration.lint.squawk_rules import SQUAWK_RULES

ALONE = "-- migrate: no-transaction\n"
TWICE = "-- migrate: no-transaction idempotent\n"  # it may run twice
LATER = "-- migrate: phase=contract\n"
ADD = "ALTER TABLE orders ADD"
ALTER = "ALTER TABLE orders ALTER COLUMN total"
NEW_TABLE = "CREATE TABLE refunds (id bigint PRIMARY KEY, order_id bigint REFERENCES orders)"
FILL_REFUNDS = "INSERT INTO refunds SELECT id, id FROM orders WHERE id BETWEEN 1 AND 10000"
BATCH = "UPDATE orders SET total = 0 WHERE id BETWEEN 1 AND 10000"
A_TYPE = "ALTER TYPE state ADD VALUE 'paid'"


def later(statement: str) -> tuple[str, ...]:
    """What is taken away from the running release: the same, once that is gone."""
    return statement, LATER + statement


# The file that breaks the rule, then what its recipe says to write, in one file or several.
RECIPES: dict[str, tuple[str, ...]] = {
    # Our own: transactions
    "needs-no-transaction": ("VACUUM orders", f"{ALONE}VACUUM orders"),
    "needless-no-transaction": (f"{TWICE}{ADD} COLUMN note text", f"{ADD} COLUMN note text"),
    "mixed-no-transaction": (
        f"{TWICE}{ADD} COLUMN note text;\nVACUUM orders",
        f"{ADD} COLUMN note text",
        f"{ALONE}VACUUM orders",
    ),
    "commit-in-do-block": (
        "DO $$ BEGIN COMMIT; END $$",
        f"{TWICE}DO $$ BEGIN COMMIT; END $$",
    ),
    "do-block": (f"DO $$ BEGIN EXECUTE '{BATCH}'; END $$", BATCH),
    "new-enum-value-used": (
        f"{A_TYPE};\nUPDATE orders SET state = 'paid' WHERE id = 1",
        A_TYPE,
        "UPDATE orders SET state = 'paid' WHERE id = 1",
    ),
    # … the session
    "setting-lock-timeout": (f"SET lock_timeout = 0;\n{BATCH}", BATCH),
    "setting-statement-timeout": (f"SET statement_timeout = 0;\n{BATCH}", BATCH),
    "changing-session": (
        "SET search_path = audit;\nCREATE TABLE log (id bigint)",
        "CREATE TABLE audit.log (id bigint)",
    ),
    "releasing-runner-lock": (
        "SELECT pg_advisory_unlock_all()",
        "SELECT pg_advisory_xact_lock(7)",
    ),
    "writing-own-record": (
        f"{BATCH};\nINSERT INTO schema_migrations (version) VALUES ('0007')",
        BATCH,
    ),
    # … locks
    "lock-table-waits": ("LOCK TABLE orders", "LOCK TABLE orders IN SHARE MODE NOWAIT"),
    "several-tables": (
        f"{ADD} COLUMN note text;\nALTER TABLE items ADD COLUMN note text",
        f"{ADD} COLUMN note text",
        "ALTER TABLE items ADD COLUMN note text",
    ),
    "writing-with-ddl": (
        f"{ADD} COLUMN paid bool;\nUPDATE items SET note = ''",
        f"{ADD} COLUMN paid bool",
        "UPDATE items SET note = '' WHERE id BETWEEN 1 AND 10000",
    ),
    "writing-some-with-ddl": (
        f"{ADD} COLUMN paid bool;\n{BATCH}",
        f"{ADD} COLUMN paid bool",
        BATCH,
    ),
    "filling-under-foreign-key": (f"{NEW_TABLE};\n{FILL_REFUNDS}", NEW_TABLE, FILL_REFUNDS),
    "unbounded-write": ("UPDATE orders SET total = 0", BATCH),
    "truncating-table": ("TRUNCATE orders", "DELETE FROM orders WHERE id BETWEEN 1 AND 10000"),
    "disabling-trigger": (
        f"ALTER TABLE orders DISABLE TRIGGER audit;\n{BATCH}",
        "CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RETURN NULL; END $$",
        BATCH,
    ),
    # … rewrites
    "adding-serial-column": (
        f"{ADD} COLUMN number bigserial",
        f"{ADD} COLUMN number bigint",
        "CREATE SEQUENCE orders_number",
        "ALTER TABLE orders ALTER COLUMN number SET DEFAULT nextval('orders_number')",
        "UPDATE orders SET number = nextval('orders_number') WHERE id BETWEEN 1 AND 10000",
    ),
    "adding-column-with-check": (
        f"{ADD} COLUMN paid int CHECK (paid > 0)",
        f"{ADD} COLUMN paid int;\n{ADD} CONSTRAINT paid_check CHECK (paid > 0) NOT VALID",
        "ALTER TABLE orders VALIDATE CONSTRAINT paid_check",
    ),
    "adding-exclusion-constraint": (
        f"{ADD} CONSTRAINT apart EXCLUDE USING gist (span WITH &&)",
        "CREATE TABLE orders_2 (id bigint, span tsrange,"
        " CONSTRAINT apart EXCLUDE USING gist (span WITH &&))",
    ),
    "changing-generated-column": (
        f"{ALTER} SET EXPRESSION AS (price * 2)",
        f"{ADD} COLUMN total_2 bigint;\n"
        "CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON orders"
        " FOR EACH ROW EXECUTE FUNCTION fill_total_2()",
        "UPDATE orders SET total_2 = price * 2 WHERE id BETWEEN 1 AND 10000",
        f"{LATER}ALTER TABLE orders DROP COLUMN total",
    ),
    "moving-table": (
        "ALTER TABLE orders SET TABLESPACE fast",
        "CREATE TABLE orders_2 (id bigint) TABLESPACE fast",
        "INSERT INTO orders_2 SELECT id FROM orders WHERE id BETWEEN 1 AND 10000",
    ),
    "full-vacuum-or-cluster": (
        f"{ALONE}VACUUM FULL orders",
        f"{ALONE}VACUUM (ANALYZE) orders",
    ),
    "blocking-refresh": (
        "REFRESH MATERIALIZED VIEW sums",
        f"{ALONE}CREATE UNIQUE INDEX CONCURRENTLY sums_id ON sums (id)",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY sums",
    ),
    "attaching-partition": (
        "ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (1) TO (9)",
        "ALTER TABLE events_1 ADD CONSTRAINT bounds CHECK (id >= 1 AND id < 9) NOT VALID",
        "ALTER TABLE events_1 VALIDATE CONSTRAINT bounds",
    ),
    "creating-partition": (
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (9)",
        "CREATE TABLE events_1 (LIKE events INCLUDING ALL);\n"
        "ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (1) TO (9)",
    ),
    # … and the rest
    "unnamed-concurrent-index": (
        "CREATE INDEX CONCURRENTLY ON orders (total)",
        f"{ALONE}CREATE INDEX CONCURRENTLY orders_total_idx ON orders (total)",
    ),
    "dropping-with-cascade": (
        f"{LATER}DROP TABLE orders CASCADE",
        f"{LATER}DROP VIEW sums;\nDROP TABLE orders",
    ),
    "unreadable-statement": ("ALTER TABEL orders", f"{ADD} COLUMN note text"),
    "unknown-rule": (
        '-- migrate: allow=ban-drop-colum reason="unused"\nSELECT 1',
        "SELECT 1",
    ),
    "needless-allow": (
        '-- migrate: allow=ban-drop-column reason="unused"\nSELECT 1',
        "SELECT 1",
    ),
    # squawk's: traffic stops
    "adding-field-with-default": (
        f"{ADD} COLUMN code uuid DEFAULT gen_random_uuid()",
        f"{ADD} COLUMN code uuid",
        "ALTER TABLE orders ALTER COLUMN code SET DEFAULT gen_random_uuid()",
        "UPDATE orders SET code = gen_random_uuid() WHERE id BETWEEN 1 AND 10000",
    ),
    "adding-foreign-key-constraint": (
        f"{ADD} CONSTRAINT of_a_user FOREIGN KEY (user_id) REFERENCES users (id)",
        f"{ADD} CONSTRAINT of_a_user FOREIGN KEY (user_id) REFERENCES users (id) NOT VALID",
        "ALTER TABLE orders VALIDATE CONSTRAINT of_a_user",
    ),
    "adding-not-nullable-field": (
        f"{ALTER} SET NOT NULL",
        f"{ADD} CONSTRAINT total_set CHECK (total IS NOT NULL) NOT VALID",
        "ALTER TABLE orders VALIDATE CONSTRAINT total_set;\n" + f"{ALTER} SET NOT NULL",
    ),
    "adding-required-field": (
        f"{ADD} COLUMN paid bool NOT NULL",
        f"{ADD} COLUMN paid bool NOT NULL DEFAULT false",
    ),
    "adding-serial-primary-key-field": (
        f"{ADD} CONSTRAINT orders_pk PRIMARY KEY (id)",
        f"{ALONE}CREATE UNIQUE INDEX CONCURRENTLY orders_key ON orders (id)",
        f"{ADD} CONSTRAINT orders_pk PRIMARY KEY USING INDEX orders_key",
    ),
    "ban-alter-domain-with-add-constraint": (
        "ALTER DOMAIN money ADD CONSTRAINT positive CHECK (VALUE > 0)",
        "ALTER DOMAIN money ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID",
        "ALTER DOMAIN money VALIDATE CONSTRAINT positive",
    ),
    "ban-drop-database": ("DROP DATABASE old", "SELECT 1"),
    "ban-truncate-cascade": (
        "TRUNCATE orders CASCADE",
        "DELETE FROM orders WHERE id BETWEEN 1 AND 10000",
    ),
    "changing-column-type": (
        f"{ALTER} TYPE numeric",
        f"{ADD} COLUMN total_2 numeric",
        "UPDATE orders SET total_2 = total WHERE id BETWEEN 1 AND 10000",
        f"{LATER}ALTER TABLE orders DROP COLUMN total",
    ),
    "constraint-missing-not-valid": (
        f"{ADD} CONSTRAINT positive CHECK (total > 0)",
        f"{ADD} CONSTRAINT positive CHECK (total > 0) NOT VALID",
        "ALTER TABLE orders VALIDATE CONSTRAINT positive",
    ),
    "disallowed-unique-constraint": (
        f"{ADD} CONSTRAINT once UNIQUE (total)",
        f"{ALONE}CREATE UNIQUE INDEX CONCURRENTLY orders_key ON orders (total)",
        f"{ADD} CONSTRAINT once UNIQUE USING INDEX orders_key",
    ),
    "require-concurrent-index-creation": (
        "CREATE UNIQUE INDEX orders_total ON orders (total)",
        f"{ALONE}CREATE UNIQUE INDEX CONCURRENTLY orders_total ON orders (total)",
    ),
    "require-concurrent-reindex": (
        "REINDEX TABLE orders",
        f"{ALONE}REINDEX (CONCURRENTLY) TABLE orders",
    ),
    # … something that the running release uses is gone
    "ban-alter-identity": later("ALTER TABLE orders ALTER COLUMN id SET GENERATED ALWAYS"),
    "ban-alter-row-level-security": (
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON orders USING (true)",
        f"{LATER}ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
    ),
    "ban-detach-inheritance": later("ALTER TABLE orders NO INHERIT things"),
    "ban-drop-column": later("ALTER TABLE orders DROP COLUMN total"),
    "ban-drop-constraint": later("ALTER TABLE orders DROP CONSTRAINT once"),
    "ban-drop-default": later(f"{ALTER} DROP DEFAULT"),
    "ban-drop-domain": later("DROP DOMAIN money"),
    "ban-drop-extension": later("DROP EXTENSION pg_trgm"),
    "ban-drop-function": later("DROP FUNCTION total_of(bigint)"),
    "ban-drop-generated-expression": later(f"{ALTER} DROP EXPRESSION"),
    "ban-drop-policy": later("DROP POLICY own ON orders"),
    "ban-drop-schema": later("DROP SCHEMA audit"),
    "ban-drop-sequence": later("DROP SEQUENCE orders_number"),
    "ban-drop-table": later("DROP TABLE orders"),
    "ban-drop-trigger": later("DROP TRIGGER audit ON orders"),
    "ban-drop-type": later("DROP TYPE state"),
    "ban-drop-view": later("DROP VIEW sums"),
    "ban-revoke": later("REVOKE SELECT ON orders FROM reports"),
    "ban-set-schema": (
        "ALTER TABLE orders SET SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint)",
        f"{LATER}DROP TABLE orders;\nCREATE VIEW orders AS SELECT id FROM shop.orders",
        f"{LATER}DROP VIEW orders",
    ),
    "renaming-column": (
        "ALTER TABLE orders RENAME COLUMN total TO sum",
        f"{ADD} COLUMN sum bigint",
        "UPDATE orders SET sum = total WHERE id BETWEEN 1 AND 10000",
        f"{LATER}ALTER TABLE orders DROP COLUMN total",
    ),
    "renaming-object": (
        "ALTER TYPE state RENAME TO order_state",
        "CREATE TYPE order_state AS ENUM ('new')",
        f"{LATER}DROP TYPE state",
    ),
    "renaming-table": (
        "ALTER TABLE orders RENAME TO sales",
        '-- migrate: allow=renaming-table reason="a view has the old name"\n'
        "ALTER TABLE orders RENAME TO sales;\nCREATE VIEW orders AS SELECT id FROM sales",
        f"{LATER}DROP VIEW orders",
    ),
    # … and advice
    "ban-alter-sequence-values": (
        "ALTER SEQUENCE orders_number RESTART WITH 1",
        "SELECT setval('orders_number', greatest(nextval('orders_number'), 1000))",
    ),
    "ban-drop-index": (
        f"{ALONE}DROP INDEX CONCURRENTLY orders_total",
        f"{LATER}{ALONE}DROP INDEX CONCURRENTLY orders_total",
    ),
    "ban-drop-not-null": later(f"{ALTER} DROP NOT NULL"),
    "ban-new-write-restriction": later(
        f"{ADD} CONSTRAINT positive CHECK (total > 0) NOT VALID",
    ),
    "identifier-too-long": (
        f"CREATE TABLE {'t' * 64} (id bigint)",
        f"CREATE TABLE {'t' * 63} (id bigint)",
    ),
    "require-concurrent-index-deletion": (
        f"{LATER}DROP INDEX orders_total",
        f"{LATER}{ALONE}DROP INDEX CONCURRENTLY orders_total",
    ),
    "require-concurrent-partition-detach": (
        f"{LATER}ALTER TABLE events DETACH PARTITION events_1",
        f"{LATER}{ALONE}ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY",
    ),
}

ELSEWHERE = {
    BREAKING.name: "found by a rehearsal; tests/tasks/test_rehearsal.py",
    "unread-by-squawk": "compares by hand: what our rules find is all there is",
}


@cache
def findings() -> dict[str, list[tuple[Finding, ...]]]:
    """What is found in each file of each case; squawk runs once over all."""
    files: dict[str, list[MigrationFile]] = {}
    for number, (rule, texts) in enumerate(RECIPES.items()):
        named = ((f"{number:03}{place}_step.sql", f"{text};\n") for place, text in enumerate(texts))
        files[rule] = [read_migration(name, text.encode()) for name, text in named]
    said = run_squawk([file for case in files.values() for file in case], 150_000)
    return {rule: [lint(file, said) for file in case] for rule, case in files.items()}


def names(found: Iterable[Finding]) -> list[str]:
    return [finding.rule for finding in found]


def test_every_rule_has_a_case() -> None:
    assert {*RECIPES, *ELSEWHERE} == {*OWN_RULES, *SQUAWK_RULES}


@pytest.mark.parametrize("rule", RECIPES)
def test_what_a_recipe_says_to_write_is_not_complained_of(rule: str) -> None:
    broken, *instead = findings()[rule]
    assert rule in names(broken)

    for found in instead:
        assert [one for one in found if one.severity is Severity.ERROR] == []
        assert rule not in names(found) or _allowed(found, rule), found


@pytest.mark.parametrize("rule", RECIPES)
def test_the_sql_of_a_recipe_is_what_was_written(rule: str) -> None:
    """So that a recipe that is edited is tried again."""
    recipe = next(one.recipe for one in findings()[rule][0] if one.rule == rule)
    written = " ".join(RECIPES[rule][1:])

    told = set(re.findall(r"\b[A-Z]{2,}\b", recipe.replace("[UNIQUE]", "")))
    assert told - ANOTHER_WAY.get(rule, set()) <= set(re.findall(r"\b[A-Z]{2,}\b", written))


# Words of a second way, which is another rule's own recipe, or that describe what was written.
ANOTHER_WAY = {
    "do-block": {"SQL"},
    "setting-statement-timeout": {"NOT", "VALID", "CONCURRENTLY"},
    "disabling-trigger": {"WHEN"},
    "dropping-with-cascade": {"CASCADE"},  # what is left out
}


def _allowed(found: Iterable[Finding], rule: str) -> bool:
    return all("(allowed: " in one.message for one in found if one.rule == rule)
