"""The repository block against real git repositories."""

import os
import subprocess
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from blocks.repository import Repository
from release.errors import BadConfiguration, BadRequest, SourceRefused, Unreachable


def unchecked(url: str, workspace: Path) -> Repository:
    """A block as no configuration makes it: its address is not looked at."""
    return Repository.model_construct(url=url, workspace=workspace)


@pytest.fixture(autouse=True)
def _nobodys_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git without the settings of whoever runs the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")


class Origin:
    """A bare remote, and a developer's work tree that pushes to it."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "origin.git"
        self.tree = folder / "work"
        self.run("init", "--quiet", "--bare", "--initial-branch=main", str(self.bare), at=folder)
        self.run("init", "--quiet", "--initial-branch=main", str(self.tree), at=folder)
        self.run("remote", "add", "origin", str(self.bare))
        self.first = self.commit("README", "one\n", "First")

    def run(self, *arguments: str, at: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=at or self.tree, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, path: str, content: str, subject: str, branch: str = "main") -> str:
        """Commit a file and push the branch; returns the commit."""
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        self.run("add", "--all")
        self.run("commit", "--quiet", "-m", subject)
        self.run("push", "--quiet", "--force", "origin", f"HEAD:{branch}")
        return self.run("rev-parse", "HEAD")

    def tag(self, name: str, commit: str = "HEAD") -> None:
        self.run("tag", "-a", "-m", name, name, commit)
        self.run("push", "--quiet", "origin", f"refs/tags/{name}")

    def refs(self) -> dict[str, str]:
        """Every ref of the remote with the commit it leads to."""
        lines = self.run("for-each-ref", "--format=%(refname)", at=self.bare).splitlines()
        return {ref: self.run("rev-parse", f"{ref}^0", at=self.bare) for ref in lines}

    def refuses(self, sentence: str) -> None:
        """From now on the remote rejects every push, as a protected tag does."""
        hook = self.bare / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho '{sentence}' >&2\nexit 1\n")
        hook.chmod(0o755)

    def accepts(self) -> None:
        (self.bare / "hooks" / "pre-receive").unlink()


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path)


@pytest.fixture
def repository(origin: Origin, tmp_path: Path) -> Repository:
    return Repository(url=str(origin.bare), workspace=tmp_path / "worker" / "mirror.git")


def tags_of(repository: Repository) -> list[str]:
    command = ["git", "-C", str(repository.workspace), "tag", "--list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


# ── Names ────────────────────────────────────────────────────────────────────────────────────────


def test_a_branch_a_tag_and_a_commit_resolve_to_the_full_commit(
    origin: Origin, repository: Repository
) -> None:
    origin.tag("v1.0.0")
    second = origin.commit("README", "two\n", "Second")
    repository.fetch()

    assert repository.resolve("main") == second
    assert repository.resolve("v1.0.0") == origin.first
    assert repository.resolve(origin.first) == origin.first
    assert repository.resolve(origin.first[:9]) == origin.first


def test_a_branch_wins_over_a_tag_of_the_same_name(origin: Origin, repository: Repository) -> None:
    origin.tag("stable")
    second = origin.commit("README", "two\n", "Second", branch="stable")
    repository.fetch()

    assert repository.resolve("stable") == second


def test_a_branch_that_moved_is_seen_after_the_next_fetch(
    origin: Origin, repository: Repository
) -> None:
    repository.fetch()
    second = origin.commit("README", "two\n", "Second")
    assert repository.resolve("main") == origin.first

    repository.fetch()

    assert repository.resolve("main") == second


LOCKS = ["refs/remotes/origin/main.lock", "packed-refs.lock"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_a_killed_git_left_is_removed(
    origin: Origin, repository: Repository, lock: str
) -> None:
    origin.tag("v1.0.0")
    repository.fetch()
    left = repository.workspace / lock
    left.touch()
    os.utime(left, (0, 0))
    origin.run("push", "--quiet", "--delete", "origin", "v1.0.0")  # so packed-refs is written
    second = origin.commit("README", "two\n", "Second")

    repository.fetch()

    assert repository.resolve("main") == second
    assert not left.exists()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_a_git_at_work_may_hold_is_respected(
    origin: Origin, repository: Repository, lock: str
) -> None:
    origin.tag("v1.0.0")
    repository.fetch()
    held = repository.workspace / lock
    held.touch()
    origin.run("push", "--quiet", "--delete", "origin", "v1.0.0")
    origin.commit("README", "two\n", "Second")

    with pytest.raises(Unreachable, match="lock"):
        repository.fetch()

    assert held.exists()


@pytest.mark.parametrize("ref", ["no-such-branch", "v9.9.9", "0" * 40, "HEAD", "FETCH_HEAD"])
def test_a_name_that_the_remote_does_not_have_is_refused(
    repository: Repository, origin: Origin, ref: str
) -> None:
    """FETCH_HEAD and HEAD are names of the worker's mirror, not of the remote."""
    repository.fetch()

    with pytest.raises(SourceRefused) as refused:
        repository.resolve(ref)

    assert refused.value.what == f"{origin.bare} has no branch, tag or commit {ref!r}"
    assert refused.value.hint == f"git ls-remote {origin.bare}"


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch x", "-main", "main..other", "main~1", "main:README", "x.lock", ""]
)
def test_an_option_or_a_range_never_reaches_git(repository: Repository, ref: str) -> None:
    repository.fetch()

    for ask in (repository.resolve, repository.tag_revision, repository.fast_forward):
        with pytest.raises(BadRequest, match="is not a branch, tag or commit name"):
            ask(ref)
    with pytest.raises(BadRequest):
        repository.push_tag(ref, repository.resolve("main"))


