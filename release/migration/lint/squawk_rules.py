"""squawk's rules, each with what it means for traffic and what to write instead, in our words.

An expand file must not take away what the running release uses; a contract file may.
"""

from release.migration.lint.rules import Rule, Severity, catalogue

_CONTRACT = "-- migrate: phase=contract"


def _blocking(name: str, traffic: str, recipe: str) -> Rule:
    """It stops traffic, whichever release is running."""
    return Rule(name, traffic, recipe)


def _breaking(name: str, traffic: str, recipe: str) -> Rule:
    """The running release still uses what is removed; after the watch it no longer runs."""
    return Rule(name, traffic, recipe, contract=None)


def _advice(name: str, traffic: str, recipe: str, contract: Severity | None) -> Rule:
    return Rule(name, traffic, recipe, Severity.WARNING, contract)


def _later(drop: str) -> str:
    return f"stop using it in this release, and {drop} in a file with {_CONTRACT}"


SQUAWK_RULES = catalogue(
    (
        _blocking(
            "adding-field-with-default",
            "every row of {table} is rewritten with its own value; reads and writes wait until the "
            "last one",
            "ALTER TABLE {table} ADD COLUMN {column} … without a default; then ALTER COLUMN "
            "{column} SET DEFAULT …, and fill the old rows in batches from the next file on; for a "
            "generated column a trigger does the same",
        ),
        _blocking(
            "adding-foreign-key-constraint",
            "every row of {table} is read to check it while writes to both tables wait",
            "ALTER TABLE {table} ADD CONSTRAINT {constraint} FOREIGN KEY (…) REFERENCES … NOT "
            "VALID; and ALTER TABLE {table} VALIDATE CONSTRAINT {constraint} in the next file",
        ),
        _blocking(
            "adding-not-nullable-field",
            "every row of {table} is read to check it while reads and writes wait",
            "ALTER TABLE {table} ADD CONSTRAINT {column}_set CHECK ({column} IS NOT NULL) NOT "
            "VALID; in the next file VALIDATE CONSTRAINT {column}_set, then ALTER COLUMN {column} "
            "SET NOT NULL, which then reads nothing; the CHECK may stay",
        ),
        _blocking(
            "adding-required-field",
            "it fails as soon as {table} has a row, and the running release's INSERTs do not know "
            "the column",
            "ALTER TABLE {table} ADD COLUMN {column} … NOT NULL DEFAULT a constant; or nullable "
            "now, then filled in batches, and NOT NULL later",
        ),
        _blocking(
            "adding-serial-primary-key-field",
            "a unique index over every row of {table} is built while reads and writes wait",
            "CREATE UNIQUE INDEX CONCURRENTLY {table}_key ON {table} (…) in a file with -- "
            "migrate: no-transaction; then ALTER TABLE {table} ADD CONSTRAINT {constraint} PRIMARY "
            "KEY USING INDEX {table}_key",
        ),
        _blocking(
            "ban-alter-domain-with-add-constraint",
            "every table with a column of {table} is read to check it while its writes wait",
            "ALTER DOMAIN {table} ADD CONSTRAINT {constraint} CHECK (…) NOT VALID; and ALTER "
            "DOMAIN {table} VALIDATE CONSTRAINT {constraint} in the next file",
        ),
        _blocking(
            "ban-drop-database",
            "every session on it is refused, and all its data is gone",
            "leave it out; drop a database by hand, outside a deployment",
        ),
        _blocking(
            "ban-truncate-cascade",
            "{table} and every table that refers to it are emptied, and block traffic meanwhile",
            "DELETE FROM {table} … in batches, table by table",
        ),
        _blocking(
            "changing-column-type",
            "every row of {table} is rewritten, or its indexes are, while reads and writes wait; "
            "the running release reads a type that it does not expect",
            "add a column of the new type, write both, fill the old rows in batches, and drop "
            f"{{column}} in a file with {_CONTRACT}; a varchar that only grows may be allowed",
        ),
        _blocking(
            "constraint-missing-not-valid",
            "every row of {table} is read to check it while reads and writes wait",
            "ALTER TABLE {table} ADD CONSTRAINT {constraint} … NOT VALID; and ALTER TABLE {table} "
            "VALIDATE CONSTRAINT {constraint} in the next file",
        ),
        _blocking(
            "disallowed-unique-constraint",
            "a unique index over every row of {table} is built while reads and writes wait",
            "CREATE UNIQUE INDEX CONCURRENTLY {table}_key ON {table} (…) in a file with -- "
            "migrate: no-transaction; then ALTER TABLE {table} ADD CONSTRAINT {constraint} UNIQUE "
            "USING INDEX {table}_key",
        ),
        _blocking(
            "require-concurrent-index-creation",
            "writes to {table} wait until the index is built",
            "CREATE [UNIQUE] INDEX CONCURRENTLY {index} ON {table} … in a file of its own that "
            "begins with -- migrate: no-transaction",
        ),
        _blocking(
            "require-concurrent-reindex",
            "writes to {table}, and reads that would use the index, wait until it is built",
            "REINDEX (CONCURRENTLY) … in a file with -- migrate: no-transaction",
        ),
        _breaking(
            "ban-alter-identity",
            "INSERTs of the running release get a different value, or are refused",
            _later("change the identity of {column}"),
        ),
        _breaking(
            "ban-alter-row-level-security",
            "the running release sees different rows, or none",
            f"create the policies first, and change this in a file with {_CONTRACT}",
        ),
        _breaking(
            "ban-detach-inheritance",
            "the running release no longer finds the rows in {table}",
            _later("detach it"),
        ),
        _breaking(
            "ban-drop-column",
            "every query of the running release that names the column fails (42703)",
            _later("ALTER TABLE {table} DROP COLUMN {column}"),
        ),
        _breaking(
            "ban-drop-constraint",
            "ON CONFLICT of the running release fails without its unique constraint (42P10), and "
            "data that the constraint kept out gets in",
            _later("ALTER TABLE {table} DROP CONSTRAINT {constraint}"),
        ),
        _breaking(
            "ban-drop-default",
            "INSERTs of the running release that leave {column} out write NULL, or fail (23502)",
            _later("ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT"),
        ),
        _breaking(
            "ban-drop-domain",
            "queries of the running release that name it fail (42704)",
            _later("DROP DOMAIN {table}"),
        ),
        _breaking(
            "ban-drop-extension",
            "queries of the running release that use its functions, types or operators fail",
            _later("drop it"),
        ),
        _breaking(
            "ban-drop-function",
            "queries of the running release that call it fail (42883)",
            _later("drop it"),
        ),
        _breaking(
            "ban-drop-generated-expression",
            "rows that the running release writes no longer have a {column}",
            _later("ALTER TABLE {table} ALTER COLUMN {column} DROP EXPRESSION"),
        ),
        _breaking(
            "ban-drop-policy",
            "the running release sees different rows, or none",
            _later("drop it"),
        ),
        _breaking(
            "ban-drop-schema",
            "queries of the running release that name it fail (3F000, 42P01)",
            _later("drop it"),
        ),
        _breaking(
            "ban-drop-sequence",
            "INSERTs of the running release that take a number from it fail (42P01)",
            _later("DROP SEQUENCE {table}"),
        ),
        _breaking(
            "ban-drop-table",
            "every query of the running release that names {table} fails (42P01)",
            _later("DROP TABLE {table}"),
        ),
        _breaking(
            "ban-drop-trigger",
            "what the running release writes to {table} is no longer checked, copied or counted",
            _later("drop it"),
        ),
        _breaking(
            "ban-drop-type",
            "queries of the running release that name it fail (42704)",
            _later("drop it"),
        ),
        _breaking(
            "ban-drop-view",
            "every query of the running release that names {table} fails (42P01)",
            _later("drop it"),
        ),
        _breaking(
            "ban-revoke",
            "queries of the running release are refused (42501)",
            _later("revoke the privilege"),
        ),
        _breaking(
            "ban-set-schema",
            "queries of the running release that name {table} fail (42P01)",
            "create it in the new schema and leave a view with the old name; drop the view in a "
            f"file with {_CONTRACT}",
        ),
        _breaking(
            "renaming-column",
            "every query of the running release that names the old column fails (42703)",
            "add a column with the new name, write both, fill the old rows in batches, and drop "
            f"the old one in a file with {_CONTRACT}",
        ),
        _breaking(
            "renaming-object",
            "queries of the running release that use the old name fail",
            f"create it with the new name beside the old one, and drop that in a file with "
            f"{_CONTRACT}",
        ),
        _breaking(
            "renaming-table",
            "every query of the running release that names {table} fails (42P01)",
            "rename it and CREATE VIEW {table} in the same file, with allow= and the view as its "
            f"reason; drop the view in a file with {_CONTRACT}",
        ),
        _advice(
            "ban-alter-sequence-values",
            "numbers may repeat, and INSERTs of the running release fail on them (23505)",
            "only ever move a sequence forward, past the largest number in use",
            Severity.WARNING,
        ),
        _advice(
            "ban-drop-index",
            "queries of the running release that use the index read the whole table instead, and "
            "ON CONFLICT fails without a unique one (42P10)",
            f"look at pg_stat_user_indexes first, or drop it in a file with {_CONTRACT}",
            None,
        ),
        _advice(
            "ban-drop-not-null",
            "the running release may read NULL where it never did before",
            "let only the next release write NULL",
            None,
        ),
        _advice(
            "ban-new-write-restriction",
            "writes of the running release that break the new rule are refused, old rows or not",
            "make sure that the running release already complies; if not, add it in a file with "
            f"{_CONTRACT}",
            None,
        ),
        _advice(
            "identifier-too-long",
            "PostgreSQL cuts a name after 63 bytes, so nobody finds it by the name written here",
            "write a name of at most 63 bytes",
            Severity.WARNING,
        ),
        _advice(
            "require-concurrent-index-deletion",
            "reads and writes of the table wait while this waits for its lock, up to the lock "
            "timeout",
            "DROP INDEX CONCURRENTLY {table} in a file with -- migrate: no-transaction",
            Severity.WARNING,
        ),
        _advice(
            "require-concurrent-partition-detach",
            "reads and writes of {table} wait while this waits for its lock, up to the lock "
            "timeout",
            "ALTER TABLE {table} DETACH PARTITION … CONCURRENTLY in a file with -- migrate: "
            "no-transaction",
            Severity.WARNING,
        ),
    )
)

