"""The lint of a migration: our own rules and squawk's findings, judged for the file's phase.

An error stops the deployment before anything is changed. A header allows a rule, with a reason:
``-- migrate: allow=ban-drop-column reason="unused since v1.4"``; its findings are warnings then.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from release.errors import MigrationRefused
from release.migration.files import MigrationFile
from release.migration.lint import squawk as lint_squawk
from release.migration.lint.checks import Checks, Hit, ParsedStatement, parsed_statements
from release.migration.lint.rules import BREAKING, NEVER_ALLOWED, OWN_RULES, Rule, Severity
from release.migration.lint.squawk import SYNTAX_ERROR, SquawkFinding
from release.migration.lint.squawk_rules import LEFT_OUT, SQUAWK_RULES
from release.migration.sql import tree as sqltree
from release.migration.sql.text import line_at
from release.wording import count_of

KNOWN_RULES = frozenset({*OWN_RULES, *SQUAWK_RULES, *LEFT_OUT})

# Dropped and created again in one transaction: nobody ever sees it missing.
_REPLACEABLE = frozenset(
    {"ban-drop-constraint", "ban-drop-function", "ban-drop-policy", "ban-drop-trigger"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one statement, and what to write instead."""

    rule: str
    severity: Severity
    filename: str
    line: int  # from 1
    message: str  # the statement, and what happens to traffic
    recipe: str  # what to write instead

    @property
    def sentence(self) -> str:
        """``0007_x.sql:3: TRUNCATE orders: reads and writes … [truncating-table]``."""
        return f"{self.filename}:{self.line}: {self.message} [{self.rule}]"


def lint(file: MigrationFile, squawk: Sequence[SquawkFinding]) -> tuple[Finding, ...]:
    """Everything that is wrong with a file, by line.

    ``squawk`` is what blocks.linter found; findings of other files are passed by. What the file
    allows is a warning with its reason; an allowance that nothing needs is a warning as well, and
    one for a rule that does not exist an error that names the nearest.
    """
    told = {
        (rule.name, hit.line): _finding(file, rule, hit)
        for rule, hit in _broken(file, squawk)
        if rule.severity(file.phase) is not None
    }
    found = sorted((*told.values(), *_allowances(file, {rule for rule, _ in told})), key=_place)
    return tuple(found)


def refuse_errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the warnings. Raises MigrationRefused naming every error, with the first recipe."""
    findings = tuple(findings)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return findings
    sentences = "; ".join(error.sentence for error in errors)
    counted = "" if len(errors) == 1 else f"{count_of(len(errors), 'error')} in the migrations: "
    raise MigrationRefused(counted + sentences, errors[0].recipe)


def lint_all(files: Iterable[MigrationFile], squawk: Sequence[SquawkFinding]) -> tuple[str, ...]:
    """The warnings about all pending files, a sentence each. Raises MigrationRefused for errors."""
    findings = refuse_errors(finding for file in files for finding in lint(file, squawk))
    return tuple(finding.sentence for finding in findings)


def _broken(file: MigrationFile, squawk: Sequence[SquawkFinding]) -> Iterator[tuple[Rule, Hit]]:
    """Every rule that a file breaks, ours and squawk's, each with its place."""
    said = sorted(
        (finding for finding in squawk if finding.filename == file.filename),
        key=lambda finding: (finding.line, finding.column),
    )
    checks, position = Checks(file), 0
    dropped: list[tuple[Rule, Hit, frozenset[str]]] = []
    for statement in parsed_statements(file):
        before = frozenset(checks.created)
        own = tuple(checks.see(statement))
        yield from ((OWN_RULES[hit.rule], hit) for hit in own)
        begin = position
        while position < len(said) and (said[position].line, said[position].column) < statement.end:
            position += 1
        judged = tuple(_judged(said[begin:position], statement, before))
        for rule, hit in judged:
            # It says the least of all that can be said about a constraint.
            if rule.name == "ban-new-write-restriction" and len(own) + len(judged) > 1:
                continue
            if rule.name in _REPLACEABLE and file.in_transaction and statement.node:
                dropped.append((rule, hit, frozenset(sqltree.dropped_names(statement.node))))
            else:
                yield rule, hit
        if dropped and statement.node:
            made = frozenset(sqltree.defined_names(statement.node))
            dropped = [(rule, hit, names - made) for rule, hit, names in dropped]
    yield from ((rule, hit) for rule, hit, names in dropped if names)
    for hit in checks.end():
        yield OWN_RULES[hit.rule], hit


def _judged(
    said: Sequence[SquawkFinding], statement: ParsedStatement, created: frozenset[str]
) -> Iterator[tuple[Rule, Hit]]:
    """What remains of squawk's findings about one statement."""
    for finding in said:
        line = max(finding.line, statement.line)
        if finding.rule == SYNTAX_ERROR:
            if statement.node is not None:
                rule = OWN_RULES["unread-by-squawk"]
                yield rule, Hit(rule.name, statement.line, statement.subject, statement.names)
            continue
        judged = lint_squawk.rule_of(finding)
        new = bool(statement.touched) and created.issuperset(statement.touched)
        if judged is None or new:
            continue
        if statement.node is None or not lint_squawk.is_harmless(finding, statement.node):
            yield judged, Hit(judged.name, line, statement.subject, statement.names)


def _finding(file: MigrationFile, rule: Rule, hit: Hit) -> Finding:
    severity = rule.severity(file.phase) or Severity.WARNING
    names = _Names(hit.names)
    message = f"{hit.subject}: {rule.traffic.format_map(names)}"
    if rule.name in file.allows and rule.name not in NEVER_ALLOWED:
        severity = Severity.WARNING
        message += f" (allowed: {file.header.reason})"
    recipe = rule.recipe.format_map(names)
    return Finding(rule.name, severity, file.filename, hit.line, message, recipe)


def _allowances(file: MigrationFile, broken: set[str]) -> Iterator[Finding]:
    """What is wrong with the header's allow= itself."""
    for name in sorted(file.allows - broken - {BREAKING.name}):
        known = name in KNOWN_RULES
        rule = OWN_RULES["needless-allow" if known else "unknown-rule"]
        recipe = rule.recipe
        if not known:
            recipe = f"the nearest is {_nearest(name)}; {recipe}"
        line, severity = _line_of(file, name), rule.severity(file.phase) or Severity.WARNING
        message = f"allow={name}: {rule.traffic}"
        yield Finding(rule.name, severity, file.filename, line, message, recipe)


def _nearest(name: str) -> str:
    return difflib.get_close_matches(name, sorted(KNOWN_RULES), n=1, cutoff=0.0)[0]


def _line_of(file: MigrationFile, name: str) -> int:
    """The header stands above everything else that could name a rule."""
    return line_at(file.sql, file.sql.find(name))


def _place(finding: Finding) -> tuple[int, str]:
    return finding.line, finding.rule


class _Names(dict[str, str]):
    """The names of a finding; one that is not known stands for itself."""

    def __missing__(self, key: str) -> str:
        return f"the_{key}"
