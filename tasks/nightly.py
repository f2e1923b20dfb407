"""Whether the nightly deployment has something to do."""

from datetime import timedelta

from prefect import get_run_logger

from blocks.target import Target
from release.nightly import skip
from tasks.baseline import serving
from tasks.step import step


@step("Has main moved?", timeout=timedelta(minutes=3), retries=3)
def reason_to_skip(target: Target, run: str) -> str:
    """Why tonight's deployment is skipped; empty where it goes on."""
    target.repository.fetch()
    main = target.repository.main
    now = serving(target)
    reason = skip(
        main,
        target.repository.resolve(main),
        now[0].revision if now else "",
        target.ledger.log(target.environment, limit=20),
    )
    if reason:
        get_run_logger().info("[%s] Nightly   skipped: %s", run, reason)
    return reason
