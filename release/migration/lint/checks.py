"""Our own rules applied to the statements of a migration, one statement's tree at a time.

What a file creates is its own: no traffic meets it before the commit, so most rules pass it by.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise, takewhile
from typing import NamedTuple

from release.errors import MigrationRefused
from release.migration.files import MigrationFile
from release.migration.lint.rules import LARGEST_SEED
from release.migration.sql import facts as sqlfacts
from release.migration.sql import tree as sqltree
from release.migration.sql.facts import Write
from release.migration.sql.text import Statement, statements, tokens
from release.migration.sql.tree import Node, SqlUnreadable, enum_name, unwrap

_Broken = tuple[str, dict[str, str]]  # a rule, and names that are known better than the statement's

_RECORDS = "schema_migrations"
_LIMITS = frozenset(
    {"statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"}
)
_SESSION = frozenset({"role", "session_authorization", "search_path", "session_replication_role"})
_SERIAL = frozenset({"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"})
_MOVES = frozenset({"AT_SetLogged", "AT_SetUnLogged", "AT_SetTableSpace", "AT_SetAccessMethod"})
_SWITCHED_OFF = frozenset(
    {"AT_DisableTrig", "AT_DisableTrigAll", "AT_DisableTrigUser", "AT_DisableRule"}
)
_EVERY_TABLE = {"table": "every table"}
_RUNS_CODE = frozenset({"call_stmt", "do_stmt"})
# Nothing of these is left half done when a later statement fails.
_LEAVES_NOTHING = frozenset({"variable_set_stmt", "vacuum_stmt", "select_stmt", *_RUNS_CODE})
_COMMAND_WORDS = """
AGGREGATE ALTER ANALYZE CALL CLUSTER COMMENT CONCURRENTLY COPY CREATE DATABASE DELETE DISCARD DO
DOMAIN DROP EXTENSION FOREIGN FROM FULL FUNCTION GRANT INDEX INSERT INTO LOCK MATERIALIZED MERGE
ON OWNED OR POLICY PROCEDURE REFRESH REINDEX REPLACE RESET REVOKE ROLE ROUTINE RULE SCHEMA SELECT
SEQUENCE SET SUBSCRIPTION SYSTEM TABLE TABLESPACE TRIGGER TRUNCATE TYPE UNIQUE UPDATE VACUUM VIEW
"""


@dataclass(frozen=True)
class ParsedStatement:
    """A statement of a migration with its tree."""

    line: int  # from 1
    column: int  # characters from the beginning of the line
    end: tuple[float, int]  # line and column of the next statement; infinite behind the last
    words: tuple[str, ...]
    node: Node | None  # None: unreadable
    unread: str = ""  # why

    @property
    def subject(self) -> str:
        """``ALTER TABLE orders``: the command and what it acts on. No literal, so no secret."""
        command = list(takewhile(_COMMAND_WORDS.split().__contains__, self.words))
        on, node = ", ".join(self.touched), self.node
        if node and node.kind == "variable_set_stmt":
            on = node.body.name
        elif node and node.kind == "drop_stmt" and sqltree.is_part_of_a_table(node):
            on = f"{', '.join(sqltree.dropped_names(node))} ON {on}"
        elif node and node.kind == "index_stmt" and node.body.idxname:
            on = f"{node.body.idxname} ON {on}"
        return " ".join([*(command or self.words[:1]), on]).strip()

    @cached_property
    def touched(self) -> tuple[str, ...]:
        """The relations, types or functions that it acts on."""
        return sqltree.touched(self.node) if self.node else ()

    @cached_property
    def writes(self) -> tuple[Write, ...]:
        """The rows that it writes."""
        return tuple(sqlfacts.writes(self.node)) if self.node else ()

    @property
    def names(self) -> dict[str, str]:
        """What is known of ``table``, ``column``, ``constraint`` and ``index``, for a recipe.

        Several actions in one ALTER TABLE have several columns, so none is named then.
        """
        return _names(self.node, self.touched) if self.node else {}


class Hit(NamedTuple):
    """A rule that a statement breaks."""

    rule: str
    line: int
    subject: str
    names: Mapping[str, str] = {}


def parsed_statements(file: MigrationFile) -> Iterator[ParsedStatement]:
    """The statements of a file, in order. One tree at a time is in memory."""
    sql = file.sql
    for part, following in pairwise(chain(statements(sql, file.filename), (None,))):
        assert part is not None, "None stands behind the last statement"
        end = (following.line, _column(sql, following)) if following else (float("inf"), 0)
        node, unread = None, ""
        try:
            node = sqltree.parse_statement(part.text(sql))
        except SqlUnreadable as error:
            unread = error.what
        yield ParsedStatement(part.line, _column(sql, part), end, part.words, node, unread)


def _column(sql: str, part: Statement) -> int:
    return part.start - sql.rfind("\n", 0, part.start) - 1


@dataclass(slots=True)
class Checks:
    """The own rules over one file: ``see`` every statement in order, then ``end``."""

    file: MigrationFile
    created: set[str] = field(default_factory=set)  # by the statements so far
    _locked: dict[str, str] = field(default_factory=dict)  # existing table → first subject
    _at_once: set[str] = field(default_factory=set)  # tables locked with NOWAIT
    _writes: dict[str, Hit] = field(default_factory=dict)  # rule → the first write of its kind
    _seeds: int = 0  # rows of VALUES so far
    _referenced: set[str] = field(default_factory=set)
    _new_values: set[str] = field(default_factory=set)
    _mixed: list[Hit] = field(default_factory=list)
    _needs_none: bool = False  # a statement that may need to run outside of a transaction

    def see(self, statement: ParsedStatement) -> Iterator[Hit]:
        """The rules that a statement breaks, seen after those before it."""
        node = statement.node
        if node is None:
            yield Hit(
                "unreadable-statement",
                statement.line,
                f"{statement.subject} ({statement.unread})",
            )
            self._needs_none = True
            if statement.words[:1] == ("INSERT",):
                self._note_write("writing-with-ddl", statement)
            return
        for rule, names in (
            *self._transaction(statement, node),
            *_session(statement, node),
            *self._table(statement, node),
            *self._actions(statement, node),
        ):
            yield Hit(rule, statement.line, statement.subject, statement.names | names)
        if self.file.in_transaction:
            yield from self._together(statement, node)
        self._remember(statement, node)

    def end(self) -> Iterator[Hit]:
        """The rules that only the whole file breaks."""
        if not self.file.in_transaction:
            if self._needs_none:
                yield from self._mixed
            else:
                yield Hit("needless-no-transaction", 1, "-- migrate: no-transaction")
            return
        if self._locked:
            first = next(iter(self._locked.values()))
            for rule in ("writing-with-ddl", "writing-some-with-ddl"):
                if rule in self._writes:
                    hit = self._writes[rule]
                    yield hit._replace(subject=f"{hit.subject} beside {first}")
        elif self._referenced and len(self._writes):
            hit = min(self._writes.values(), key=lambda hit: hit.line)
            tables = " and ".join(sorted(self._referenced))
            yield hit._replace(rule="filling-under-foreign-key", names={"table": tables})

    def _is_new(self, *relations: str) -> bool:
        return bool(relations) and self.created.issuperset(relations)

    def _transaction(self, statement: ParsedStatement, node: Node) -> Iterator[_Broken]:
        refused = sqlfacts.is_refused_in_transactions(node)
        commits = node.kind == "do_stmt" and _commits(node)
        if node.kind == "do_stmt":
            yield "do-block", {}
        if self.file.in_transaction:
            if refused:
                yield "needs-no-transaction", {}
            if commits:
                yield "commit-in-do-block", {}
        elif refused or commits or node.kind == "call_stmt":  # a procedure may commit
            self._needs_none = True
        elif node.kind not in _LEAVES_NOTHING:
            hit = Hit("mixed-no-transaction", statement.line, statement.subject, statement.names)
            self._mixed.append(hit)

    def _table(self, statement: ParsedStatement, node: Node) -> Iterator[_Broken]:
        """Rules over a statement that acts on existing tables as a whole."""
        body, touched = node.body, statement.touched
        if node.kind == "index_stmt" and body.concurrent and not body.idxname:
            yield "unnamed-concurrent-index", {}
        for write in statement.writes:
            removes = write.kind in ("update", "delete") and not write.bounded
            if removes and not self._is_new(write.table):
                yield "unbounded-write", {"table": write.table}
        if node.kind == "create_stmt" and body.HasField("partbound"):
            parent = sqltree.relation_name(body.inh_relations[0].range_var)
            if not self._is_new(parent):
                yield "creating-partition", {"table": parent}
        if self._is_new(*touched):
            return
        match node.kind:
            case "lock_stmt" if body.mode >= sqlfacts.SHARE and not body.nowait:
                yield "lock-table-waits", {}
            case "truncate_stmt" if enum_name(body, "behavior") != "DROP_CASCADE":
                yield "truncating-table", {}
            case "vacuum_stmt" if sqltree.is_on(body.options, "full"):
                yield "full-vacuum-or-cluster", {} if touched else _EVERY_TABLE
            case "cluster_stmt":
                yield "full-vacuum-or-cluster", {} if touched else _EVERY_TABLE
            case "refresh_mat_view_stmt" if not body.concurrent or body.skip_data:
                yield "blocking-refresh", {}
            case "alter_table_move_all_stmt":
                yield "moving-table", _EVERY_TABLE
            case "drop_stmt" if enum_name(body, "behavior") == "DROP_CASCADE":
                yield "dropping-with-cascade", {}

    def _actions(self, statement: ParsedStatement, node: Node) -> Iterator[_Broken]:
        """Rules over each action of an ALTER TABLE on an existing table."""
        if self._is_new(*statement.touched):
            return
        for action in sqltree.commands(node):
            names = _names_of(action)
            kind = enum_name(action.body, "subtype")
            of_kind = {
                enum_name(constraint, "contype") for constraint in sqltree.constraints(action)
            }
            if kind == "AT_AddColumn":
                if _is_serial(action) and "CONSTR_PRIMARY" not in of_kind:
                    yield "adding-serial-column", names
                if "CONSTR_CHECK" in of_kind:
                    yield "adding-column-with-check", names
            elif kind == "AT_AddConstraint" and "CONSTR_EXCLUSION" in of_kind:
                yield "adding-exclusion-constraint", names
            elif kind == "AT_SetExpression":
                yield "changing-generated-column", names
            elif kind in _MOVES:
                yield "moving-table", names
            elif kind in _SWITCHED_OFF:
                yield "disabling-trigger", names
            elif kind == "AT_AttachPartition":
                partition = sqltree.relation_name(getattr(action.body, "def").partition_cmd.name)
                if not self._is_new(partition):
                    yield "attaching-partition", names
            if enum_name(action.body, "behavior") == "DROP_CASCADE":
                yield "dropping-with-cascade", names

    def _together(self, statement: ParsedStatement, node: Node) -> Iterator[Hit]:
        """Rules over what statements of one transaction do to each other."""
        if self._new_values and node.kind != "alter_enum_stmt":
            used = {
                found.body.sval.sval
                for found in sqltree.of_kind(node, "a_const")
                if found.body.HasField("sval")
            }
            for value in sorted(self._new_values & used):
                subject = f"{statement.subject} uses '{value}'"
                yield Hit("new-enum-value-used", statement.line, subject, statement.names)
        if node.kind == "alter_enum_stmt" and node.body.new_val and not node.body.old_val:
            self._new_values.add(node.body.new_val)
        if node.kind == "lock_stmt" and node.body.nowait:
            self._at_once.update(statement.touched)
        existing = [table for table in sqlfacts.locked(node) if table not in self.created]
        for table in existing:
            waits = table not in self._at_once and node.kind not in ("lock_stmt", "drop_stmt")
            if waits and self._locked.keys() - {table} and table not in self._locked:
                yield Hit("several-tables", statement.line, statement.subject, {"table": table})
        for table in existing:
            self._locked.setdefault(table, statement.subject)
        for write in statement.writes:
            self._weigh(write, statement)

    def _weigh(self, write: Write, statement: ParsedStatement) -> None:
        """Remember a write that takes longer than a moment."""
        if write.rows:
            self._seeds += write.rows
            if self._seeds > LARGEST_SEED:
                self._note_write("writing-with-ddl", statement)
        elif self._is_new(write.table) and self._is_new(*write.sources):
            return  # from one new table to another
        elif write.kind in ("update", "delete") and self._is_new(write.table):
            return
        else:
            rule = "writing-some-with-ddl" if write.bounded else "writing-with-ddl"
            self._note_write(rule, statement)

    def _note_write(self, rule: str, statement: ParsedStatement) -> None:
        if rule not in self._writes:
            hit = Hit(rule, statement.line, statement.subject, statement.names)
            self._writes[rule] = hit

    def _remember(self, statement: ParsedStatement, node: Node) -> None:
        self._referenced.update(set(sqlfacts.referenced(node)) - self.created)
        renamed = node.kind == "rename_stmt" and not node.body.subname
        if renamed and self._is_new(*statement.touched):
            self.created.add(node.body.newname)
        self.created.update(sqltree.created(node))


def _session(statement: ParsedStatement, node: Node) -> Iterator[_Broken]:
    """Rules over what the runner owns: its limits, its lock, its records."""
    for setting in _settings(statement, node):
        if setting in ("lock_timeout", "all"):
            yield "setting-lock-timeout", {}
        elif setting in _LIMITS:
            yield "setting-statement-timeout", {}
        elif setting in _SESSION or _unescapes(setting, node):
            yield "changing-session", {}
    releases = "PG_ADVISORY_UNLOCK_ALL" in statement.words and node.kind == "select_stmt"
    discards = node.kind == "discard_stmt" and enum_name(node.body, "target") == "DISCARD_ALL"
    if releases or discards:
        yield "releasing-runner-lock", {}
    written = [write.table for write in statement.writes]
    if node.kind in ("drop_stmt", "truncate_stmt"):
        written.extend(statement.touched)
    if any(table.rpartition(".")[2] == _RECORDS for table in written):
        yield "writing-own-record", {}


def _settings(statement: ParsedStatement, node: Node) -> tuple[str, ...]:
    # A walk through every INSERT of a large file would cost more than parsing it.
    if node.kind == "variable_set_stmt" or "SET_CONFIG" in statement.words:
        return sqltree.setting_changed(node)
    return ()


def _unescapes(setting: str, node: Node) -> bool:
    """Whether a SET makes backslashes mean something, as the splitter takes them not to."""
    if setting != "standard_conforming_strings" or node.kind != "variable_set_stmt":
        return False
    given = [str(unwrap(argument).body.sval.sval).lower() for argument in node.body.args]
    return given != ["on"]


def _commits(node: Node) -> bool:
    try:
        words = [t.text.upper() for t in tokens(sqltree.do_body(node)) if t.kind == "word"]
    except MigrationRefused:  # a quote that is never closed: the server says so
        return False
    return not {"COMMIT", "ROLLBACK"}.isdisjoint(words)


def _is_serial(action: Node) -> bool:
    names = getattr(action.body, "def").column_def.type_name.names
    return bool(names) and names[-1].string.sval in _SERIAL


def _names(node: Node, touched: tuple[str, ...]) -> dict[str, str]:
    found = defaultdict(str, {"table": touched[0]} if touched else {})
    actions = sqltree.commands(node)
    if len(actions) == 1:
        found.update(_names_of(actions[0]))
    if node.kind == "index_stmt":
        found["index"] = node.body.idxname
    if node.kind == "rename_stmt":
        found["column"] = node.body.subname
    return {name: value for name, value in found.items() if value}


def _names_of(action: Node) -> dict[str, str]:
    """The column or constraint that an action is about."""
    kind, body = enum_name(action.body, "subtype"), action.body
    names = {"constraint" if kind.endswith("Constraint") else "column": body.name}
    if body.HasField("def"):
        definition = unwrap(getattr(body, "def"))
        if definition.kind == "column_def" and definition.body.colname:
            names["column"] = definition.body.colname
        if definition.kind == "constraint":
            names["constraint"] = definition.body.conname
    return {name: value for name, value in names.items() if value}
