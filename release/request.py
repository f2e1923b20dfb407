"""What a person asks for: the form in Prefect's UI, the arguments of the `ignition` command.

Prefect's form is no guard (its schema check can be switched off), so every flow validates its
request again with :func:`checked`. The form shows the fields by their ``position``.
"""

import re
import shlex
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from release.errors import BadRequest
from release.git_ref import checked_ref
from release.model import ImageRef, ReleaseKind, parse_version

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class DeployRequest(BaseModel):
    """A deployment, as a release manager asks for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(
        default="",
        title="Version",
        description="vMAJOR.MINOR.PATCH, such as v1.2.3. Leave empty for a branch deployment.",
        json_schema_extra={"position": 0},
    )
    kind: ReleaseKind = Field(
        default=ReleaseKind.TAG,
        title="Kind of release",
        description="tag: tag the commit and deploy that. branch: deploy the branch as it is.",
        json_schema_extra={"position": 1},
    )
    ref: str = Field(
        default="main",
        title="Branch or commit",
        description="What to release. A tag that exists already must stand on this commit.",
        json_schema_extra={"position": 2},
    )
    started_by: str = Field(
        default="",
        title="Your name",
        description="Written into the deployment log, as a claim: the server cannot prove it.",
        json_schema_extra={"position": 3},
    )
    ticket: str = Field(
        default="",
        title="Ticket",
        description="The deployment ticket to close at the end; empty for none.",
        json_schema_extra={"position": 4},
    )
    notes: str = Field(
        default="",
        title="Notes",
        description="One line for the deployment log.",
        json_schema_extra={"position": 5},
    )
    dry_run: bool = Field(
        default=False,
        title="Plan only",
        description="Show what would happen, change nothing.",
        json_schema_extra={"position": 6},
    )


class RollbackRequest(BaseModel):
    """A rollback, as on-call asks for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(
        title="Reason",
        description="Why, in one line: 'P0: orders are charged twice'.",
        json_schema_extra={"position": 0},
    )
    to: str = Field(
        default="",
        title="Version to return to",
        description="A version, or an image by digest. Empty: the release that served before.",
        json_schema_extra={"position": 1},
    )
    started_by: str = Field(
        default="",
        title="Your name",
        description="For the deployment log.",
        json_schema_extra={"position": 2},
    )


def checked(request: DeployRequest) -> DeployRequest:
    """Return ``request`` if it can be acted upon. Raises BadRequest with the field's name."""
    if request.kind is ReleaseKind.TAG and not request.version:
        raise BadRequest(
            "version: a release needs one, such as v1.2.3, unless it is a branch deployment",
            "ignition deploy v1.2.3 --to staging, or: ignition deploy --branch NAME --to staging",
        )
    if request.kind is ReleaseKind.TAG:
        checked_ref(parse_version(request.version))
    elif request.version:
        raise BadRequest(
            f"version: a branch deployment takes no version, but got {request.version!r}",
            f"ignition deploy --branch {shlex.quote(request.ref)} --to staging",
        )
    checked_ref(request.ref)
    _one_line("ticket", request.ticket)
    _one_line("notes", request.notes)
    _one_line("started_by", request.started_by)
    return request


def checked_rollback(request: RollbackRequest, environment: str) -> RollbackRequest:
    """Return ``request`` if it can be acted upon. Raises BadRequest, whose hint can be typed as it
    is: it names the ``environment`` that was to be rolled back, and no other.
    """
    if not request.reason.strip():
        raise BadRequest(
            "reason: a rollback needs one line that says why",
            f'ignition rollback {environment} --reason "P0: …"',
        )
    _one_line("reason", request.reason)
    _one_line("started_by", request.started_by)
    if "@" in request.to:
        ImageRef.parse(request.to)
    elif request.to:
        checked_ref(request.to)
    return request


def refuse_own_variables(given: Mapping[str, object], usual: Mapping[str, object]) -> None:
    """Raise BadRequest if a run was started with job variables that its deployment does not have.

    They are variables of the process and could switch a gate off, and Prefect's form lets anybody
    set them. ``usual`` are the deployment's, which the form sends along.
    """
    own = sorted(name for name in given if name not in usual or given[name] != usual[name])
    if own:
        raise BadRequest(
            f"this run was started with job variables of its own ({', '.join(own)}), "
            "and none is allowed",
            "start it without; what a run does is configured in ignition.toml",
        )


def checked_name(name: str, what: str) -> str:
    """Return ``name`` if it can name an environment or a service: it never starts with ``-``."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name!r} is not a valid {what}: lower-case letters, digits and -, 32 at most"
        )
    return name


def name_of(flow: str, what: str, environment: str, *, dry_run: bool = False) -> str:
    """A run's name while it runs: ``v1.2.3 → production``, ``rollback of production to v1.2.3``.

    An image is named by the first digits of its digest, if its version is not known.
    """
    repository, _, digest = what.partition("@")
    shown = f"{digest[:14]}…" if digest else repository
    if flow == "watch":
        return f"watch of {environment}"
    if flow == "rollback":
        return f"rollback of {environment}" + (f" to {shown}" if shown else "")
    name = f"{shown or flow} → {environment}"
    return f"dry run of {name}" if dry_run else name


def tags_of(environment: str, version: str) -> set[str]:
    """The tags by which a run is found. An image by its digest is not a version."""
    known = version and "@" not in version
    return {f"env:{environment}"} | ({f"version:{version}"} if known else set())


def start_again(flow: str, request: Mapping[str, object], environment: str) -> str:
    """The command that starts such a run once more, as a shell takes it: a dry run stays one."""
    there = shlex.quote(environment)
    if flow == "deploy":
        ref = str(request.get("ref") or "main")
        branch = request.get("kind") == ReleaseKind.BRANCH
        what = ["--branch", ref] if branch else [str(request.get("version") or "VERSION")]
        what += ["--ref", ref] if not branch and ref != "main" else []
        what += ["--dry-run"] if request.get("dry_run") else []
        return f"ignition deploy {shlex.join(what)} --to {there}"
    if flow == "rollback":
        to = f" --to {shlex.quote(str(request['to']))}" if request.get("to") else ""
        return f"ignition rollback {there}{to} --reason …"
    return f"prefect deployment run {shlex.quote(f'{flow}/{environment}')}"


def _one_line(field: str, text: str, limit: int = 500) -> None:
    if len(text) > limit or any(ord(character) < 32 for character in text):
        raise BadRequest(f"{field}: expected one line of at most {limit} characters")
