"""Statements as trees: PostgreSQL's own parser behind one door, and what a tree touches.

The grammar is PostgreSQL 18's. A server may be older or newer, so a statement that cannot be read
here is nothing worse than unread: the server has the last word.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

LARGEST_STATEMENT = 1024 * 1024  # characters; the tree of a 0.97 MB INSERT took 34 MB and 0.3 s

_FUNCTIONS = frozenset({"object_with_args"})
_STEP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DROPPED_FROM_A_TABLE = frozenset({"OBJECT_TRIGGER", "OBJECT_POLICY", "OBJECT_RULE"})


class Node(NamedTuple):
    """A node of a statement's tree."""

    kind: str  # as libpg_query names it, such as "index_stmt" or "range_var"
    body: Any  # its fields, by name


class SqlUnreadable(Exception):
    """A statement that the parser does not understand. A person never meets it as an error."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(what, position)
        self.what = what
        self.position = position  # characters from the beginning of the statement


def parse_statement(sql: str) -> Node | None:
    """The tree of the first statement in ``sql``; None for blanks and comments alone.

    Raises SqlUnreadable for what the grammar does not know, for more than LARGEST_STATEMENT
    characters, and for an expression nested deeper than the parser's own format holds.
    """
    if len(sql) > LARGEST_STATEMENT:
        raise SqlUnreadable(f"{len(sql) / 1024**2:.1f} MB > 1 MB in one statement", 0)
    # Imported here: it takes 0.2 s, and most runs have no migration to read.
    import postgast
    from google.protobuf.message import DecodeError

    try:
        parsed = postgast.parse(sql)
    except postgast.PgQueryError as error:
        raise SqlUnreadable(error.message, max(error.cursorpos - 1, 0)) from None
    except DecodeError:
        raise SqlUnreadable("an expression is nested too deep", 0) from None
    return unwrap(parsed.stmts[0].stmt) if parsed.stmts else None


def unwrap(message: Any) -> Node:
    """A message as a node; a wrapper that can hold any node is looked through.

    A wrapper that holds none, as in a plain SELECT DISTINCT, is a node of the kind "".
    """
    kind = message.DESCRIPTOR.name
    if kind == "Node":
        kind = message.WhichOneof("node") or ""
        return Node(kind, getattr(message, kind) if kind else message)
    return Node(_snake_case(kind), message)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, in the order of the text."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        below: list[Node] = []
        for field, value in current.body.ListFields():
            if field.message_type is None:
                continue
            children = (value,) if hasattr(value, "DESCRIPTOR") else value  # else repeated
            below.extend(map(unwrap, children))
        waiting.extend(reversed(below))


def of_kind(node: Node, *kinds: str) -> Iterator[Node]:
    """The nodes of some kinds in a tree, the root among them."""
    return (found for found in walk(node) if found.kind in kinds)


def relation_name(range_var: Any) -> str:
    """``orders``, or ``audit.orders``. The schema ``public`` is left out: it is where most are."""
    return _qualified([range_var.schemaname, range_var.relname])


def enum_name(message: Any, field: str) -> str:
    """The name of an enumeration's value, such as ``AT_AddColumn``."""
    value = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(value[getattr(message, field)].name)


def commands(node: Node) -> list[Node]:
    """The actions of an ALTER TABLE (INDEX, VIEW, SEQUENCE, TYPE); none for another statement."""
    if node.kind != "alter_table_stmt":
        return []
    return [unwrap(command) for command in node.body.cmds]


def constraints(node: Node) -> list[Any]:
    """The constraints that an action or a CREATE TABLE brings, those of its columns included."""
    if node.kind == "alter_table_cmd":
        elements = [getattr(node.body, "def")] if node.body.HasField("def") else []
    else:
        elements = list(node.body.table_elts) if node.kind == "create_stmt" else []
    found = []
    for element in map(unwrap, elements):
        if element.kind == "constraint":
            found.append(element.body)
        elif element.kind == "column_def":
            found.extend(unwrap(inner).body for inner in element.body.constraints)
    return found


def touched(node: Node) -> tuple[str, ...]:
    """The tables, views, indexes, sequences, types or functions that a statement acts on directly.

    What it only reads, or refers to by a foreign key, is left out. ALTER TABLE ALL, REINDEX
    DATABASE and their like name none.
    """
    body, names = node.body, list[str]()
    if node.kind == "drop_stmt":
        return tuple(_dropped_from(body))
    if node.kind in ("alter_enum_stmt", "alter_domain_stmt"):
        return (_qualified(string.string.sval for string in body.type_name),)
    for field in ("relation", "table", "sequence", "typevar", "view"):
        if _has(body, field) and unwrap(getattr(body, field)).kind == "range_var":
            names.append(relation_name(getattr(body, field)))
    for field in ("relations", "rels", "objects"):
        for item in map(unwrap, getattr(body, field, ())):
            inner = unwrap(item.body.relation) if item.kind == "vacuum_relation" else item
            names.extend(filter(None, [_named(inner)]))
    if _has(body, "object"):
        names.extend(filter(None, [_named(unwrap(body.object))]))
    return tuple(names) or created(node)


