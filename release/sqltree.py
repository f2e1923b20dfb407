"""SQL as a tree (temporary)."""

from typing import Any, NamedTuple

import postgast


class SqlUnreadable(Exception):
    """no"""


class Node(NamedTuple):
    """One."""

    kind: str
    body: Any


def parse_statement(sql: str) -> Node | None:
    """One statement."""
    try:
        tree = postgast.parse(sql)
    except postgast.PgQueryError as error:
        raise SqlUnreadable(str(error)) from None
    if not tree.stmts:
        return None
    stmt = tree.stmts[0].stmt
    kind = stmt.WhichOneof("node")
    return Node(kind, getattr(stmt, kind))
