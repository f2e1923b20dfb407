"""Files that run without a transaction: how each of their statements is resumed.

A statement that was interrupted is done, half done, or not begun, and it is not known which. For
some the database can be asked (is the index there, and valid?), some may simply run again. Others
are refused before anything runs, unless their author says that they may run twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from release.errors import MigrationRefused
from release.migration.sql.text import statements
from release.migration.sql.tree import SqlUnreadable, parse_statement


class Repeat(StrEnum):
    """How an interrupted statement is taken up again."""

    SETTING = "setting"  # of the session: replayed, because a new session lacks it
    AGAIN = "again"  # does the same when it runs twice
    BUILD_INDEX = "build index"  # asks for the index; a broken one is dropped and built again
    DROP_INDEX = "drop index"  # asks whether the index is gone
    REINDEX = "reindex"  # drops what a broken rebuild left, then runs again
    DETACH = "detach"  # asks whether the partition is detached, or half detached


@dataclass(frozen=True, slots=True)
class Relation:
    """The name of a table or an index; ``schema`` "" leaves it to the search path."""

    name: str
    schema: str = ""

    @property
    def quoted(self) -> str:
        """As SQL text."""
        parts = [self.schema, self.name] if self.schema else [self.name]
        return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


@dataclass(frozen=True, slots=True)
class StatementStep:
    """One statement of a file without a transaction."""

    number: int  # from 0
    line: int  # of the file, from 1
    sql: str
    repeat: Repeat
    relation: Relation | None = None  # the index to be built or dropped, the table to be reindexed
    table: Relation | None = None  # of an index to be built, or a partition's parent
    if_not_exists: bool = False

    @property
    def builds(self) -> bool:
        """Whether it works beside traffic, for as long as it takes, and has progress to show."""
        return self.repeat in (Repeat.BUILD_INDEX, Repeat.REINDEX)


def steps_of(sql: str, filename: str, idempotent: bool) -> Iterator[StatementStep]:
    """The statements of a file, each with the way in which it is taken up again.

    ``idempotent``: the author says that each may run twice. Raises MigrationRefused for a
    statement that could not be taken up.
    """
    for number, found in enumerate(statements(sql, filename)):
        text = found.text(sql)
        step = _step(number, found.line, text)
        if step is None and not idempotent:
            raise MigrationRefused(
                f"{filename}:{found.line}: if this statement is interrupted, nobody can tell "
                "whether it is done, and it runs without a transaction",
                "put it into a file of its own without '-- migrate: no-transaction', or write "
                "'-- migrate: no-transaction idempotent' if it may run twice",
            )
        if step is not None and step.repeat is Repeat.BUILD_INDEX and not step.relation:
            raise MigrationRefused(
                f"{filename}:{found.line}: the index has no name, so that a broken one could not "
                "be found again",
                "write CREATE INDEX CONCURRENTLY name ON …",
            )
        yield step or StatementStep(number, found.line, text, Repeat.AGAIN)


def _step(number: int, line: int, text: str) -> StatementStep | None:
    try:
        node = parse_statement(text)
    except SqlUnreadable:
        return None  # newer than this grammar: only its author knows
    reader = _READERS.get(node.kind) if node else None
    found = reader(node.body) if node and reader else None
    return StatementStep(number, line, text, **found) if found else None


Found = dict[str, Any] | None


def _index(body: Any) -> Found:
    if not body.concurrent:
        return None
    table = _relation(body.relation)
    return {
        "repeat": Repeat.BUILD_INDEX,
        "relation": Relation(body.idxname, table.schema) if body.idxname else None,
        "table": table,
        "if_not_exists": body.if_not_exists,
    }


def _drop(body: Any) -> Found:
    names = [[part.string.sval for part in named.list.items] for named in body.objects]
    if not body.concurrent or len(names) != 1:
        return None
    return {"repeat": Repeat.DROP_INDEX, "relation": Relation(names[0][-1], "".join(names[0][:-1]))}


def _reindex(body: Any) -> Found:
    relation = _relation(body.relation) if body.HasField("relation") else None
    return {"repeat": Repeat.REINDEX, "relation": relation}


def _alter_table(body: Any) -> Found:
    commands = [command.alter_table_cmd for command in body.cmds]
    if len(commands) != 1 or not commands[0].HasField("def"):
        return None
    definition = getattr(commands[0], "def")
    if not definition.HasField("partition_cmd") or not definition.partition_cmd.concurrent:
        return None
    return {
        "repeat": Repeat.DETACH,
        "relation": _relation(definition.partition_cmd.name),
        "table": _relation(body.relation),
    }


def _enum(body: Any) -> Found:
    return {"repeat": Repeat.AGAIN} if body.skip_if_new_val_exists else None


def _again(body: Any) -> Found:
    return {"repeat": Repeat.AGAIN}


def _setting(body: Any) -> Found:
    # As another role the runner could not count what is done.
    return None if body.name in ("role", "session_authorization") else {"repeat": Repeat.SETTING}


def _relation(range_var: Any) -> Relation:
    return Relation(range_var.relname, range_var.schemaname)


_READERS = {
    "index_stmt": _index,
    "drop_stmt": _drop,
    "reindex_stmt": _reindex,
    "alter_table_stmt": _alter_table,
    "alter_enum_stmt": _enum,
    "vacuum_stmt": _again,
    "cluster_stmt": _again,
    "alter_system_stmt": _again,
    "refresh_mat_view_stmt": _again,
    "check_point_stmt": _again,
    "variable_set_stmt": _setting,
}
