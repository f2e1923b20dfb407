"""What an environment serves at this moment, asked from the outside."""

from blocks.target import Target


def what_serves(target: Target) -> str:
    """The version that the public address names; a sentence where it names none."""
    version, probe = target.service.version()
    if version:
        return version
    return f"no version ({probe.detail or f'HTTP {probe.status}'} at {target.url})"
