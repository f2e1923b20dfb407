"""What squawk finds, judged: what stops a deployment, what is worth a warning, what is left out.

What the runner does by itself (limits, one transaction a file), what is refused when a file is
read, and matters of taste are left out (release/migration/lint/squawk_rules.py has the list). A
rule that is not listed, because squawk is newer than the list, is a warning in squawk's own words.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from release.migration.files import MigrationFile
from release.migration.lint.rules import Rule, Severity
from release.migration.lint.squawk_rules import LEFT_OUT, SQUAWK_RULES
from release.migration.sql import tree as sqltree
from release.migration.sql.text import split_statements
from release.migration.sql.tree import Node


class SquawkFinding(NamedTuple):
    """One thing that squawk said about one file."""

    filename: str
    line: int  # from 1
    column: int  # characters from the beginning of the line
    rule: str  # as squawk names it
    message: str
    help: str = ""


SYNTAX_ERROR = "syntax-error"

_NOT_A_LINE_END = re.compile(r"[^\n]")

# Off by default in squawk; the ones that the running release depends on are switched on.
OPT_IN = (
    "ban-alter-row-level-security",
    "ban-alter-sequence-values",
    "ban-detach-inheritance",
    "ban-drop-index",
    "ban-drop-policy",
    "ban-drop-trigger",
    "ban-new-write-restriction",
    "ban-revoke",
)

# Functions whose value is the same for every row of one statement (pg_proc.provolatile is not v).
_STABLE_FUNCTIONS = """
array_to_json concat date_part date_trunc format json_build_array json_build_object
jsonb_build_array jsonb_build_object lower make_date make_interval make_timestamp
make_timestamptz md5 now regexp_replace replace statement_timestamp substr timezone to_char
to_date to_json to_jsonb to_timestamp transaction_timestamp upper
"""
SAME_FOR_EVERY_ROW = frozenset(_STABLE_FUNCTIONS.split())

_CHECKED = ("CONSTR_CHECK", "CONSTR_NOTNULL")


def without_unreadable(file: MigrationFile, findings: Iterable[SquawkFinding]) -> str:
    """The file's text with blanks for the statements that squawk could not read.

    squawk applies no rule at all to a file with a syntax error; the rest of the file, at its own
    lines and columns, can be given to it again.
    """
    sql, parts = file.sql, split_statements(file.sql, file.filename)
    errors = [offset_of(sql, f.line, f.column) for f in findings if f.rule == SYNTAX_ERROR]
    kept = [sql[: parts[0].start] if parts else sql]
    ends = [part.start for part in parts[1:]] + [len(sql)]
    for part, end in zip(parts, ends, strict=bool(parts)):
        text = sql[part.start : end]
        unread = any(part.start <= error < end for error in errors)
        kept.append(_NOT_A_LINE_END.sub(" ", text) if unread else text)
    return "".join(kept)


def offset_of(sql: str, line: int, column: int) -> int:
    """Characters from the beginning of the text to a line (from 1) and a column (from 0)."""
    start = 0
    for _ in range(line - 1):
        start = sql.index("\n", start) + 1
    return start + column


def rule_of(finding: SquawkFinding) -> Rule | None:
    """How a finding is judged; None if it is left out."""
    if finding.rule in LEFT_OUT:
        return None
    known = SQUAWK_RULES.get(finding.rule)
    if known is not None:
        return known
    recipe = finding.help or f"https://squawkhq.com/docs/{finding.rule}"
    warning = Severity.WARNING
    return Rule(finding.rule, finding.message.rstrip("."), recipe, warning, warning)


def is_harmless(finding: SquawkFinding, node: Node) -> bool:
    """Whether the tree shows that squawk is too careful here, or that another rule says it."""
    actions = sqltree.commands(node)
    match finding.rule:
        case "adding-field-with-default":
            return not any(_has_a_value_a_row(action) for action in actions)
        case "constraint-missing-not-valid":
            # Foreign keys, unique and primary keys have rules of their own.
            return not any(_is_checked_at_once(action) for action in actions)
        case "ban-alter-domain-with-add-constraint":
            definition = getattr(node.body, "def")
            return bool(definition.constraint.skip_validation)
        case "ban-new-write-restriction":
            kinds = {sqltree.enum_name(action.body, "subtype") for action in actions}
            return kinds == {"AT_AddColumn"}
        case "renaming-object":
            return (
                node.kind == "rename_stmt"
                and sqltree.enum_name(node.body, "rename_type") == "OBJECT_INDEX"
            )
    return False


def _has_a_value_a_row(action: Node) -> bool:
    if sqltree.enum_name(action.body, "subtype") != "AT_AddColumn":
        return False
    for constraint in sqltree.constraints(action):
        kind = sqltree.enum_name(constraint, "contype")
        if kind == "CONSTR_IDENTITY":
            return True
        if kind == "CONSTR_GENERATED":
            return bool(constraint.generated_kind != "v")
        if kind == "CONSTR_DEFAULT" and not _is_the_same_for_every_row(constraint):
            return True
    return False


def _is_the_same_for_every_row(default: Any) -> bool:
    calls = sqltree.of_kind(sqltree.unwrap(default.raw_expr), "func_call")
    return all(sqltree.function_name(call) in SAME_FOR_EVERY_ROW for call in calls)


def _is_checked_at_once(action: Node) -> bool:
    kind = sqltree.enum_name(action.body, "subtype")
    if kind == "AT_ValidateConstraint":
        return True
    return kind == "AT_AddConstraint" and any(
        sqltree.enum_name(constraint, "contype") in _CHECKED and not constraint.skip_validation
        for constraint in sqltree.constraints(action)
    )
