"""The forge: what it knows of a commit and of open issues, whichever kind it is."""

import subprocess
from abc import ABC, abstractmethod
from datetime import timedelta

from blocks.part import Part
from blocks.program import run
from release.configuration.kinds import ForgeSettings
from release.errors import Unreachable
from release.gate.evidence import CheckResult, CommandResult, Issue


class Forge(ForgeSettings, Part, ABC):
    """Asks a forge, or a program, what it knows of a commit.

    A request takes at most 5 s, because all evidence together has six. Whatever it cannot say is
    Unreachable, in one sentence without a token.
    """

    @abstractmethod
    def checks(self, revision: str) -> tuple[CheckResult, ...]:
        """What ran on a commit, the newest result of each check.

        Raises Unreachable, also for an answer of another shape.
        """

    @abstractmethod
    def critical_issues(self) -> tuple[Issue, ...]:
        """The open issues that are critical, without changes to be merged. Raises Unreachable."""

    def run_tests_command(self, revision: str, within: timedelta) -> CommandResult:
        """Run the command for a commit: its exit code and the last line that it wrote.

        It is killed, with what it started, if it is not done ``within`` that time.
        Raises Unreachable if it cannot be run or is not done.
        """
        command = [part.replace("{revision}", revision) for part in self.tests_command]
        try:
            done = run(command, within, merged=True)
        except OSError as error:
            raise Unreachable(f"{command[0]} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise Unreachable(
                f"{command[0]} was not done within {within.total_seconds():.0f} s"
            ) from None
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        return CommandResult(command[0], done.returncode, lines[-1] if lines else "")
