"""RUNBOOK.md as data: its headings, its checklist items and its rollback triggers.

Whoever edits the runbook edits the pipeline. An HTML comment, which a reader of the rendered page
does not see, binds a line to what the pipeline does with it:

    - [ ] Database migrations tested in staging <!-- gate: migrations-tested evidence=... -->
    - [ ] On-call aware of deployment <!-- gate: on-call-aware role=on-call approvals=2 -->
    - [ ] Monitor error rates (10 min) <!-- step: watch-error-rate -->
    - Auth flow broken <!-- trigger: auth-flow -->

A ``- [ ]`` item without a comment is a gate that asks a person, with a slug of its text as its id.
Headings are bound by their text; one for people only says so: ``## Contacts <!-- prose -->``.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from release.errors import BadConfiguration, BadRequest
from release.gate.checklist import Item
from release.gate.evidence import EvidenceSource
from release.model import Step
from release.request import checked_name

STEPS_HEADING = "Deployment Steps"
TRIGGERS_HEADING = "Rollback Trigger Conditions"
LOG_HEADING = "Deployment Log"
SECTIONS = (STEPS_HEADING, TRIGGERS_HEADING, LOG_HEADING)
"""The headings of which the pipeline does what stands below them."""
PROSE = "prose"
"""What a heading's comment says where it is for people only."""
HEADINGS = tuple(step for step in Step if step not in (Step.PLAN, Step.ROLLBACK))
"""The steps that the runbook has a heading for; the other two are the pipeline's own."""


class PostStep(StrEnum):
    """The Post-Deployment items that the pipeline does itself."""

    WATCH_ERROR_RATE = "watch-error-rate"
    WATCH_RESPONSE_TIMES = "watch-response-times"
    VERIFY_AUTH_FLOW = "verify-auth-flow"
    UPDATE_DEPLOYMENT_LOG = "update-deployment-log"
    CLOSE_TICKET = "close-ticket"


class TriggerId(StrEnum):
    """The rollback triggers that the pipeline knows."""

    HEALTH = "health"
    ERROR_RATE = "error-rate"
    P0 = "p0"
    AUTH_FLOW = "auth-flow"


class Kind(StrEnum):
    """What a comment can bind a line to."""

    GATE = "gate"
    STEP = "step"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading as a person reads it."""

    text: str
    level: int
    line: int
    prose: bool = False  # it says that the pipeline has nothing to do with it


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    """One ``- [ ]`` line."""

    section: str  # the heading of level 2 above it
    id: str
    text: str
    line: int
    kind: Kind  # GATE or STEP
    evidence: EvidenceSource | None = None
    role: str = ""  # who may sign it; "" for every approver
    approvals: int = 1  # different people who have to sign it


@dataclass(frozen=True, slots=True)
class Trigger:
    """One line of the rollback trigger conditions."""

    id: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The numbers that the runbook names; None if it names none."""

    health_sustained_for: timedelta | None
    error_rate_ceiling: float | None  # fraction
    error_rate_sustained_for: timedelta | None
    watch: timedelta | None


@dataclass(frozen=True, slots=True)
class Runbook:
    """Everything in the runbook that the pipeline acts upon, in the runbook's order."""

    headings: tuple[Heading, ...]
    items: tuple[ChecklistItem, ...]
    triggers: tuple[Trigger, ...]

    def gates(self, section: Step = Step.CHECKLIST) -> tuple[Item, ...]:
        """The items under ``section`` that have to be signed."""
        return tuple(
            Item(item.id, item.text, item.section, item.evidence, item.role, item.approvals)
            for item in self.items
            if item.kind is Kind.GATE and item.section == section
        )


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the runbook that the pipeline cannot act upon."""

    line: int  # from 1; 0: the whole file, as for what is not there
    sentence: str

    def __str__(self) -> str:
        return f"runbook, line {self.line}: {self.sentence}" if self.line else self.sentence


class _Unreadable(Exception):
    """A line that cannot be read; the others still are."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.problem = Problem(line, sentence)


@dataclass(frozen=True, slots=True)
class _Binding:
    kind: Kind
    id: str
    evidence: EvidenceSource | None = None
    role: str = ""
    approvals: int = 1


@dataclass(frozen=True, slots=True)
class _Bullet:
    section: str
    text: str
    comments: tuple[str, ...]
    line: int


