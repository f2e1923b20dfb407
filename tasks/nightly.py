"""Whether the nightly deployment has something to do."""

from datetime import timedelta

from blocks.target import Target
from release.nightly import skip
from tasks.baseline import serving
from tasks.say import say
from tasks.step import step


@step("Has main moved?", timeout=timedelta(minutes=3), retries=3)
def reason_to_skip(target: Target) -> str:
    """Why tonight's deployment is skipped although all is well; empty if it goes on.

    Raises SourceRefused if the branch has not moved and its head was abandoned.
    """
    target.repository.fetch()
    main = target.repository.main
    now = serving(target)
    reason = skip(
        main,
        target.repository.resolve(main),
        now[0].revision if now else "",
        target.ledger.log(target.environment, limit=200),
    )
    if reason:
        say(f"skipped: {reason}")
    return reason
