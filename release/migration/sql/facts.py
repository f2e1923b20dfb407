"""What PostgreSQL does with a statement, as far as its tree shows: transaction, locks, rows.

Source: PostgreSQL's documentation, "Explicit Locking" and the notes of ALTER TABLE; tried on a
server in tests/blocks/test_sqlfacts.py.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from release.migration.sql import tree as sqltree
from release.migration.sql.tree import (
    Node,
    enum_name,
    is_on,
    of_kind,
    option,
    relation_name,
    touched,
    unwrap,
)

SHARE = 5  # the weakest lock mode that keeps writers out, as LOCK TABLE numbers them
ACCESS_EXCLUSIVE = 8

_SERVER_WIDE = frozenset(
    {
        "alter_system_stmt",
        "createdb_stmt",
        "dropdb_stmt",
        "create_table_space_stmt",
        "drop_table_space_stmt",
        "drop_subscription_stmt",
    }
)
_WHOLE_SCHEMA = frozenset(
    {"REINDEX_OBJECT_SCHEMA", "REINDEX_OBJECT_SYSTEM", "REINDEX_OBJECT_DATABASE"}
)
# These let reads and writes through (SHARE UPDATE EXCLUSIVE).
_QUIET_ACTIONS = frozenset(
    {
        "AT_SetStatistics",
        "AT_ClusterOn",
        "AT_DropCluster",
        "AT_SetOptions",
        "AT_ResetOptions",
        "AT_SetRelOptions",
        "AT_ResetRelOptions",
        "AT_AttachPartition",
        "AT_DetachPartitionFinalize",
        "AT_ValidateConstraint",
    }
)
_ALTERED = frozenset({"OBJECT_TABLE", "OBJECT_FOREIGN_TABLE", "OBJECT_MATVIEW", "OBJECT_VIEW"})
_DROPPED = frozenset(
    {
        "OBJECT_TABLE",
        "OBJECT_FOREIGN_TABLE",
        "OBJECT_MATVIEW",
        "OBJECT_VIEW",
        "OBJECT_TRIGGER",
        "OBJECT_POLICY",
        "OBJECT_RULE",
    }
)
_ALWAYS_LOCKING = frozenset(
    {
        "create_trig_stmt",
        "rule_stmt",
        "create_policy_stmt",
        "alter_policy_stmt",
        "truncate_stmt",
        "cluster_stmt",
        "alter_object_schema_stmt",
    }
)
_CHANGES_ROWS = frozenset({"insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"})
_RUN_AT_ONCE = frozenset({"select_stmt", "copy_stmt", "create_table_as_stmt", *_CHANGES_ROWS})


class Write(NamedTuple):
    """Rows that a statement writes, or removes."""

    table: str
    kind: str  # update, delete, insert, merge, copy or fill (of a table that it creates)
    sources: tuple[str, ...] = ()  # the tables that its rows come from
    bounded: bool = False  # a WHERE clause stands between it and all rows
    rows: int = 0  # those written out in VALUES; 0: as many as it finds


def is_refused_in_transactions(node: Node) -> bool:
    """Whether PostgreSQL refuses the statement inside a transaction (25001)."""
    body, kind = node.body, node.kind
    match kind:
        case "index_stmt" | "drop_stmt":
            return bool(body.concurrent)
        case "reindex_stmt":
            return is_on(body.params, "concurrently") or enum_name(body, "kind") in _WHOLE_SCHEMA
        case "vacuum_stmt":
            return bool(body.is_vacuumcmd)
        case "cluster_stmt":
            return not body.HasField("relation")
        case "create_subscription_stmt":
            given = {option(body.options, name) for name in ("connect", "create_slot")}
            return given.isdisjoint({"false", "off", "0"})
        case "alter_subscription_stmt":
            return enum_name(body, "kind") == "ALTER_SUBSCRIPTION_REFRESH"
        case "alter_database_stmt":
            return option(body.options, "tablespace") is not None
    return kind in _SERVER_WIDE or any(
        unwrap(getattr(action.body, "def")).body.concurrent
        for action in sqltree.commands(node)
        if enum_name(action.body, "subtype") == "AT_DetachPartition"
    )


def locked(node: Node) -> tuple[str, ...]:
    """The relations that readers or writers cannot use from this statement to its commit.

    Both tables of a foreign key that is added are locked; only the one that is named here counts.
    """
    body, kind = node.body, node.kind
    match kind:
        case "alter_table_stmt":
            loud = enum_name(body, "objtype") in _ALTERED and not all(
                map(_is_quiet, sqltree.commands(node))
            )
        case "rename_stmt":
            loud = body.HasField("relation") and enum_name(body, "rename_type") != "OBJECT_INDEX"
        case "drop_stmt":
            loud = not body.concurrent and enum_name(body, "remove_type") in _DROPPED
        case "index_stmt" | "refresh_mat_view_stmt":
            loud = not body.concurrent
        case "reindex_stmt":
            loud = not is_on(body.params, "concurrently")
        case "lock_stmt":
            loud = body.mode >= SHARE
        case _:
            loud = kind in _ALWAYS_LOCKING
    return touched(node) if loud else ()


def referenced(node: Node) -> tuple[str, ...]:
    """The tables that the foreign keys of a CREATE TABLE refer to: writers wait for its commit."""
    if node.kind != "create_stmt":
        return ()
    return tuple(
        relation_name(constraint.pktable)
        for constraint in sqltree.constraints(node)
        if enum_name(constraint, "contype") == "CONSTR_FOREIGN"
    )


def writes(node: Node) -> Iterator[Write]:
    """The writes of a statement, those in WITH as well. A function's body writes nothing yet."""
    if node.kind not in _RUN_AT_ONCE:
        return
    if node.kind == "copy_stmt":
        if node.body.is_from and node.body.HasField("relation"):
            yield Write(relation_name(node.body.relation), "copy")
        return
    if node.kind == "create_table_as_stmt" and not node.body.into.skip_data:
        yield from _filled(relation_name(node.body.into.rel), "fill", node.body.query.select_stmt)
    if node.kind == "select_stmt" and node.body.HasField("into_clause"):
        yield from _filled(relation_name(node.body.into_clause.rel), "fill", node.body)
    for found in (node, *_with(node)):
        if found.kind not in _CHANGES_ROWS:
            continue
        body, table = found.body, relation_name(found.body.relation)
        if found.kind == "insert_stmt":
            yield from _filled(table, "insert", body.select_stmt.select_stmt)
        elif found.kind == "merge_stmt":
            yield Write(table, "merge", _read(found))
        else:
            yield Write(table, found.kind.removesuffix("_stmt"), _read(found), _is_bounded(body))


def _with(node: Node) -> Iterator[Node]:
    # PostgreSQL allows writes in the outermost WITH alone, so nothing below it is walked through.
    if node.kind == "select_stmt" or node.kind in _CHANGES_ROWS:
        for item in node.body.with_clause.ctes:
            yield unwrap(item.common_table_expr.ctequery)


def _filled(table: str, kind: str, query: Any) -> Iterator[Write]:
    if query.values_lists:
        yield Write(table, kind, rows=len(query.values_lists))
    elif query.from_clause or query.HasField("larg"):
        yield Write(table, kind, _read(unwrap(query)), _is_bounded(query))


def _read(node: Node) -> tuple[str, ...]:
    return tuple(relation_name(found.body) for found in of_kind(node, "range_var"))


def _is_bounded(body: Any) -> bool:
    # WHERE true is how some tools are talked into an update of everything.
    return body.HasField("where_clause") and unwrap(body.where_clause).kind != "a_const"


def _is_quiet(action: Node) -> bool:
    kind = enum_name(action.body, "subtype")
    if kind == "AT_DetachPartition":
        return bool(unwrap(getattr(action.body, "def")).body.concurrent)
    return kind in _QUIET_ACTIONS
