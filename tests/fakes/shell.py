"""A person at a shell, who types what our own texts say."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from unittest.mock import patch

from prefect.settings import get_current_settings

from cli.main import main
from tests.fakes.commands import typed_in

ROLE = "release-manager"
_OWN = re.compile(r"\b(?:NAME|VERSION|NUMBER|ENVIRONMENT|ROLE|FILE)\b")
_REASON = "it is tried"


@dataclass(frozen=True)
class Done:
    """What a command did: its exit code, what it said, what it complained of."""

    code: int
    said: str
    complained: str

    @property
    def text(self) -> str:
        return self.said + self.complained

    @property
    def hint(self) -> str:
        """What it says to type, where it complained."""
        return self.complained.partition("\nhint: ")[2].strip()


class _Keyboard(io.StringIO):
    """What a person types, in a terminal or into a pipe."""

    is_terminal = False

    def isatty(self) -> bool:
        return self.is_terminal


@dataclass
class Shell:
    """Runs the real command line in this process, and remembers what was typed from which text."""

    typed: list[str] = field(default_factory=list)  # as the text had it

    def ignition(self, *words: str, answer: str = "", terminal: bool = False) -> Done:
        """Run a command of ours; ``answer`` is typed into it, in a ``terminal`` or a pipe."""
        keyboard = _Keyboard(answer)
        keyboard.is_terminal = terminal
        said, complained = io.StringIO(), io.StringIO()
        code = 0
        with (
            patch.object(sys, "argv", ["ignition", *words]),
            patch.object(sys, "stdin", keyboard),
            redirect_stdout(said),
            redirect_stderr(complained),
        ):
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Done(code, said.getvalue(), complained.getvalue())

    def prefect(self, *words: str) -> Done:
        """Run a command of Prefect's own, in a process of its own, against the tests' server."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            env=surroundings(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def type(
        self, text: str, begins: str, *, answer: str = "", terminal: bool = False, **own: str
    ) -> Done:
        """Type the one command of ``text`` that begins so. NAME and … are filled in, and other
        words in capitals with what is given."""
        program, *words = self.words(text, begins, **own)
        if program == "prefect":
            return self.prefect(*words)
        return self.ignition(*words, answer=answer, terminal=terminal)

    def words(self, text: str, begins: str, **own: str) -> list[str]:
        """The one command of ``text`` that begins so, word by word, as a person types it."""
        found = {one for _, one in typed_in(text) if f"{one} ".startswith(f"{begins} ")}
        assert len(found) == 1, f"{found or 'no command'} begins with {begins!r} in: {text}"
        (command,) = found
        self.typed.append(command)
        own = {"NAME": "Ada", **own}
        return [
            _OWN.sub(lambda word: own[word[0]], word).replace("…", _REASON)
            for word in shlex.split(command)
        ]


def surroundings() -> dict[str, str]:
    """The variables of a process that is to find the tests' Prefect server."""
    return {
        **os.environ,
        "PREFECT_API_URL": str(get_current_settings().api.url),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "COLUMNS": "200",
    }


@contextmanager
def exported(**variables: str | None) -> Iterator[None]:
    """Variables as a person exports them, or unsets them (None), for as long as it lasts."""
    given = {name: value for name, value in variables.items() if value is not None}
    with patch.dict(os.environ, given):
        for name in variables.keys() - given.keys():
            os.environ.pop(name, None)
        yield


def wrong(shell: Shell, system: str) -> str:
    """What doctor says of a system, with what to type; empty where it is well."""
    said = shell.ignition("doctor").said
    found = re.search(rf"^WRONG \S+ +{re.escape(system)}\n((?:      .*\n)+)", said, re.MULTILINE)
    assert found or re.search(rf"^ok    \S+ +{re.escape(system)}\b", said, re.MULTILINE), said
    return found[1] if found else ""


def exports(hint: str) -> dict[str, str]:
    """The variables that a hint says to export."""
    found = dict(re.findall(r"export (\w+)=([^\s;,]+)", hint))
    assert found, hint
    return found