# Why each of these does not matter here.
LEFT_OUT = {
    "require-lock-timeout": "the runner sets the limits",
    "require-statement-timeout": "the runner sets the limits",
    "require-timeout-settings": "the runner sets the limits",
    "prefer-robust-stmts": "a file is undone as a whole, or resumed at its statement",
    "transaction-nesting": "refused when the file is read",
    "ban-uncommitted-transaction": "refused when the file is read",
    "ban-concurrent-index-creation-in-transaction": "covered by needs-no-transaction",
    "ban-disable-trigger": "covered by disabling-trigger, which allows enabling one",
    "ban-alter-generated-expression": "covered by changing-generated-column",
    "ban-alter-system-options": "covered by needs-no-transaction",
    "ban-duplicate-column-assignments": "the server refuses it",
    "ban-create-domain-with-constraint": "nothing uses a new domain yet",
    "ban-add-column": "the running release ignores what it does not know",
    "ban-add-composite-attribute": "the running release ignores what it does not know",
    "ban-add-enum-value": "the running release ignores what it does not know",
    "ban-set-default": "the running release ignores what it does not know",
    "ban-create-policy": "it does nothing before row level security is on",
    "ban-alter-policy-condition": "a matter of privileges, not of traffic",
    "ban-alter-policy-roles": "a matter of privileges, not of traffic",
    "ban-alter-role-options": "a matter of privileges, not of traffic",
    "ban-alter-database-options": "a matter of settings, not of traffic",
    "ban-alter-function-options": "a matter of settings, not of traffic",
    "ban-alter-view-options": "a matter of settings, not of traffic",
    "ban-alter-extension": "a matter of settings, not of traffic",
    "ban-replace-view-function": "the new text serves both releases, or the rehearsal says so",
    "ban-replica-identity": "a matter of replication, not of traffic",
    "ban-char-field": "a matter of style",
    "prefer-bigint-over-int": "a matter of style",
    "prefer-bigint-over-smallint": "a matter of style",
    "prefer-identity": "a matter of style",
    "prefer-repack": "covered by full-vacuum-or-cluster",
    "prefer-text-field": "a matter of style",
    "prefer-timestamp-tz": "a matter of style",
    "prefer-timestamptz": "a matter of style",
    "require-enum-value-ordering": "a matter of style",
    "require-table-schema": "a matter of style",
    "unused-ignore": "squawk-ignore comments do not count here",
}