def test_a_branch_that_was_deleted_is_gone_after_the_next_fetch(
    origin: Origin, repository: Repository
) -> None:
    origin.commit("README", "two\n", "Second", branch="feature")
    repository.fetch()
    origin.run("push", "--quiet", "origin", ":feature")

    repository.fetch()

    with pytest.raises(SourceRefused):
        repository.resolve("feature")


# ── Tags ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_tag_is_annotated_and_pushed(origin: Origin, repository: Repository) -> None:
    assert repository.push_tag("v1.0.0", origin.first) is True

    assert origin.refs()["refs/tags/v1.0.0"] == origin.first
    assert origin.run("cat-file", "-t", "v1.0.0", at=origin.bare) == "tag"
    message = origin.run(
        "for-each-ref", "--format=%(contents:subject)", "refs/tags", at=origin.bare
    )
    assert message == "Release v1.0.0"


def test_a_tag_can_be_pushed_where_nobody_configured_a_name(
    origin: Origin, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")

    assert repository.push_tag("v1.0.0", origin.first) is True


def test_pushing_the_same_tag_again_does_nothing(origin: Origin, repository: Repository) -> None:
    repository.push_tag("v1.0.0", origin.first)
    before = origin.run("rev-parse", "v1.0.0", at=origin.bare)

    assert repository.push_tag("v1.0.0", origin.first) is False
    assert origin.run("rev-parse", "v1.0.0", at=origin.bare) == before


def test_a_lightweight_tag_on_the_commit_counts_as_there(
    origin: Origin, repository: Repository
) -> None:
    origin.run("tag", "v1.0.0")
    origin.run("push", "--quiet", "origin", "refs/tags/v1.0.0")

    assert repository.push_tag("v1.0.0", origin.first) is False


def test_a_published_tag_is_never_moved(origin: Origin, repository: Repository) -> None:
    origin.tag("v1.0.0")
    second = origin.commit("README", "two\n", "Second")

    with pytest.raises(SourceRefused) as refused:
        repository.push_tag("v1.0.0", second)

    assert refused.value.what == (
        f"tag v1.0.0 stands on {origin.first[:12]} already, not on {second[:12]}"
    )
    assert origin.refs()["refs/tags/v1.0.0"] == origin.first


def test_a_tag_that_the_remote_refuses_is_not_left_behind(
    origin: Origin, repository: Repository
) -> None:
    origin.refuses("tags are protected here")

    with pytest.raises(SourceRefused) as refused:
        repository.push_tag("v1.0.0", origin.first)

    assert refused.value.what.startswith("tag v1.0.0 was not pushed: ")
    assert "tags are protected here" in refused.value.what
    assert "refs/tags/v1.0.0" not in origin.refs()
    assert tags_of(repository) == []

    origin.accepts()
    assert repository.push_tag("v1.0.0", origin.first) is True


def test_a_tag_that_a_killed_worker_made_and_never_pushed_is_made_again(
    origin: Origin, repository: Repository
) -> None:
    repository.fetch()
    origin.run("tag", "-a", "-m", "x", "v1.0.0", origin.first, at=repository.workspace)

    assert repository.push_tag("v1.0.0", origin.first) is True
    assert origin.refs()["refs/tags/v1.0.0"] == origin.first


def test_a_tag_on_a_commit_that_is_not_there_is_refused_in_one_sentence(
    origin: Origin, repository: Repository
) -> None:
    with pytest.raises(SourceRefused, match=r"tag v1\.0\.0 was not made"):
        repository.push_tag("v1.0.0", "0" * 40)

    assert "refs/tags/v1.0.0" not in origin.refs()


# ── Branches ─────────────────────────────────────────────────────────────────────────────────────


def test_a_branch_that_grew_is_fast_forwarded(origin: Origin, repository: Repository) -> None:
    assert repository.fast_forward("main") == origin.first
    second = origin.commit("README", "two\n", "Second")

    assert repository.fast_forward("main") == second
    assert repository.fast_forward("main") == second


def test_a_branch_whose_history_was_rewritten_is_refused(
    origin: Origin, repository: Repository
) -> None:
    deployed = origin.commit("README", "two\n", "Second")
    repository.fast_forward("main")
    origin.run("reset", "--quiet", "--hard", origin.first)
    rewritten = origin.commit("README", "other\n", "Other")

    with pytest.raises(SourceRefused) as refused:
        repository.fast_forward("main")

    assert refused.value.what == (
        f"branch main diverged: {deployed[:12]}, deployed before, is not part of {rewritten[:12]}"
    )
    # The hint is a command: it works as it stands.
    subprocess.run(refused.value.hint.partition(": ")[2].split(), check=True, capture_output=True)
    assert repository.fast_forward("main") == rewritten


def test_a_branch_that_is_not_there_is_refused(origin: Origin, repository: Repository) -> None:
    with pytest.raises(SourceRefused, match="has no branch 'feature'"):
        repository.fast_forward("feature")


@pytest.mark.parametrize(
    ("branch", "refused"), [("main", True), ("other", False)], ids=["checked out", "another"]
)
def test_uncommitted_changes_in_a_remote_that_is_a_work_tree_are_refused(
    origin: Origin, tmp_path: Path, branch: str, refused: bool
) -> None:
    repository = Repository(url=str(origin.tree), workspace=tmp_path / "mirror.git")
    repository.refuse_dirty(branch)
    (origin.tree / "README").write_text("not committed\n")

    if not refused:
        repository.refuse_dirty(branch)
        return
    with pytest.raises(SourceRefused) as error:
        repository.refuse_dirty(branch)

    assert error.value.what == (
        f"{origin.tree} has 1 uncommitted changes on main, the first: M README"
    )


def test_files_that_git_does_not_know_are_no_uncommitted_changes(
    origin: Origin, tmp_path: Path
) -> None:
    repository = Repository(url=str(origin.tree), workspace=tmp_path / "mirror.git")
    (origin.tree / "notes.txt").write_text("mine\n")

    repository.refuse_dirty("main")


def test_a_bare_remote_is_never_dirty(repository: Repository) -> None:
    repository.refuse_dirty("main")


# ── Contents ─────────────────────────────────────────────────────────────────────────────────────


def test_an_export_holds_exactly_the_commits_tree(origin: Origin, repository: Repository) -> None:
    (origin.tree / "run.sh").write_text("#!/bin/sh\n")
    (origin.tree / "run.sh").chmod(0o755)
    (origin.tree / "link").symlink_to("README")
    revision = origin.commit("app/deep/file.txt", "deep\n", "Files")
    origin.commit("later.txt", "not yet\n", "Later")
    repository.fetch()

    with repository.export(revision) as tree:
        found = {str(path.relative_to(tree)) for path in tree.rglob("*")}
        assert found == {"README", "run.sh", "link", "app", "app/deep", "app/deep/file.txt"}
        assert os.access(tree / "run.sh", os.X_OK)
        assert (tree / "README").stat().st_mode & 0o777 == 0o644
        assert (tree / "link").readlink() == Path("README")
    assert not tree.exists()


def test_an_export_leaves_out_nothing_that_gitattributes_would(
    origin: Origin, repository: Repository
) -> None:
    """`export-ignore` is for release archives; here it would take the smoke tests away."""
    (origin.tree / ".gitattributes").write_text("tests export-ignore\nid.txt export-subst\n")
    (origin.tree / "id.txt").write_text("$Format:%H$\n")
    revision = origin.commit("tests/smoke.sh", "true\n", "Smoke tests")
    repository.fetch()

    with repository.export(revision) as tree:
        assert (tree / "tests" / "smoke.sh").is_file()
        assert (tree / "id.txt").read_text() == "$Format:%H$\n"


def test_an_export_is_gone_even_if_the_build_fails(origin: Origin, repository: Repository) -> None:
    repository.fetch()

    with pytest.raises(ZeroDivisionError), repository.export(origin.first) as tree:
        raise ZeroDivisionError

    assert not tree.exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside"])
def test_a_link_out_of_the_repository_is_refused(
    origin: Origin, repository: Repository, target: str
) -> None:
    (origin.tree / "link").symlink_to(target)
    revision = origin.commit("a", "a", "Link")
    repository.fetch()

    with pytest.raises(SourceRefused) as refused, repository.export(revision):
        pass

    assert refused.value.what.startswith(f"{revision[:12]} cannot be exported: 'link' ")


def test_files_are_the_folders_own_with_that_suffix(origin: Origin, repository: Repository) -> None:
    for path in ("m/0001_a.sql", "m/0002_b.sql", "m/notes.md", "m/old/0000_x.sql"):
        revision = origin.commit(path, path, path)
    repository.fetch()

    assert repository.files(revision, "m/", ".sql") == {
        "0001_a.sql": b"m/0001_a.sql",
        "0002_b.sql": b"m/0002_b.sql",
    }
    assert repository.files(revision, "nowhere", ".sql") == {}
    assert repository.files(revision, "m/notes.md", ".sql") == {}
    assert repository.files(origin.first, "m", ".sql") == {}


def test_a_file_is_read_as_it_is_at_a_commit(origin: Origin, repository: Repository) -> None:
    second = origin.commit("tests/package.json", "{}\n", "Second")
    repository.fetch()

    assert repository.read(second, "tests/package.json") == b"{}\n"
    assert repository.read(second, "./tests//package.json") == b"{}\n"
    assert repository.read(origin.first, "tests/package.json") is None
    assert repository.read(second, "tests") is None
    assert repository.read(second, "../README") is None
    assert repository.read("f" * 40, "README") is None


ODD = ["hotfix+1", "größe", "issue=5", "@types/x", "#123", "a@b", "$(id);x", "it's`y`", "日本語"]


@pytest.mark.parametrize("branch", ODD)
def test_a_branch_is_found_whatever_git_lets_it_be_called(
    origin: Origin, repository: Repository, branch: str
) -> None:
    second = origin.commit("README", "two\n", "Second", branch=branch)
    repository.fetch()

    assert repository.resolve(branch) == second
    assert repository.fast_forward(branch) == second


def test_a_mirror_is_left_out_of_the_checkout_that_it_lies_in(
    origin: Origin, repository: Repository
) -> None:
    repository.workspace = origin.tree / ".mine" / "repository.git"
    repository.fetch()

    assert origin.run("status", "--porcelain") == ""
    assert repository.resolve("main") == origin.first


def test_a_place_where_no_mirror_can_be_is_told_with_what_to_do(
    origin: Origin, repository: Repository
) -> None:
    repository.workspace = origin.tree / "README" / "repository.git"

    with pytest.raises(BadConfiguration, match="cannot be made: Not a directory") as refused:
        repository.fetch()
    assert refused.value.hint.startswith("as the worker's user: ignition setup;")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("app/Dockerfile", True),
        ("./app/Dockerfile", True),
        ("app/", True),
        (".", True),
        ("./README", True),  # service.backend = "."
        ("app/other", False),
        ("../README", False),
        ("README/x", False),
    ],
)
def test_whether_a_path_exists_at_a_commit(
    origin: Origin, repository: Repository, path: str, there: bool
) -> None:
    revision = origin.commit("app/Dockerfile", "FROM scratch\n", "Image")
    repository.fetch()

    assert repository.has(revision, path) is there


