"""Tells people, through Prefect's notification blocks. A message that fails fails nothing else."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from logging import WARNING

from prefect.blocks import notifications as _known_blocks  # noqa: F401  # so that load finds them
from prefect.blocks.core import Block
from prefect.settings import get_current_settings

from blocks.target import Target
from release.duration import say_duration
from release.ledger import EventKind
from release.notice import Notice, Page
from tasks.say import say
from tasks.side_by_side import ask_side_by_side
from tasks.step import step

WITHIN = timedelta(seconds=10)
"""How long all messages together may take."""


@step("Notify", timeout=timedelta(seconds=30))
def notify(
    target: Target, names: tuple[str, ...], notice: Notice, run_id: str, *, key: str
) -> tuple[str, ...]:
    """Send a notice to each block, once for the run and ``key``.

    ``names`` are "block-type/name", as ``notify.blocks`` has them. Returns a sentence for each that
    was not told. Never raises.
    """
    names = tuple(dict.fromkeys(names))
    if not names:
        return ()
    failed = tell(names, notice)
    _say_told(names, notice, failed)
    target.ledger.record(
        target.environment,
        run_id,
        EventKind.NOTIFIED,
        key=key,
        payload={"to": list(names), "failed": list(failed), "about": notice.subject},
    )
    return failed


@step("Warn", timeout=timedelta(seconds=30))
def warn(names: tuple[str, ...], notice: Notice) -> tuple[str, ...]:
    """Send a notice of a run that knows no environment whose ledger could record it; otherwise as
    :func:`notify`."""
    names = tuple(dict.fromkeys(names))
    failed = tell(names, notice)
    _say_told(names, notice, failed)
    return failed


def _say_told(names: Sequence[str], notice: Notice, failed: Sequence[str]) -> None:
    if names:
        say(f"told {', '.join(names)}: {notice.subject}")
    for sentence in failed:
        say(sentence, WARNING)


def tell(names: Sequence[str], notice: Notice, within: timedelta = WITHIN) -> tuple[str, ...]:
    """Send a notice to all blocks side by side. Returns a sentence for each that did not accept it.

    Only the kind of an error is given: a message may quote the address of a webhook, which is a
    secret.
    """
    found = ask_side_by_side({name: partial(_tell, name, notice) for name in names}, within)
    late = f"no answer within {say_duration(within)}"
    problems = {name: found.get(name, late) for name in names}
    return tuple(f"{name} was not told: {why}" for name, why in problems.items() if why)


def page_of(run_id: str) -> Page:
    """Where people find a run."""
    return Page(run_id, get_current_settings().ui_url or "")


def _tell(name: str, notice: Notice) -> str:
    """Why a block did not accept the notice; "" if it did."""
    try:
        block = Block.load(name)
        block.notify(notice.body, notice.subject)  # type: ignore[union-attr]
    except ValueError as error:  # what Block.load says for a name that there is not
        known = "Unable to find block document" in str(error)
        return "there is no such block" if known else type(error).__name__
    except Exception as error:  # noqa: BLE001  # whatever broke, this one was not told
        return type(error).__name__
    return ""
