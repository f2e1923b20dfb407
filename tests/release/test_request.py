"""What a person may ask for. Prefect's form is no guard, so this is."""

import shlex
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from release.errors import BadRequest
from release.model import ReleaseKind
from release.request import (
    DeployRequest,
    RollbackRequest,
    checked,
    checked_name,
    checked_ref,
    checked_rollback,
    refuse_own_variables,
)

DIGEST = "sha256:" + "0" * 64


def test_a_tag_deployment_of_main_is_the_ordinary_request() -> None:
    request = DeployRequest(version="v1.2.3")

    assert checked(request) is request
    assert (request.kind, request.ref, request.dry_run) == (ReleaseKind.TAG, "main", False)


def test_a_branch_deployment_takes_no_version() -> None:
    checked(DeployRequest(kind=ReleaseKind.BRANCH, ref="feature/login"))

    with pytest.raises(BadRequest) as refused:
        checked(DeployRequest(kind=ReleaseKind.BRANCH, ref="feature/login", version="v1.2.3"))

    assert refused.value.what == "version: a branch deployment takes no version, but got 'v1.2.3'"
    assert refused.value.hint == "ignition deploy --branch feature/login --to staging"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "version: a release needs one"),
        ({"version": "1.2.3"}, "'1.2.3' is not a valid version"),
        ({"version": "v1.2.3-x.lock"}, "'v1.2.3-x.lock' is not a branch, tag or commit name"),
        ({"version": "v1.2.3", "ref": "--upload-pack=x"}, "'--upload-pack=x' is not a branch"),
        ({"version": "v1.2.3", "notes": "two\nlines"}, "notes: expected one line"),
        ({"version": "v1.2.3", "notes": "x" * 501}, "notes: expected one line of at most 500"),
        ({"version": "v1.2.3", "started_by": "Ada\x1b[2J"}, "started_by: expected one line"),
        ({"version": "v1.2.3", "ticket": "1\r\nX: y"}, "ticket: expected one line"),
    ],
)
def test_a_request_that_cannot_be_acted_upon_names_its_field(
    fields: dict[str, str], sentence: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        checked(DeployRequest(**fields))  # type: ignore[arg-type]

    assert refused.value.what.startswith(sentence)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        DeployRequest(version="v1.2.3", force=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "ref",
    [
        *("main", "v1.2.3", "feature/login", "release-1.x", "a" * 40, "0f3a2b1", "_private"),
        *("hotfix+1", "größe", "issue=5", "@types/x", "#123", "日本語", "a@b", "x`y`", "it's"),
        *("$(id)", "a;id", "a|b", "<b>", '"', "a" * 250, "a/-b", "x.locked", "%41"),
    ],
)
def test_what_git_accepts_is_a_branch_tag_or_commit(ref: str) -> None:
    assert git_accepts(ref)
    assert checked_ref(ref) == ref


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "-",
        "-main",
        "--upload-pack=x",
        "a..b",
        "a...b",
        "x.lock",
        "x/",
        "x.",
        "a//b",
        "/a",
        ".hidden",
        "main~1",
        "main^",
        "main@{1}",
        "HEAD:secret",
        "a b",
        "a\nb",
        "main\n",
        "a\0b",
        "a*",
        "a[b",
        "a?b",
        "a\\b",
        "@",
        "a/.b",
        "a.lock/b",
        "a\x7f",
        "a\tb",
        "a" * 251,
        "ä" * 126,
        "a/" * 600 + "a",
    ],
)
def test_options_ranges_and_what_git_refuses_are_no_refs(ref: str) -> None:
    with pytest.raises(BadRequest, match="is not a branch, tag or commit name"):
        checked_ref(ref)


@pytest.mark.parametrize(
    "ref",
    ["a\u202eb", "a\u2066b", "a\u200fb", "a\x85b", "a\u2028b", "a\u2029b", "a\x9bb", "a\udcff"],
)
def test_what_would_make_a_line_be_read_as_another_is_refused_although_git_accepts_it(
    ref: str,
) -> None:
    """The plan that people sign names the branch."""
    with pytest.raises(BadRequest, match=r"a character that cannot be read, U\+[0-9A-F]{4}$"):
        checked_ref(ref)


