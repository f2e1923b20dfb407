"""The example backend's git origin: v1.0.0, a newer main, a refactoring, and the bad releases.

Each release is one or two folders of files in `releases/`, laid over the tree that it was branched
from. The same folders make the same commits, hash for hash.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.commands import run

HERE = Path(__file__).parents[1]
TEMPLATE = HERE / "backend"
RELEASES = HERE / "releases"

AUTHOR = {
    "GIT_AUTHOR_NAME": "Backend Team",
    "GIT_AUTHOR_EMAIL": "backend@example.test",
    "GIT_COMMITTER_NAME": "Backend Team",
    "GIT_COMMITTER_EMAIL": "backend@example.test",
    "GIT_CONFIG_GLOBAL": "/dev/null",  # a person's own hooks and signing have no part in this
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True)
class Branch:
    """One branch of the origin, one commit away from main."""

    name: str
    overlays: tuple[str, ...]
    message: str


def _bad(name: str, message: str, *overlays: str) -> Branch:
    return Branch(f"bad/{name}", overlays or (name,), message)


BRANCHES = (
    Branch("refactor/stack-split", ("refactor-stack-split",), "Move passwords out of accounts"),
    _bad("never-healthy", "Ask the session store in the health check"),
    _bad("failing-smoke", "Call a user's name their login"),
    _bad("wrong-version", "Read the version from a file"),
    _bad("exits-at-start", "Name the issuer in tokens"),
    _bad("errors-under-traffic", "Keep an audit trail of requests"),
    _bad("broken-login", "Give signing keys an end"),
    _bad("failing-migration", "Give items owners"),
    _bad("slow", "Answer many readers with one query"),
    _bad("dies", "Spool statistics for their service"),
    _bad("errors-20", "Score every fifth client", "scoring", "errors-20"),
    _bad("errors-6", "Score some clients", "scoring", "errors-6"),
    _bad("errors-6-late", "Score some clients, later", "scoring", "errors-6-late"),
    _bad("errors-4", "Score a few clients", "scoring", "errors-4"),
    _bad("errors-on-writes", "Refuse an item that was sent twice"),
    _bad("leak", "Remember requests for a replay"),
)


def ensure_origin(origin: Path) -> str:
    """Make the bare repository, unless it exists and was made from the same files."""
    stamp = origin / "sandbox-recipe"
    wanted = fingerprint()
    if stamp.exists() and stamp.read_text() == wanted:
        return "there already"
    shutil.rmtree(origin, ignore_errors=True)
    origin.parent.mkdir(parents=True, exist_ok=True)
    run(["git", "init", "--quiet", "--bare", "--initial-branch=main", origin], environment=AUTHOR)
    with tempfile.TemporaryDirectory() as folder:
        write_history(Path(folder), origin)
    stamp.write_text(wanted)
    return f"main, v1.0.0 and {len(BRANCHES)} branches in {origin}"


def fingerprint() -> str:
    """A hash of everything that the history is made from."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in [*sorted(TEMPLATE.rglob("*")), *sorted(RELEASES.rglob("*"))]:
        if path.is_file():
            digest.update(f"{path.relative_to(HERE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def write_history(work: Path, origin: Path) -> None:
    """Commit the releases in ``work``, one after the other, and push them all."""
    git(work, "init", "--quiet", "--initial-branch=main")
    lay_over(TEMPLATE, work)
    commit(work, "Serve users and items from PostgreSQL", day=8)
    git(work, "tag", "--annotate", "--message", "Release v1.0.0", "v1.0.0", day=8)
    lay_over(RELEASES / "main", work)
    commit(work, "Let items carry a note", day=12)
    for day, branch in enumerate(BRANCHES, start=13):
        git(work, "checkout", "--quiet", "-b", branch.name, "main")
        for overlay in branch.overlays:
            lay_over(RELEASES / overlay, work)
        commit(work, branch.message, day=day)
    git(work, "push", "--quiet", str(origin), "--all")
    git(work, "push", "--quiet", str(origin), "--tags")


def lay_over(source: Path, work: Path) -> None:
    """Copy a folder's files over the working tree."""
    shutil.copytree(
        source, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*_cache")
    )


def commit(work: Path, message: str, *, day: int) -> None:
    """Commit the whole working tree."""
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", message, day=day)


def git(work: Path, *arguments: str, day: int = 8) -> str:
    """Run git in ``work`` as the backend's team, on a day of January 2026."""
    date = f"2026-01-{day:02d}T10:00:00+00:00"
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return run(["git", *arguments], directory=work, environment=AUTHOR | dates)


def revision(origin: Path, name: str) -> str:
    """The full hash of the commit behind a tag or branch."""
    return run(["git", "-C", origin, "rev-parse", f"{name}^{{commit}}"]).strip()


def branch_off(
    origin: Path, name: str, new: str, message: str, files: Mapping[str, str] | None = None
) -> str:
    """Make a branch with one more commit, and return its hash.

    Without ``files`` (path: text) it changes nothing but the hash: the pipeline does not deploy a
    commit that serves already.
    """
    tree = with_files(origin, name, files) if files else f"{name}^{{tree}}"
    made = git_in(origin, "commit-tree", tree, "-p", name, "-m", message)
    git_in(origin, "update-ref", f"refs/heads/{new}", made)
    return made


def with_files(origin: Path, name: str, files: Mapping[str, str]) -> str:
    """The tree of a commit with some files added or replaced."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        git_in(origin, "read-tree", name, environment=index)
        for path, text in files.items():
            blob = git_in(origin, "hash-object", "-w", "--stdin", stdin=text.encode())
            entry = f"100644,{blob},{path}"
            git_in(origin, "update-index", "--add", "--cacheinfo", entry, environment=index)
        return git_in(origin, "write-tree", environment=index)


def git_in(
    origin: Path,
    *arguments: str,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run git in the bare repository as the backend's team, and return its answer."""
    variables = AUTHOR | dict(environment or {})
    return run(["git", "-C", str(origin), *arguments], environment=variables, stdin=stdin).strip()


def export(origin: Path, name: str, folder: Path, *paths: str) -> None:
    """Write some paths of a commit below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "export.tar"
    run(["git", "-C", origin, "archive", "--output", archive, name, *paths])
    run(["tar", "--extract", "--file", archive, "--directory", folder])
    archive.unlink()
