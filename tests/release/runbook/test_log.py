"""Which rows of a runbook are deployments."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from release.runbook.log import WrittenRow, written_rows

HEAD = "| Date | Version | Deployer | Notes |\n|------|---------|----------|-------|\n"


def test_the_rows_of_a_runbooks_own_log_are_read() -> None:
    """Those of this runbook, as it is shipped: one."""
    runbook = Path(__file__).parents[3] / "RUNBOOK.md"

    (row,) = written_rows(runbook.read_text())

    at = datetime(2026, 1, 8, tzinfo=UTC)
    assert row == WrittenRow(at, "v1.0.0", "Initial", "Migration to Postgres")
    assert row.key == "2026-01-08 v1.0.0"


@pytest.mark.parametrize(
    "text",
    [
        f"## Deployment Log\n\n{HEAD}",
        f"## Deployment Log\n\n{HEAD}| YYYY-MM-DD | v1.2.3 | you | why |\n",
        f"## Deployment Log\n\n{HEAD}| 2026-01-08 | | Initial | no version |\n",
        f"## Contacts\n\n{HEAD}| 2026-01-08 | v1.0.0 | Ada | another table |\n",
        f"## Deployment Log\n\n```\n{HEAD}| 2026-01-08 | v1.0.0 | Ada | an example |\n```\n",
        "## Deployment Log\n",
        "",
    ],
)
def test_what_is_no_deployment_is_no_row(text: str) -> None:
    assert written_rows(text) == []


def test_a_row_with_fewer_cells_is_read_as_far_as_it_goes() -> None:
    (row,) = written_rows(f"## Deployment Log\n\n{HEAD}| 2026-02-03 | v1.1.0 |\n")

    assert (row.version, row.deployer, row.notes) == ("v1.1.0", "", "")