def git_accepts(ref: str) -> bool:
    """Whether the real git takes it for a branch or tag."""
    done = subprocess.run(["git", "check-ref-format", f"refs/heads/{ref}"], check=False)
    return done.returncode == 0


# What the rules are about, and what is like it.
PIECES = st.sampled_from(
    [*"ab@{}./\\~^:?*[]-+=#ä日 $;'`\t\x7f", "..", "//", ".lock", ".lock/", "@{", "/.", "-", "HEAD"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=6).map("".join))
@example("a.lock")
@example("@")
def test_a_name_is_accepted_exactly_where_git_accepts_it_and_it_is_no_option(ref: str) -> None:
    try:
        accepted = checked_ref(ref) == ref
    except BadRequest:
        accepted = False

    assert accepted == (git_accepts(ref) and not ref.startswith("-") and ref != "@")


@given(st.text())
def test_a_ref_is_never_an_option_a_range_or_two_lines(ref: str) -> None:
    try:
        checked_ref(ref)
    except BadRequest:
        return
    assert not ref.startswith("-")
    assert ".." not in ref
    assert len(ref.splitlines()) == 1
    assert ref.encode()


def test_a_hint_with_a_name_can_be_typed_as_it_is() -> None:
    with pytest.raises(BadRequest) as refused:
        checked(DeployRequest(kind=ReleaseKind.BRANCH, ref="#123; id", version="v1.2.3"))

    assert shlex.split(refused.value.hint) == [
        *("ignition", "deploy", "--branch", "#123; id", "--to", "staging")
    ]


@pytest.mark.parametrize("name", ["production", "eu-west-1", "a", "a" * 32])
def test_an_environments_name_is_lower_case(name: str) -> None:
    assert checked_name(name, "environment name") == name


@pytest.mark.parametrize(
    "name", ["", "-x", "--help", "Production", "1a", "a_b", "a.b", "a/b", "a" * 33, "ä", "a\n"]
)
def test_what_could_be_an_option_a_path_or_a_variable_is_no_name(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        checked_name(name, "environment name")

    assert refused.value.what.startswith(
        f"{name!r} is not a valid environment name: lower-case letters"
    )


@pytest.mark.parametrize("to", ["", "v1.0.0", f"localhost:5000/api@{DIGEST}", "nothing"])
def test_a_rollback_goes_to_a_version_a_digest_or_what_served_before(to: str) -> None:
    request = RollbackRequest(reason="P0: orders are charged twice", to=to)

    assert checked_rollback(request, "production") is request


@pytest.mark.parametrize("reason", ["", "   ", "\t"])
def test_a_rollback_without_a_reason_is_refused(reason: str) -> None:
    with pytest.raises(BadRequest) as refused:
        checked_rollback(RollbackRequest(reason=reason), "staging")

    assert refused.value.what == "reason: a rollback needs one line that says why"
    assert refused.value.hint.startswith("ignition rollback staging --reason")


@pytest.mark.parametrize("to", ["--all", "a..b", "api@latest", f"-x@{DIGEST}", f"a\nB=1@{DIGEST}"])
def test_a_rollback_to_an_option_or_half_a_digest_is_refused(to: str) -> None:
    with pytest.raises(BadRequest):
        checked_rollback(RollbackRequest(reason="P0", to=to), "production")


USUAL = {"stream_output": False, "command": "python -m prefect.engine"}


@pytest.mark.parametrize("given", [{}, {"stream_output": False}, USUAL])
def test_the_deployment_s_own_job_variables_may_be_sent_along(given: dict[str, object]) -> None:
    refuse_own_variables(given, USUAL)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"env": {"IGNITION_APPROVERS__FILE": "mine"}}, "env"),
        ({**USUAL, "command": "true", "env": {}}, "command, env"),
    ],
)
def test_other_job_variables_are_refused_by_name(given: dict[str, object], named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        refuse_own_variables(given, USUAL)
    assert f"job variables of its own ({named}), and none is allowed" in refused.value.what
