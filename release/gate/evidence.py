"""Evidence: what the systems say about a checklist's items, asked when a gate opens.

It is one of passed, failed and unknown. Unknown is never green: where a person decides, they see
it; where evidence decides, it stops the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from release.duration import say_duration
from release.migration.rehearsal.compatibility import RollbackVerdict
from release.migration.rehearsal.outcome import Rehearsal
from release.model import Baseline, Probe
from release.wording import count_of


class EvidenceSource(StrEnum):
    """What can speak for an item. The value is what RUNBOOK.md says after ``evidence=``."""

    TESTS = "tests"
    STAGING_HEALTH = "staging-health"
    MIGRATIONS_IN_STAGING = "migrations-in-staging"
    ROLLBACK_PLAN = "rollback-plan"
    ON_CALL = "on-call"


class EvidenceVerdict(StrEnum):
    """What evidence says about its item."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a source said when it was asked."""

    verdict: EvidenceVerdict
    value: str  # one line: what was found, measured against what is needed
    source: str  # who was asked; "" if there is nobody to ask here
    link: str = ""  # where a person can look for themselves; "" if there is no page


@dataclass(frozen=True, slots=True)
class Evidence:
    """A finding about one item, at one time."""

    item: str
    verdict: EvidenceVerdict
    value: str
    source: str  # "" if there was nobody to ask
    at: datetime
    link: str = ""
    expires_at: datetime | None = None  # from then on it is stale


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check of a commit came to."""

    name: str
    state: str  # success, failure, pending, …: the forge's word
    link: str = ""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a program that was asked ended."""

    program: str
    code: int
    last_line: str


@dataclass(frozen=True, slots=True)
class Issue:
    """An open issue."""

    number: str
    title: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Staging:
    """What staging shows."""

    health: Probe
    version: str  # that it says it runs; "" if it did not say
    error_rate: float | None  # fraction: 5xx / all responses; None: not measured
    issues: Sequence[Issue] | None  # the open critical ones; None: there is no forge to ask


@dataclass(frozen=True, slots=True)
class WayBack:
    """What a rollback to the baseline would find."""

    baseline: Baseline
    on_host: bool  # its image
    in_registry: bool
    contract: Sequence[str] = ()  # names of the migrations that run after the watch
    rehearsal: str = ""  # when something was last rolled back; "" if nobody knows of it
    schema: tuple[RollbackVerdict, str] = (RollbackVerdict.SAFE, "")  # the plan's, on the new one


