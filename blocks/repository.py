"""The backend's git repository, through a bare mirror that belongs to the worker alone."""

import contextlib
import io
import posixpath
import re
import shlex
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import git

from blocks.own_folder import own_folder
from blocks.part import Part
from release.configuration.places import RepositorySettings
from release.errors import BadConfiguration, SourceRefused, Unreachable
from release.git_ref import checked_ref

# Git must never wait for a password on a terminal that nobody watches.
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
_ANSWER_WITHIN = 20.0  # seconds that a remote may take to list its branches
_LEFT_AFTER = timedelta(minutes=1)  # git has a ref's lock for milliseconds
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_TAGGER = {"GIT_COMMITTER_NAME": "ignition-deploy", "GIT_COMMITTER_EMAIL": "ignition@localhost"}


@dataclass(frozen=True, slots=True)
class Commit:
    """One line of a changelog."""

    revision: str
    subject: str
    author: str


class Repository(RepositorySettings, Part):
    """Where the source is, and the worker's own mirror of it."""

    _block_type_name = "Ignition Repository"

    workspace: Path
    """Where the worker keeps its bare mirror."""

    @property
    def shown_url(self) -> str:
        """The remote without user and password, for logs and errors."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def check(self) -> None:
        """Raise Unreachable if the remote does not answer."""
        with self._reaching():
            git.cmd.Git().ls_remote(
                "--heads", "--", self.url, env=_ENVIRONMENT, kill_after_timeout=_ANSWER_WITHIN
            )

    def fetch(self) -> None:
        """Bring the mirror up to date: branches to ``refs/remotes/origin``, all tags.

        Raises Unreachable if the remote does not answer.
        """
        mirror = self._mirror()
        self._remove_left_locks()
        with self._reaching():
            mirror.git.fetch(
                "--prune",
                "--prune-tags",
                "--force",
                "--",
                self.url,
                "+refs/heads/*:refs/remotes/origin/*",
                "+refs/tags/*:refs/tags/*",
                env=_ENVIRONMENT,
            )

    @contextlib.contextmanager
    def main_apart(self) -> Iterator["Repository"]:
        """A copy of the main branch's newest commit, in a folder of its own, gone afterwards.

        For a check that may run beside a run's own fetch: git allows one fetch at a time.
        Raises Unreachable if the remote does not answer, or has no such branch.
        """
        with tempfile.TemporaryDirectory(prefix="ignition-main-") as folder:
            copy = Repository(url=self.url, workspace=Path(folder), main=self.main)
            with self._reaching():
                copy._mirror().git.fetch(
                    "--depth=1",
                    "--no-tags",
                    "--",
                    self.url,
                    f"+refs/heads/{checked_ref(self.main)}:refs/remotes/origin/{self.main}",
                    env=_ENVIRONMENT,
                    kill_after_timeout=_ANSWER_WITHIN,
                )
            yield copy

    def resolve(self, ref: str) -> str:
        """Return the full commit hash of a branch, tag or commit, as of the last fetch.

        A branch wins over a tag of the same name. Raises SourceRefused if there is none.
        """
        checked_ref(ref)
        names = [f"refs/remotes/origin/{ref}", f"refs/tags/{ref}"]
        if _COMMIT.fullmatch(ref):  # other names, such as FETCH_HEAD, are the mirror's own
            names.append(ref)
        for name in names:
            found = self._commit(name)
            if found:
                return found
        raise SourceRefused(
            f"{self.shown_url} has no branch, tag or commit {ref!r}",
            f"git ls-remote {self.shown_url}",
        )

    def tag_revision(self, tag: str) -> str | None:
        """The commit that a tag stands on, as of the last fetch. None if there is no tag."""
        return self._commit(f"refs/tags/{checked_ref(tag)}")

    def push_tag(self, tag: str, revision: str) -> bool:
        """Make the annotated tag on ``revision`` and push it; True if it was not there before.

        Repeating it does nothing. Raises SourceRefused if the tag stands on another commit, or
        the remote refuses it, and Unreachable if the remote does not answer; the mirror then has
        no such tag either.
        Source: the runbook's step 1, ``git tag -a v1.2.3 -m "Release v1.2.3"``.
        """
        self.fetch()
        standing = self.tag_revision(tag)
        if standing == revision:
            return False
        if standing is not None:
            raise SourceRefused(
                f"tag {tag} stands on {standing[:12]} already, not on {revision[:12]}",
                "choose the next version; a published tag is never moved",
            )
        mirror = self._mirror()
        try:
            mirror.git.tag("-a", "-m", f"Release {tag}", "--", tag, revision, env=_TAGGER)
        except git.GitCommandError as error:
            raise SourceRefused(
                f"tag {tag} was not made on {revision[:12]}: {error.stderr.strip()}"
            ) from None
        try:
            with self._reaching():
                mirror.git.push(
                    "--", self.url, f"refs/tags/{tag}:refs/tags/{tag}", env=_ENVIRONMENT
                )
        except Unreachable as error:
            mirror.git.tag("-d", "--", tag)
            if "rejected]" in error.what:  # git's own word for "the remote answered, and said no"
                raise SourceRefused(f"tag {tag} was not pushed: {error.what}", error.hint) from None
            raise
        return True

    def fast_forward(self, branch: str) -> str:
        """Move the worker's own copy of ``branch`` forward to the remote's and return its commit.

        Raises SourceRefused if the remote's history was rewritten since the worker last deployed
        the branch: a fast-forward is all that the runbook's ``git pull`` may be.
        """
        self.fetch()
        theirs = self._commit(f"refs/remotes/origin/{checked_ref(branch)}")
        if theirs is None:
            raise SourceRefused(f"{self.shown_url} has no branch {branch!r}")
        mirror = self._mirror()
        ours = self._commit(f"refs/heads/{branch}")
        if ours and not mirror.is_ancestor(mirror.commit(ours), mirror.commit(theirs)):
            raise SourceRefused(
                f"branch {branch} diverged: {ours[:12]}, deployed before, is not part of "
                f"{theirs[:12]}",
                "to accept the rewritten branch: "
                + shlex.join(["git", "-C", str(self.workspace), "branch", "-D", branch]),
            )
        mirror.git.update_ref(f"refs/heads/{branch}", theirs)
        return theirs

    def refuse_dirty(self, branch: str) -> None:
        """Raise SourceRefused if the remote is a work tree with uncommitted changes.

        What is not committed would silently stay out of the release.
        """
        if not (Path(self.url) / ".git").is_dir():
            return
        tree = git.Repo(self.url)
        checked_out = None if tree.head.is_detached else tree.active_branch.name
        changed = tree.git.status("--porcelain", "--untracked-files=no").splitlines()
        if checked_out == branch and changed:
            raise SourceRefused(
                f"{self.url} has {len(changed)} uncommitted changes on {branch}, the first: "
                f"{changed[0].strip()}",
                f"git -C {self.url} commit, or git -C {self.url} stash",
            )

    def changes(self, since: str, revision: str, limit: int = 50) -> tuple[Commit, ...]:
        """Commits of ``revision`` that ``since`` lacks, newest first, ``limit`` at most."""
        if not self._commit(since):
            return ()
        mirror = self._mirror()
        return tuple(
            Commit(commit.hexsha, str(commit.summary), str(commit.author.name))
            for commit in mirror.iter_commits(f"{since}..{revision}", max_count=limit)
        )

    def files(self, revision: str, folder: str, suffix: str) -> dict[str, bytes]:
        """Contents of the folder's own files with that suffix at ``revision``, by file name."""
        node: Any = self._node(revision, folder)
        if node is None or node.type != "tree":
            return {}
        return {
            blob.name: blob.data_stream.read() for blob in node.blobs if blob.name.endswith(suffix)
        }

    def read(self, revision: str, path: str) -> bytes | None:
        """The content of one file at ``revision``. Returns None if there is no such file."""
        node: Any = self._node(revision, path)
        if node is None or node.type != "blob":
            return None
        content: bytes = node.data_stream.read()
        return content

    def knows(self, revision: str) -> bool:
        """Whether the mirror holds a commit, as of the last fetch."""
        return bool(_COMMIT.fullmatch(revision)) and self._commit(revision) is not None

    def has(self, revision: str, path: str) -> bool:
        """Whether ``path`` exists at ``revision``."""
        return self._node(revision, path) is not None

    @contextlib.contextmanager
    def export(self, revision: str) -> Iterator[Path]:
        """A folder that holds exactly the tree of ``revision``, no ``.git``, gone afterwards."""
        archive = io.BytesIO()
        self._mirror().archive(archive, revision)
        archive.seek(0)
        with tempfile.TemporaryDirectory(prefix="ignition-release-") as folder:
            try:
                with tarfile.open(fileobj=archive) as tar:
                    tar.extractall(folder, filter="data")
            except tarfile.FilterError as error:
                raise SourceRefused(
                    f"{revision[:12]} cannot be exported: {error}",
                    "replace links that leave the repository by files",
                ) from None
            yield Path(folder)

    def _mirror(self) -> git.Repo:
        if not (self.workspace / "HEAD").is_file():
            try:
                own_folder(self.workspace)
            except OSError as error:
                raise BadConfiguration(
                    f"the mirror {self.workspace} cannot be made: {error.strerror}",
                    "as the worker's user: ignition setup; or set state to a folder it may write",
                ) from None
            git.Repo.init(self.workspace, bare=True)
        # An export holds the whole tree, whatever the repository's .gitattributes leave out.
        attributes = self.workspace / "info" / "attributes"
        if not attributes.is_file():
            attributes.parent.mkdir(exist_ok=True)
            attributes.write_text("* -export-ignore -export-subst\n")
        return git.Repo(self.workspace)

    def _remove_left_locks(self) -> None:
        """Remove the lock files of a git that was killed: they would stop every later fetch."""
        before = time.time() - _LEFT_AFTER.total_seconds()
        refs = (self.workspace / "refs").rglob("*.lock")  # no ref may have such a name
        for lock in (*self.workspace.glob("*.lock"), *refs):
            with contextlib.suppress(FileNotFoundError):
                if lock.stat().st_mtime < before:
                    lock.unlink()

    def _commit(self, name: str) -> str | None:
        try:
            return str(
                self._mirror().git.rev_parse("--verify", "--quiet", "--end-of-options", f"{name}^0")
            )
        except git.GitCommandError:
            return None

    def _node(self, revision: str, path: str) -> Any:
        path = posixpath.normpath(path.strip("/"))
        try:
            tree = self._mirror().commit(revision).tree
            return tree if path == "." else tree / path
        except (KeyError, git.BadName, ValueError):
            return None

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except git.GitError as error:  # CommandError has stderr, a refused option or URL does not
            text = str(getattr(error, "stderr", "") or error)
            said = " ".join(text.replace(self.url, self.shown_url).split())
            raise Unreachable(
                f"git: {self.shown_url} did not do as asked: {said[-300:]}",
                f"git ls-remote {self.shown_url}",
            ) from None
