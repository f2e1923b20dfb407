"""The script that the smoke tests are, in the package.json that its command reads."""

import difflib
import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

_OF_ITS_OWN = ("test", "start", "stop", "restart")  # commands of npm that are scripts
_RUNS = ("run", "run-script", "rum", "urn")  # npm's own names for it
_FOLDER = ("--prefix", "-C")


@dataclass(frozen=True, slots=True)
class NpmScript:
    """A script and the package.json, from the repository's root, that has to name it."""

    name: str
    manifest: str


def npm_script(command: Sequence[str]) -> NpmScript | None:
    """The script that ``npm run …`` starts; None where the command is another one."""
    if not command or posixpath.basename(command[0]) != "npm":
        return None
    words, folder = [], ""
    rest = iter(command[1:])
    for word in rest:
        if word == "--":
            break
        option, separator, value = word.partition("=")
        if option in _FOLDER:
            folder = value if separator else next(rest, "")
        elif not word.startswith("-"):
            words.append(word)
    if words[:1] and words[0] in _RUNS:
        words = words[1:]
    elif not words or words[0] not in _OF_ITS_OWN:
        return None
    if not words:
        return None
    return NpmScript(words[0], posixpath.normpath(posixpath.join(folder, "package.json")))


def missing_script(script: NpmScript, manifest: bytes | None, commit: str) -> str:
    """Why a commit's package.json has no such script, in one sentence; empty where it has."""
    if manifest is None:
        return f"{commit} has no {script.manifest}, which the smoke tests are started by"
    try:
        scripts = json.loads(manifest).get("scripts", {})
        known = sorted(scripts)
    except (ValueError, AttributeError, TypeError):
        return f"{script.manifest} of {commit} is not the JSON of a package"
    if script.name in known:
        return ""
    near = difflib.get_close_matches(script.name, known, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}? There is: " if near else "there is: "
    return (
        f"{script.manifest} of {commit} has no script {script.name!r}; "
        f"{meant}{', '.join(known) or 'none'}"
    )
