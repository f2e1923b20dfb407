"""Our own rules for migrations: what each one means for traffic, and what to write instead.

They are about what squawk does not see (release/migration/lint/squawk.py has its rules). A text
may hold ``{table}``, ``{column}``, ``{constraint}`` and ``{index}``, which a finding fills in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from release.migration.header import Phase

# 100,000 INSERTs of one row took 2.9 s, so this many hold a lock for about 30 ms.
LARGEST_SEED = 1_000  # rows


class Severity(StrEnum):
    """Whether a finding stops the deployment."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, as a person reads it and as it is judged."""

    name: str
    traffic: str  # what happens to traffic, continuing "ALTER TABLE orders: "
    recipe: str  # what to write instead
    expand: Severity | None = Severity.ERROR  # None: fine in an expand file
    contract: Severity | None = Severity.ERROR  # None: fine in a contract file

    def severity(self, phase: Phase) -> Severity | None:
        """How severe a finding of this rule is in a file of this phase; None if it is not a
        finding."""
        return self.expand if phase is Phase.EXPAND else self.contract


def catalogue(rules: Iterable[Rule]) -> Mapping[str, Rule]:
    """The rules by their names."""
    return {rule.name: rule for rule in rules}


def _warning(name: str, traffic: str, recipe: str) -> Rule:
    return Rule(name, traffic, recipe, Severity.WARNING, Severity.WARNING)


_TRANSACTIONS = (
    Rule(
        "needs-no-transaction",
        "PostgreSQL refuses it inside a transaction (25001), and this file runs in one; nothing "
        "changes and the deployment stops",
        "move it to a file of its own that begins with -- migrate: no-transaction",
    ),
    Rule(
        "needless-no-transaction",
        "nothing here has to run outside a transaction, and a failure halfway leaves the "
        "running release on half of the file",
        "remove -- migrate: no-transaction",
    ),
    _warning(
        "mixed-no-transaction",
        "it commits by itself here; if a later statement fails, the running release meets half "
        "of the file",
        "move it to a file without -- migrate: no-transaction",
    ),
    Rule(
        "commit-in-do-block",
        "PostgreSQL refuses COMMIT and ROLLBACK of a DO block inside a transaction (2D000), and "
        "this file runs in one; nothing changes and the deployment stops",
        "remove it; a loop that commits its batches, and may run twice, goes into a file of its "
        "own that begins with -- migrate: no-transaction idempotent",
    ),
    _warning(
        "do-block",
        "the statements it runs cannot be seen from outside, so their locks were not judged",
        "write its statements out as plain SQL; if that is impossible, rehearse the file on a copy "
        "and read which locks it took",
    ),
    Rule(
        "new-enum-value-used",
        "PostgreSQL refuses to use an enum value in the transaction that adds it (55P04); nothing "
        "changes and the deployment stops",
        "leave ALTER TYPE … ADD VALUE in this file and use the value from the next one on",
    ),
)

_SESSION = (
    Rule(
        "setting-lock-timeout",
        "while this file waits for a lock, everything behind it waits too; only the runner's limit "
        "keeps that short, and this changes it",
        "remove it: the runner sets lock_timeout and tries again; this rule cannot be allowed",
    ),
    Rule(
        "setting-statement-timeout",
        "the runner's limit ends a statement that would hold its locks for too long, and this "
        "changes it",
        "remove it: the runner sets the limits; make the statement shorter (batches, NOT VALID, "
        "CONCURRENTLY)",
    ),
    Rule(
        "changing-session",
        "names, privileges, triggers or foreign keys mean something else for the rest of the file, "
        "so it does not do what it says",
        "remove it; write schema names out, let the migration's role own the objects, and leave "
        "triggers on",
    ),
    Rule(
        "releasing-runner-lock",
        "it releases the advisory lock that keeps a second deployment from migrating at the same "
        "time",
        "remove it; pg_advisory_xact_lock(…) is released automatically at the end of the file",
    ),
    Rule(
        "writing-own-record",
        "the runner writes the record of this file in the same transaction; a second one makes "
        "the file fail or hides another",
        "remove it: the runner records the file",
    ),
)

_LOCKS = (
    Rule(
        "lock-table-waits",
        "while it waits for {table}, every read and write behind it waits too, and then until the "
        "file ends",
        "LOCK TABLE {table} … NOWAIT as the first statement; the runner tries again",
    ),
    _warning(
        "several-tables",
        "the lock on the first table is held while this waits for {table}, so traffic stalls for "
        "up to one lock timeout per table",
        "put ALTER TABLE {table} into a file of its own",
    ),
    Rule(
        "writing-with-ddl",
        "a lock that this file takes on an existing table is held until the last row is written; "
        "reads and writes of that table stand still (2.6 s for 100,000 rows)",
        "leave the schema change in this file and write the rows in the next one, in batches",
    ),
    _warning(
        "writing-some-with-ddl",
        "a lock that this file takes on an existing table is held until these rows are written; "
        "reads and writes of that table stand still meanwhile",
        "write the rows in the next file, unless its WHERE can only find a few",
    ),
    _warning(
        "filling-under-foreign-key",
        "the new table's foreign keys keep {table} from being written to until the last row is "
        "filled in",
        "create the table in this file and fill it in the next one",
    ),
    Rule(
        "unbounded-write",
        "it locks every row of {table} until the end of the file; every other write to one of them "
        "waits as long",
        "write in batches by key, each in a transaction of its own: … WHERE id BETWEEN 1 AND "
        "10000; a small table may allow it with a reason",
    ),
    Rule(
        "truncating-table",
        "reads and writes of {table} wait until the end of the file, and then its rows are gone "
        "for the running release",
        "delete in batches (DELETE FROM {table} WHERE id BETWEEN 1 AND 10000), or drop the table "
        "in a file with -- migrate: phase=contract",
        contract=Severity.WARNING,
    ),
    Rule(
        "disabling-trigger",
        "writes to {table} wait until the end of the file, and what is written while a trigger is "
        "off misses its checks, its foreign keys or its audit",
        "leave it on; if the trigger must not see the backfill, let its WHEN clause or its "
        "function skip those rows",
    ),
)