_BOX = re.compile(r"\[ \]\s+(?=\S)")
_LIKE_A_BOX = re.compile(r"\[\s*[xX]?\s*\]")
_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_BINDING = re.compile(r"(?P<kind>[\w-]+)\s*:\s*(?P<id>\S+)(?P<options>(?:\s+\S+)*)")
_KEYS = ("evidence", "role", "approvals")
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")


def parse(text: str) -> Runbook:
    """Read a runbook. Raises BadConfiguration with each line that cannot be read."""
    runbook, problems = read(text)
    if problems:
        raise BadConfiguration("; ".join(map(str, problems)), "edit RUNBOOK.md")
    return runbook


def read(text: str) -> tuple[Runbook, tuple[Problem, ...]]:
    """What can be read of a runbook, and what cannot, in the order of the lines."""
    headings: list[Heading] = []
    items: list[ChecklistItem] = []
    triggers: list[Trigger] = []
    problems: list[Problem] = []
    for part in _parts(MarkdownIt("commonmark").parse(text)):
        try:
            if isinstance(part, Problem):
                problems.append(part)
            elif isinstance(part, Heading):
                headings.append(part)
            elif part.section == TRIGGERS_HEADING:
                triggers.append(_trigger(part))
            else:
                items.extend(_item(part))
        except _Unreadable as unreadable:
            problems.append(unreadable.problem)
    problems.extend(_duplicates([*items, *triggers]))
    runbook = Runbook(tuple(headings), tuple(items), tuple(triggers))
    return runbook, tuple(sorted(problems, key=lambda problem: problem.line))


def _parts(tokens: Sequence[Token]) -> Iterator[Heading | _Bullet | Problem]:
    """The headings and list items, in order; prose and code are for people only."""
    section, depth = "", 0
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else token
        depth += {"list_item_open": 1, "list_item_close": -1}.get(token.type, 0)
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            yield from _stray(token.content, line)
        if token.type != "inline":
            continue
        shown, comments = _without_comments(token)
        if before.type == "heading_open":
            heading = Heading(shown, int(before.tag[1:]), line, comments == (PROSE,))
            section = shown if heading.level <= 2 else section
            yield heading
        first = tokens[index - 2].type == "list_item_open" if index > 1 else False
        if depth and first and before.type == "paragraph_open":
            yield _Bullet(section, shown, comments, line)
        else:
            yield from _stray(token.content, line)


def _without_comments(token: Token) -> tuple[str, tuple[str, ...]]:
    """The Markdown that is shown, on one line, and the comments that are not."""
    comments = tuple(
        found[1].strip()
        for child in token.children or ()
        if child.type == "html_inline" and (found := _COMMENT.fullmatch(child.content))
    )
    shown = token.content
    for child in token.children or ():
        if child.type == "html_inline" and _COMMENT.fullmatch(child.content):
            shown = shown.replace(child.content, " ", 1)
    return " ".join(shown.split()), comments


def _item(bullet: _Bullet) -> Iterator[ChecklistItem]:
    """The checklist item that a bullet is, if it is one."""
    box = _BOX.match(bullet.text)
    if box is None:
        if _LIKE_A_BOX.match(bullet.text):
            raise _bad(
                bullet.line,
                f"{bullet.text[:60]!r} is not an open item: write '- [ ] ' and its text. An item "
                "is signed in the run, never ticked in the runbook",
            )
        if bullet.comments and _binding(bullet):
            raise _bad(bullet.line, "a comment binds a line that is not a '- [ ]' item")
        return
    text, binding = bullet.text[box.end() :], _binding(bullet)
    if binding is None:
        yield ChecklistItem(
            bullet.section, _slug_id(text, bullet.line), text, bullet.line, Kind.GATE
        )
        return
    if binding.kind is Kind.TRIGGER:
        raise _bad(bullet.line, f"a trigger stands under '## {TRIGGERS_HEADING}', without a box")
    yield ChecklistItem(
        bullet.section,
        binding.id,
        text,
        bullet.line,
        binding.kind,
        binding.evidence,
        binding.role,
        binding.approvals,
    )


def _trigger(bullet: _Bullet) -> Trigger:
    binding = _binding(bullet)
    if binding is None:
        return Trigger(_slug_id(bullet.text, bullet.line), bullet.text, bullet.line)
    if binding.kind is not Kind.TRIGGER:
        raise _bad(bullet.line, f"expected <!-- trigger: … --> here, found {binding.kind}")
    return Trigger(binding.id, bullet.text, bullet.line)


