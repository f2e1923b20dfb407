"""What can go wrong while the sandbox is stood up or taken away.

SandboxError            one sentence: what, where, what to type
├── CommandFailed       a program exited with an error; its last lines are in the message
├── PortTaken           a port that the sandbox needs has another holder
└── NotReady            something did not become ready in its time
"""


class SandboxError(Exception):
    """The sandbox cannot do what was asked."""


class CommandFailed(SandboxError):
    """A program that the sandbox ran exited with an error."""


class PortTaken(SandboxError):
    """A port that the sandbox needs has another holder."""


class NotReady(SandboxError):
    """Something that was started did not become ready in its time."""