@dataclass(frozen=True, slots=True)
class Message:
    """A message that reached the pager."""

    acknowledged_by: str = ""  # "": nobody has, so far
    at: datetime | None = None  # when it was acknowledged
    link: str = ""


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is on call."""

    name: str
    until: datetime | None = None
    link: str = ""


_GOOD_STATES = ("success", "neutral", "skipped")
_FAILED_STATES = (
    *("failure", "error", "cancelled", "timed_out", "action_required", "startup_failure", "stale"),
    "warning",  # Gitea
)
_NAMED = 3  # things that a sentence names; the link has them all


def say_evidence(evidence: Sequence[Evidence]) -> str:
    """What speaks for the items, in one line."""
    return "; ".join(f"{one.item} {one.verdict}" for one in evidence) or "none"


def nobody_to_ask(why: str) -> Finding:
    """The finding if an item names a source that does not exist here."""
    return Finding(EvidenceVerdict.UNKNOWN, why, "")


def no_answer(why: str, source: str) -> Finding:
    """The finding if a source was asked and did not answer."""
    return Finding(EvidenceVerdict.UNKNOWN, why, source)


def undecided(findings: Mapping[str, Finding]) -> tuple[str, ...]:
    """The items worth asking about again: their source exists and has said neither yes nor no.

    None as soon as one has failed, because that decides.
    """
    if any(finding.verdict is EvidenceVerdict.FAILED for finding in findings.values()):
        return ()
    return tuple(
        item
        for item, finding in findings.items()
        if finding.verdict is EvidenceVerdict.UNKNOWN and finding.source
    )


def judge_checks(checks: Sequence[CheckResult], source: str, link: str = "") -> Finding:
    """Every check of a commit has ended well. None at all is not health, and waiting is not done.

    ``success``, ``neutral`` and ``skipped`` are well (GitHub's conclusions).
    """
    bad = [one for one in checks if one.state in _FAILED_STATES]
    if bad:
        names = ", ".join(f"{one.name}: {one.state}" for one in bad[:_NAMED])
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        return Finding(EvidenceVerdict.FAILED, names + more, source, bad[0].link or link)
    undecided = [one for one in checks if one.state not in _GOOD_STATES]
    if undecided:
        names = ", ".join(f"{one.name}: {one.state}" for one in undecided[:_NAMED])
        return Finding(
            EvidenceVerdict.UNKNOWN,
            f"{len(undecided)} of {count_of(len(checks), 'check')} undecided: {names}",
            source,
            undecided[0].link or link,
        )
    passed = sum(one.state == "success" for one in checks)
    if not passed:
        return Finding(EvidenceVerdict.UNKNOWN, "no check ran on this commit", source, link)
    sentence = f"{count_of(passed, 'check')} passed"
    return Finding(EvidenceVerdict.PASSED, sentence, source, link or checks[0].link)


def judge_tests_command(result: CommandResult) -> Finding:
    """The command that was asked about the tests ended with 0."""
    last = f": {result.last_line}" if result.last_line else ""
    verdict = EvidenceVerdict.FAILED if result.code else EvidenceVerdict.PASSED
    return Finding(verdict, f"exit code {result.code}{last}", result.program)


def judge_staging(found: Staging, ceiling: float, source: str, link: str = "") -> Finding:
    """Staging has no critical issue: none is reported, it is healthy and serves without errors.

    ``ceiling`` is the highest error rate allowed, a fraction. Rate and issues have to be known;
    otherwise it is unknown whether there is a critical issue.
    """
    health, version, error_rate = found.health, found.version, found.error_rate
    issues = found.issues
    if issues:
        named = ", ".join(f"#{one.number} {one.title}" for one in issues[:_NAMED])
        return Finding(
            EvidenceVerdict.FAILED,
            f"{count_of(len(issues), 'critical issue')} open: {named}",
            source,
            issues[0].link or link,
        )
    if not health.ok:
        status = health.status or "no answer"
        detail = f", {health.detail}" if health.detail else ""
        return Finding(EvidenceVerdict.FAILED, f"health check: {status}{detail}", source, link)
    if not version:
        return Finding(EvidenceVerdict.FAILED, "healthy, but it names no version", source, link)
    if error_rate is not None and error_rate > ceiling:
        sentence = f"error rate {error_rate:.1%} > {ceiling:.1%}, serves {version}"
        return Finding(EvidenceVerdict.FAILED, sentence, source, link)
    rate = "not measured" if error_rate is None else f"{error_rate:.1%}"
    asked = "issues not asked: no forge configured" if issues is None else "no critical issue"
    sentence = f"healthy, serves {version}, error rate {rate}; {asked}"
    known = error_rate is not None and issues is not None
    verdict = EvidenceVerdict.PASSED if known else EvidenceVerdict.UNKNOWN
    return Finding(verdict, sentence, source, link)


def judge_migrations_in_staging(
    pending: Mapping[str, str],
    applied: Mapping[str, str],
    source: str,
    link: str = "",
    rehearsal: Rehearsal | None = None,
) -> Finding:
    """Each pending file has run in staging, byte for byte, and did not fail when it was rehearsed.

    Both map versions to checksums; an applied "" was recorded by a tool that keeps none.
    """
    problems = [
        f"{version} {_difference(applied.get(version))}"
        for version, checksum in sorted(pending.items())
        if applied.get(version) != checksum
    ]
    if rehearsal and rehearsal.failure:
        problems.append(f"the rehearsal failed: {rehearsal.failure}")
    if problems:
        return Finding(EvidenceVerdict.FAILED, "; ".join(problems), source, link)
    if not pending:
        return Finding(EvidenceVerdict.PASSED, "no migration is pending", source, link)
    sentence = f"{count_of(len(pending), 'pending migration')} applied in staging, same checksums"
    if rehearsal and rehearsal.files:
        sentence += f"; {rehearsal.lines()[0]}"
    return Finding(EvidenceVerdict.PASSED, sentence, source, link)


def _difference(checksum: str | None) -> str:
    if checksum is None:
        return "is not applied in staging"
    if not checksum:
        return "was applied in staging by another tool, which kept no checksum"
    return "ran in staging with different content"


def judge_rollback_plan(way: WayBack, source: str, link: str = "") -> Finding:
    """There is a way back: the baseline's image is on the host and in the registry, and it is not
    known to break on the new schema.

    A contract migration is not in the way: the plan takes only those whose objects the baseline
    does not need (:mod:`release.migration.contract`).
    """
    baseline = way.baseline
    if baseline.release is None:
        return nobody_to_ask("nothing serves there yet, so there is nothing to return to")
    if baseline.image is None:
        sentence = f"{baseline.version} serves from an image without a digest"
        return Finding(EvidenceVerdict.FAILED, sentence, source, link)
    image = f"{baseline.version} ({baseline.image.short})"
    places = {"host's engine": way.on_host, "registry": way.in_registry}
    gone = [place for place, there in places.items() if not there]
    if gone:
        where = " and not in the ".join(gone)
        return Finding(EvidenceVerdict.FAILED, f"{image} is not in the {where}", source, link)
    verdict, why = way.schema
    if verdict is RollbackVerdict.UNSAFE:
        sentence = f"{image} does not run on the new schema: {why}"
        return Finding(EvidenceVerdict.FAILED, sentence, source, link)
    later = "no contract migration is in the way"
    if names := ", ".join(way.contract):
        later = f"{names} runs after the watch, and {baseline.version} does without"
    last = way.rehearsal or "no rollback on record"
    sentence = f"{image} is on the host and in the registry; {later}; {last}"
    return Finding(EvidenceVerdict.PASSED, sentence, source, link)


def say_rehearsal(environment: str, took: timedelta | None, age: timedelta) -> str:
    """When a rollback was last done, and how long it took, in a sentence.

    Its age in days; below one in whole minutes; below one in seconds, at least 1 s.
    """
    seconds = f" in {say_duration(took)}" if took is not None else ""
    whole = max(1, age.seconds if age.seconds < 60 else age.seconds // 60 * 60)
    since = f"{age.days} d" if age.days else say_duration(timedelta(seconds=whole))
    return f"last rolled back {since} ago on {environment}{seconds}"


def judge_message(message: Message | None, source: str) -> Finding:
    """On-call was told of this run and has acknowledged it."""
    if message is None:
        return Finding(EvidenceVerdict.UNKNOWN, "the pager has no message from this run", source)
    if not message.acknowledged_by:
        sentence = "the message of this run was delivered, but nobody has acknowledged it"
        return Finding(EvidenceVerdict.UNKNOWN, sentence, source, message.link)
    at = f" at {message.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if message.at else ""
    sentence = f"{message.acknowledged_by} acknowledged the message of this run{at}"
    return Finding(EvidenceVerdict.PASSED, sentence, source, message.link)


def judge_duty(duty: Duty | None, source: str) -> Finding:
    """Somebody is on call now."""
    if duty is None:
        return Finding(EvidenceVerdict.FAILED, "nobody is on call now", source)
    until = f" until {duty.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if duty.until else ""
    return Finding(EvidenceVerdict.PASSED, f"{duty.name} is on call{until}", source, duty.link)


def judge_on_call(message: Finding, duty: Finding | None) -> Finding:
    """On-call is aware: one of them acknowledged the message, or the schedule names somebody.

    ``duty`` is None if no schedule is configured. Otherwise what the schedule says counts unless
    the message was acknowledged, and is told together with it.
    """
    if duty is None or message.verdict is EvidenceVerdict.PASSED:
        return message
    return replace(duty, value=f"{duty.value}; {message.value}")
