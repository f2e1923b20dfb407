"""What an environment serves right now, asked from the outside."""

from blocks.http_client import shown
from blocks.target import Target
from release.outcome import shown_version


def what_serves(target: Target) -> str:
    """The version that the public address names; a sentence if it names none."""
    version, probe = target.service.version()
    return shown_version(version, probe, shown(target.url))
