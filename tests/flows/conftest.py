"""An environment whose ledger, people and Prefect server are real."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.ledger.ledger import Ledger
from tests.fakes.environment import Environment
from tests.fakes.gate import Gate, MakeGate, enrolled, new_ledger


@pytest.fixture
def production(
    dsn: str, tmp_path: Path, prefect_server: None, httpserver: HTTPServer
) -> Environment:
    """v1.0.0 serves; the team and the pager can be told."""
    ledger = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    ledger.install()
    for name in ("team", "pager"):
        httpserver.expect_request(f"/{name}").respond_with_data("")
        block: Any = CustomWebhookNotificationBlock(
            name=name,
            url=httpserver.url_for(f"/{name}"),
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
        block.save(name, overwrite=True)
    return Environment(ledger, urls=("custom-webhook/team", "custom-webhook/pager"))


@pytest.fixture
def told(httpserver: HTTPServer) -> Callable[[], list[tuple[str, str]]]:
    """Who was told what, in order."""

    def read() -> list[tuple[str, str]]:
        return [(request.path, (request.json or {})["subject"]) for request, _ in httpserver.log]

    return read


@pytest.fixture
def new_gate(postgres: str, tmp_path: Path) -> MakeGate:
    """Makes gates, with a ledger and approvers of the test's own: codes count once."""
    ledger, approvers = new_ledger(postgres, tmp_path / "spool"), enrolled(tmp_path)

    def make(**given: Any) -> Gate:
        return Gate(**{"ledger": ledger, "approvers": approvers, **given})

    return make