def test_changes_are_newest_first_and_bounded(origin: Origin, repository: Repository) -> None:
    for number in range(3):
        last = origin.commit("README", f"{number}\n", f"Change {number}")
    repository.fetch()

    changes = repository.changes(origin.first, last)

    assert [change.subject for change in changes] == ["Change 2", "Change 1", "Change 0"]
    assert (changes[0].revision, changes[0].author) == (last, "Ada")
    assert len(repository.changes(origin.first, last, limit=2)) == 2
    assert repository.changes(last, last) == ()


@pytest.mark.parametrize("since", ["0" * 40, "", "unknown", "--output=x"])
def test_changes_since_a_commit_that_nobody_knows_are_none(
    origin: Origin, repository: Repository, since: str
) -> None:
    """The label of an image that somebody else built may hold anything."""
    repository.fetch()

    assert repository.changes(since, origin.first) == ()


# ── The remote ───────────────────────────────────────────────────────────────────────────────────


def test_a_remote_that_answers_is_in_order(repository: Repository) -> None:
    repository.check()


@pytest.mark.parametrize("act", ["check", "fetch", "push_tag", "fast_forward"])
def test_a_remote_that_is_not_there_is_unreachable(tmp_path: Path, act: str) -> None:
    gone = tmp_path / "gone.git"
    repository = Repository(url=str(gone), workspace=tmp_path / "mirror.git")
    arguments = {"push_tag": ("v1.0.0", "0" * 40), "fast_forward": ("main",)}.get(act, ())

    with pytest.raises(Unreachable) as failed:
        getattr(repository, act)(*arguments)

    assert failed.value.what.startswith(f"git: {gone} did not do as asked: ")
    assert failed.value.hint == f"git ls-remote {gone}"