def created(node: Node) -> tuple[str, ...]:
    """What a statement brings into being: tables, views, indexes, sequences, types, functions.

    IF NOT EXISTS and OR REPLACE count as well: in an ordered history what they create is new.
    """
    body, kind = node.body, node.kind
    if kind in ("create_stmt", "create_foreign_table_stmt"):
        return (relation_name(body.relation if kind == "create_stmt" else body.base_stmt.relation),)
    if kind == "create_table_as_stmt":
        return (relation_name(body.into.rel),)
    if kind == "select_stmt" and body.HasField("into_clause"):
        return (relation_name(body.into_clause.rel),)
    if kind == "view_stmt":
        return (relation_name(body.view),)
    if kind == "create_seq_stmt":
        return (relation_name(body.sequence),)
    if kind == "composite_type_stmt":
        return (relation_name(body.typevar),)
    if kind == "index_stmt" and body.idxname:
        return (_qualified([body.relation.schemaname, body.idxname]),)
    names = {
        "create_enum_stmt": "type_name",
        "create_range_stmt": "type_name",
        "create_domain_stmt": "domainname",
        "create_function_stmt": "funcname",
    }
    if kind in names:
        return (_qualified(string.string.sval for string in getattr(body, names[kind])),)
    return ()


def dropped_names(node: Node) -> tuple[str, ...]:
    """The bare names of what a statement drops: triggers, policies, functions, constraints, …"""
    if node.kind == "drop_stmt":
        items = map(unwrap, node.body.objects)
        # The last part of schema.table.trigger, or of schema.function.
        return tuple(_named(item).rpartition(".")[2] for item in items)
    return tuple(
        action.body.name
        for action in commands(node)
        if enum_name(action.body, "subtype") == "AT_DropConstraint"
    )


def is_part_of_a_table(node: Node) -> bool:
    """Whether a DROP takes a trigger, policy or rule from a table."""
    return enum_name(node.body, "remove_type") in _DROPPED_FROM_A_TABLE


def defined_names(node: Node) -> tuple[str, ...]:
    """The bare names of the triggers, policies, functions or constraints that a statement makes."""
    body = node.body
    match node.kind:
        case "create_trig_stmt":
            return (body.trigname,)
        case "create_policy_stmt":
            return (body.policy_name,)
        case "create_function_stmt":
            return (body.funcname[-1].string.sval,)
    return tuple(
        constraint.conname
        for action in commands(node)
        if enum_name(action.body, "subtype") == "AT_AddConstraint"
        for constraint in constraints(action)
    )


def setting_changed(node: Node) -> tuple[str, ...]:
    """The settings that a SET, RESET or ``set_config()`` changes; ``all`` for all of them."""
    if node.kind == "variable_set_stmt":
        if enum_name(node.body, "kind") == "VAR_RESET_ALL":
            return ("all",)
        return (node.body.name.lower(),)
    found = []
    for call in of_kind(node, "func_call"):
        if function_name(call) == "set_config" and call.body.args:
            first = unwrap(call.body.args[0])
            found.append(first.body.sval.sval.lower() if first.kind == "a_const" else "all")
    return tuple(found)


def function_name(call: Node) -> str:
    """The name of a function that is called, without its schema."""
    return str(call.body.funcname[-1].string.sval)


def option(options: Any, name: str) -> str | None:
    """An option such as ``(FULL)`` or ``WITH (connect = false)``: its text, "" for none given.

    Returns None if the option is missing.
    """
    for element in map(unwrap, options):
        if element.body.defname != name:
            continue
        if not element.body.HasField("arg"):
            return ""
        given = unwrap(element.body.arg)
        return str(getattr(given.body, "sval", "") or getattr(given.body, "ival", "")).lower()
    return None


def is_on(options: Any, name: str) -> bool:
    """Whether an option is given and not switched off."""
    return option(options, name) not in (None, "false", "off", "0")


def do_body(node: Node) -> str:
    """The code of a DO block."""
    for element in map(unwrap, node.body.args):
        if element.body.defname == "as":
            return str(element.body.arg.string.sval)
    return ""


@cache
def _snake_case(kind: str) -> str:
    return _STEP.sub("_", kind).lower()


def _has(body: Any, field: str) -> bool:
    described = body.DESCRIPTOR.fields_by_name.get(field)
    if described is None or described.message_type is None or described.is_repeated:
        return False
    return bool(body.HasField(field))


def _named(node: Node) -> str:
    if node.kind == "range_var":
        return relation_name(node.body)
    if node.kind in _FUNCTIONS:
        return _qualified(string.string.sval for string in node.body.objname)
    if node.kind == "type_name":
        return _qualified(string.string.sval for string in node.body.names)
    if node.kind == "list":
        return _qualified(string.string.sval for string in node.body.items)
    return str(node.body.sval) if node.kind == "string" else ""


def _dropped_from(body: Any) -> Iterator[str]:
    of_a_table = enum_name(body, "remove_type") in _DROPPED_FROM_A_TABLE
    for item in map(unwrap, body.objects):
        if of_a_table and item.kind == "list":
            yield _qualified(string.string.sval for string in list(item.body.items)[:-1])
        elif name := _named(item):
            yield name


def _qualified(parts: Any) -> str:
    names = [part for part in parts if part]
    if len(names) == 2 and names[0] == "public":
        return str(names[1])
    return ".".join(names)
