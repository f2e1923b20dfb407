"""What a deployment is going to do, computed before it does anything."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from release.duration import say_duration
from release.migration.files import MigrationFile
from release.migration.rehearsal.compatibility import RollbackVerdict
from release.migration.rehearsal.outcome import Rehearsal
from release.model import Baseline, ImageRef, Release, ReleaseKind
from release.request import DeployRequest
from release.wording import count_of


@dataclass(frozen=True, slots=True)
class Change:
    """One commit that this release adds to what serves now."""

    revision: str
    subject: str
    author: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A deployment, as a person reads it before signing it."""

    environment: str
    kind: ReleaseKind
    version: str
    revision: str
    ref: str
    baseline: Baseline
    changes: tuple[Change, ...]
    expand: tuple[MigrationFile, ...]
    contract: tuple[MigrationFile, ...]
    outage: timedelta  # expected time without an answer during the rollout; zero with a router
    image: ImageRef | None = None  # built before from the same commit, so it is used again
    waiting: tuple[MigrationFile, ...] = ()  # contract files that a later deployment applies
    waits_for: str = ""  # why they wait
    rehearsal: Rehearsal | None = None  # of the expand files, on a copy of the schema
    unmeasured: tuple[str, ...] = ()  # what the watch cannot ask just now, a sentence each
    left: tuple[str, ...] = ()  # other services of the same image, which are not replaced
    measured_on: str = ""  # what the watch will take the error rate of, in a sentence
    warnings: tuple[str, ...] = ()  # what the lint found in the pending files, a line each

    @property
    def release(self) -> Release:
        """What is to be released; its image is known if it was built before."""
        return Release(self.version, self.revision, self.image)

    @property
    def rollback(self) -> tuple[RollbackVerdict, str]:
        """Whether a code-only rollback is safe, with its sentence."""
        if not self.expand:
            return RollbackVerdict.SAFE, "no schema change before the watch has passed"
        if self.rehearsal is not None:
            return self.rehearsal.verdict
        names = ", ".join(f"{m.version}_{m.name}" for m in self.expand)
        return RollbackVerdict.UNKNOWN, f"declared as expand, not rehearsed: {names}"

    @property
    def nothing_to_do(self) -> str:
        """Why there is nothing to do; empty if there is something."""
        serving = self.baseline.release
        if serving is None or self.expand or self.contract:
            return ""
        if serving.revision != self.revision:
            return ""
        if self.kind is ReleaseKind.TAG and serving.version != self.version:
            return ""
        return (
            f"{self.environment} serves {serving.version} ({self.revision[:12]}) already "
            "and no migration is pending"
        )

    @property
    def fingerprint(self) -> str:
        """What is signed when the plan is: SHA-256 in hex over everything that it would do.

        Two plans that differ in the version, commit, baseline or a migration's content differ.
        """
        parts = [
            self.environment,
            self.kind.value,
            self.version,
            self.revision,
            str(self.image or ""),
            str(self.baseline.image or self.baseline.version),
            *(f"{file.version} {file.checksum}" for file in (*self.expand, *self.contract)),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def lines(self) -> list[str]:
        """The plan in six lines, as the gate shows it; one more for each thing that is left out."""
        verdict, why = self.rollback
        commits = count_of(len(self.changes), "commit")
        built = "used again from the registry" if self.image else "built from a clean export"
        rollout = (
            f"plain restart, about {say_duration(self.outage)} without an answer"
            if self.outage
            else "rolling, no request refused"
        )
        return [
            f"**{self.environment}**: {self.baseline.version} → **{self.version}** "
            f"(`{self.revision[:12]}`, {self.kind} from {_code(self.ref)}, {commits})",
            f"image: {built}",
            f"migrations: {_names(self.expand) or 'none'}"
            + (f"; after the watch: {_names(self.contract)}" if self.contract else "")
            + (f"; not yet: {_names(self.waiting)} ({self.waits_for})" if self.waiting else ""),
            f"rollout: {rollout}",
            f"code-only rollback to {self.baseline.version}: {verdict} ({why})",
            *([self.measured_on] if self.measured_on else []),
            *(
                f"not replaced: {name}, which runs the same image and keeps the release that it "
                f"has until somebody types `docker compose up -d {name}`"
                for name in self.left
            ),
            *(f"the watch may miss something: {sentence}" for sentence in self.unmeasured),
        ]

    def markdown(self) -> str:
        """The plan as an artifact."""
        changes = "\n".join(
            f"| `{c.revision[:12]}` | {_cell(c.subject)} | {_cell(c.author)} |"
            for c in self.changes
        )
        head = "\n".join(f"- {line}" for line in self.lines())
        measured = _measured(self.baseline)
        warnings = "".join(f"- {_cell(line)}\n" for line in self.warnings)
        return (
            f"# Plan: {self.version} to {self.environment}\n\n{head}\n- baseline: {measured}\n\n"
            + (f"## What the migrations may do to traffic\n\n{warnings}\n" if warnings else "")
            + (
                f"| Commit | Subject | Author |\n|---|---|---|\n{changes}\n"
                if self.changes
                else "No commits that the baseline does not have.\n"
            )
        )


def version_of_branch(ref: str, revision: str) -> str:
    """Name a branch deployment: the branch as a tag may hold it, and the commit.

    At most 128 characters, the limit of an image tag (OCI distribution specification).
    """
    slug = re.sub(r"[^0-9A-Za-z]+", "-", ref).strip("-").lower() or "branch"
    return f"{slug[:100]}-{revision[:12]}"


def planned_version(request: DeployRequest, revision: str) -> str:
    """The version that a request will be known by."""
    if request.kind is ReleaseKind.TAG:
        return request.version
    return version_of_branch(request.ref, revision)


def _code(text: str) -> str:
    """A code span, which shows a text as it is: git takes a backtick or a ``<`` in a name.

    Source: CommonMark, 6.1: its fence is longer than any run of backticks inside.
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"


def _names(files: Sequence[MigrationFile]) -> str:
    return ", ".join(f"`{file.version}_{file.name}`" for file in files)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _measured(baseline: Baseline) -> str:
    rate = "unknown" if baseline.error_rate is None else f"{baseline.error_rate:.2%}"
    p95 = "unknown" if baseline.p95 is None else say_duration(baseline.p95)
    image = baseline.image.short if baseline.image else "no digest"
    return (
        f"{baseline.version} ({image}), {count_of(len(baseline.instances), 'instance')}, schema "
        f"{baseline.schema_version or 'empty'}, error rate {rate}, p95 {p95}"
    )