_REWRITES = (
    Rule(
        "adding-serial-column",
        "every row of {table} is rewritten with a number of its own; reads and writes wait until "
        "the last one",
        "ALTER TABLE {table} ADD COLUMN {column} bigint; in later files CREATE SEQUENCE, SET "
        "DEFAULT nextval(…), and fill the old rows in batches",
    ),
    Rule(
        "adding-column-with-check",
        "every row of {table} is read to check it while reads and writes wait",
        "ALTER TABLE {table} ADD COLUMN {column} …; ALTER TABLE {table} ADD CONSTRAINT "
        "{column}_check CHECK (…) NOT VALID; and VALIDATE CONSTRAINT {column}_check in the next "
        "file",
    ),
    Rule(
        "adding-exclusion-constraint",
        "its index is built while reads and writes of {table} wait, and it cannot be built "
        "CONCURRENTLY or be NOT VALID",
        "create a new table that has the constraint, fill it in batches and switch to it; or "
        "allow it, with a reason, for a small table",
    ),
    Rule(
        "changing-generated-column",
        "every row of {table} is rewritten; reads and writes wait until the last one",
        "add a plain column beside it, keep it filled by a trigger, fill the old rows in batches, "
        "and drop {column} in a file with -- migrate: phase=contract",
    ),
    Rule(
        "moving-table",
        "{table} is copied to its new place; reads and writes wait until the last row",
        "create a table in the new place, fill it in batches and switch to it; or run pg_repack "
        "outside the deployment",
    ),
    Rule(
        "full-vacuum-or-cluster",
        "{table} is copied; reads and writes wait until the last row",
        "plain VACUUM (ANALYZE) {table} in a file with -- migrate: no-transaction; to free space, "
        "pg_repack outside the deployment",
    ),
    Rule(
        "blocking-refresh",
        "reads of {table} wait until its query has run, or fail after WITH NO DATA",
        "CREATE UNIQUE INDEX CONCURRENTLY on {table} in an earlier file with -- migrate: "
        "no-transaction, then REFRESH MATERIALIZED VIEW CONCURRENTLY {table}",
    ),
    _warning(
        "attaching-partition",
        "every row of the attached table, and of a default partition, is read to check it while "
        "reads and writes of these tables wait",
        "first ADD CONSTRAINT … CHECK (what the partition holds) NOT VALID and, in the next file, "
        "VALIDATE CONSTRAINT; a partition whose CHECK proves its bounds is not read",
    ),
    _warning(
        "creating-partition",
        "reads and writes of {table} wait for the lock that PARTITION OF needs, and for a default "
        "partition to be read",
        "CREATE TABLE … (LIKE {table} INCLUDING ALL), then ALTER TABLE {table} ATTACH PARTITION, "
        "which lets reads and writes through",
    ),
)

_OTHERS = (
    Rule(
        "unnamed-concurrent-index",
        "if the build fails it leaves an INVALID index that slows every write to {table}, and "
        "nobody can tell which one to drop",
        "CREATE INDEX CONCURRENTLY {table}_…_idx ON {table} …",
    ),
    _warning(
        "dropping-with-cascade",
        "views, foreign keys and functions that this file does not name are dropped as well, which "
        "breaks whatever uses them",
        "write a DROP of its own for each of them, without CASCADE",
    ),
    _warning(
        "unreadable-statement",
        "no rule was applied to it; the server decides what it does",
        "correct it, or rehearse the file on a copy if it is newer than PostgreSQL 18's grammar",
    ),
    _warning(
        "unread-by-squawk",
        "squawk cannot read it, so only our own rules were applied to it",
        "compare it with the rules in docs/migrations-lint.md",
    ),
    Rule(
        "unknown-rule",
        "there is no such rule, so this allows nothing",
        "write the name of a rule, or remove it from allow=",
    ),
    _warning(
        "needless-allow",
        "nothing in this file needs it, and it would hide what a later edit breaks",
        "remove it from allow=",
    ),
)

BREAKING = Rule(
    "breaking-running-release",
    "the rehearsal shows that the release that serves now, and that a rollback would bring back, "
    "does not work with it",
    "write it as phase=contract, to run when that release is gone; or allow it, if what breaks "
    "does not belong to the release (a report, a person's query)",
    contract=None,
)
"""Broken by what the rehearsal finds (:mod:`release.migration.rehearsal.outcome`), not by the
text of a file."""

OWN_RULES = catalogue((*_TRANSACTIONS, *_SESSION, *_LOCKS, *_REWRITES, *_OTHERS, BREAKING))

# A lock without a limit is what this project promises never to wait for.
NEVER_ALLOWED = frozenset({"setting-lock-timeout", "unknown-rule"})