def _binding(bullet: _Bullet) -> _Binding | None:
    """What a bullet's comment says. A second comment, or one that binds nothing, is an error."""
    if not bullet.comments and "<!--" in bullet.text:
        raise _bad(bullet.line, "a comment has to end with --> on its own item")
    if not bullet.comments:
        return None
    if len(bullet.comments) > 1:
        raise _bad(bullet.line, f"{len(bullet.comments)} comments, one is allowed")
    found = _BINDING.fullmatch(bullet.comments[0])
    if found is None:
        example = "gate: an-id evidence=tests"
        raise _bad(
            bullet.line, f"<!-- {bullet.comments[0]} --> binds nothing: write <!-- {example} -->"
        )
    kind = Kind(_known(found["kind"], Kind, bullet.line, "comment"))
    if not _ID.fullmatch(found["id"]):
        raise _bad(
            bullet.line,
            f"{found['id']!r} is not an id: lower-case letters, digits and -, 48 at most",
        )
    return _Binding(kind, found["id"], **_options(kind, found["options"].split(), bullet.line))


def _options(kind: Kind, options: Iterable[str], line: int) -> dict[str, Any]:
    """What follows an id, each key once. Only a gate has any."""
    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise _bad(line, f"{option!r} is not expected here: only key=value follows an id")
        _known(key, _KEYS if kind is Kind.GATE else (), line, "key")
        if key in found:
            raise _bad(line, f"{key} is given twice")
        if key == "evidence":
            found[key] = EvidenceSource(_known(value, EvidenceSource, line, "evidence"))
        elif key == "role":
            found[key] = _role(value, line)
        else:
            found[key] = _approvals(value, line)
    return found


def _role(value: str, line: int) -> str:
    try:
        return checked_name(value, "role")
    except BadRequest as error:
        raise _bad(line, error.what) from None


def _approvals(value: str, line: int) -> int:
    if not re.fullmatch("[1-9]", value):
        raise _bad(line, f"approvals={value}: expected a number of people, 1 to 9")
    return int(value)


def _known(word: str, known: Iterable[str], line: int, what: str) -> str:
    """Return ``word`` if it is known. Raises BadConfiguration naming the nearest known one."""
    names = [str(name) for name in known]
    if word in names:
        return word
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    there_is = f"did you mean {near[0]}?" if near else f"there is: {', '.join(names) or 'none'}"
    raise _bad(line, f"{what} {word!r} is unknown; {there_is}")


def slug(text: str) -> str:
    """``text`` in lower-case letters, digits and ``-``, 48 at most; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].rstrip("-")


def _slug_id(text: str, line: int) -> str:
    found = slug(text)
    if not found:
        raise _bad(line, f"no id can be made of {text!r}: add <!-- gate: an-id --> to the line")
    return found


def _stray(markup: str, line: int) -> Iterator[Problem]:
    """The comments that look like a binding and stand where they bind nothing."""
    for comment in _COMMENT.findall(markup):
        if re.match(rf"\s*({'|'.join(Kind)})\s*:", comment):
            yield Problem(line, f"<!--{comment}--> binds nothing: it has to end a list item's line")


def _duplicates(entries: Iterable[ChecklistItem | Trigger]) -> Iterator[Problem]:
    seen: dict[tuple[type, str], int] = {}
    for entry in entries:
        first = seen.setdefault((type(entry), entry.id), entry.line)
        if first != entry.line:
            yield Problem(entry.line, f"the id {entry.id!r} is taken by line {first}")


def _bad(line: int, what: str) -> _Unreadable:
    return _Unreadable(line, what)


# --- numbers --------------------------------------------------------------------------------------

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|seconds?|min|minutes?|h|hours?)\b")
_PERCENT = re.compile(r">\s*(\d+(?:\.\d+)?)\s*%")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def thresholds(runbook: Runbook) -> Thresholds:
    """The numbers of the trigger conditions and of the watch, as the runbook's text has them."""
    triggers = {trigger.id: trigger.text for trigger in runbook.triggers}
    items = {item.id: item.text for item in runbook.items}
    error_rate = triggers.get(TriggerId.ERROR_RATE, "")
    percent = _PERCENT.search(error_rate)
    return Thresholds(
        health_sustained_for=_length(triggers.get(TriggerId.HEALTH, "")),
        error_rate_ceiling=float(percent[1]) / 100 if percent else None,
        error_rate_sustained_for=_length(error_rate),
        watch=_length(items.get(PostStep.WATCH_ERROR_RATE, "")),
    )


def _length(text: str) -> timedelta | None:
    found = _LENGTH.search(text)
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2][0]]) if found else None