@pytest.mark.parametrize("act", ["check", "fetch"])
def test_user_and_password_of_a_url_are_in_no_error(tmp_path: Path, act: str) -> None:
    repository = unchecked("http://ada:s3cret@127.0.0.1:9/orders.git", tmp_path / "mirror.git")

    with pytest.raises(Unreachable) as failed:
        getattr(repository, act)()

    assert "s3cret" not in str(failed.value)
    assert "ada" not in str(failed.value)
    assert "http://127.0.0.1:9/orders.git" in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/srv/orders.git", "/srv/orders.git"),
        ("git@example.com:team/orders.git", "git@example.com:team/orders.git"),
        ("ssh://git@example.com:2222/orders.git", "ssh://example.com:2222/orders.git"),
        ("https://ada:p@ss@example.com/o.git", "https://example.com/o.git"),
        ("https://token@example.com/o.git", "https://example.com/o.git"),
    ],
)
def test_a_url_is_shown_without_user_and_password(tmp_path: Path, url: str, shown: str) -> None:
    assert unchecked(url, tmp_path).shown_url == shown


def test_a_url_is_never_taken_for_an_option(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    repository = unchecked(f"--upload-pack=touch {marker}", tmp_path / "mirror.git")

    for act in (repository.check, repository.fetch):
        with pytest.raises(Unreachable):
            act()

    assert not marker.exists()


def test_git_never_asks_a_terminal_for_a_password(
    tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody watches the worker's terminal: the run would hang until its timeout."""
    httpserver.expect_request("/orders.git/info/refs").respond_with_data(
        "", status=401, headers={"WWW-Authenticate": 'Basic realm="git"'}
    )
    url = httpserver.url_for("/orders.git")
    monkeypatch.delenv("GIT_ASKPASS", raising=False)
    monkeypatch.delenv("SSH_ASKPASS", raising=False)

    with pytest.raises(Unreachable, match="terminal prompts disabled"):
        Repository(url=url, workspace=tmp_path / "mirror.git").check()


def test_the_main_branch_is_looked_at_beside_the_mirror(
    origin: Origin, repository: Repository
) -> None:
    """A run may be fetching into the mirror meanwhile."""
    newest = origin.commit("app/Dockerfile", "FROM scratch\n", "Second")

    with repository.main_apart() as copy:
        assert copy.resolve("main") == newest
        assert copy.read(newest, "app/Dockerfile") == b"FROM scratch\n"
        assert copy.read(newest, "app") is None
        assert copy.read(newest, "app/nothing") is None
        folder = copy.workspace

    assert not folder.exists()
    assert not repository.workspace.exists()


def test_a_main_branch_that_the_remote_does_not_have_is_said(
    origin: Origin, repository: Repository
) -> None:
    other = repository.model_copy(update={"main": "trunk"})

    with pytest.raises(Unreachable, match="refs/heads/trunk"), other.main_apart():
        pass
