"""People are told through Prefect's blocks; one that fails is said, without its address."""

import socket
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from pytest_httpserver import HTTPServer

from release.notice import Notice
from tasks.notification import notify, tell

NOTICE = Notice("production waits", "open: tests")
SECRET = "T00-Tr0ub4dor"

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def hook(httpserver: HTTPServer) -> Any:
    """Makes a block that posts to a path of the receiver, with a secret in its address."""

    def make(name: str) -> str:
        block: Any = CustomWebhookNotificationBlock(
            name=name,
            url=httpserver.url_for(f"/{name}?key={SECRET}"),
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
        block.save(name, overwrite=True)
        return f"custom-webhook/{name}"

    return make


def test_each_block_gets_subject_and_body(httpserver: HTTPServer, hook: Any) -> None:
    sent = {"subject": "production waits", "body": "open: tests"}
    for name in ("ops", "team"):
        httpserver.expect_request(f"/{name}", json=sent).respond_with_data("")

    assert tell([hook("ops"), hook("team")], NOTICE) == ()
    assert sorted(request.path for request, _ in httpserver.log) == ["/ops", "/team"]


def test_what_fails_is_named_without_its_address_and_keeps_nobody_else_from_being_told(
    httpserver: HTTPServer, hook: Any
) -> None:
    httpserver.expect_request("/broken").respond_with_data("", status=500)
    httpserver.expect_request("/ops").respond_with_data("")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and says nothing
        slow: Any = CustomWebhookNotificationBlock(
            name="slow", url=f"http://127.0.0.1:{silent.getsockname()[1]}/?key={SECRET}"
        )
        slow.save("slow", overwrite=True)
        others = ["custom-webhook/slow", "custom-webhook/nobody", "no-block"]
        names = [hook("broken"), *others, hook("ops")]

        failed = tell(names, NOTICE, within=timedelta(seconds=2))

    assert {sentence.partition(" ")[0] for sentence in failed} == set(names[:4])
    assert "custom-webhook/nobody was not told: there is no such block" in failed
    assert "custom-webhook/slow was not told: no answer within 2 s" in failed
    assert SECRET not in "".join(failed)
    assert "/ops" in [request.path for request, _ in httpserver.log]


def test_a_run_that_goes_on_after_a_gate_tells_nobody_twice(
    httpserver: HTTPServer, hook: Any
) -> None:
    httpserver.expect_request("/ops").respond_with_data("")
    recorded: list[Any] = []
    ledger = SimpleNamespace(record=lambda *given, **more: recorded.append(more["payload"]))
    target: Any = SimpleNamespace(environment="production", ledger=ledger)
    name = hook("ops")

    @flow
    def deploy() -> None:
        for _ in range(2):
            failed = notify(target, (name, name, "no/body"), NOTICE, "run", key="gate")
            assert len(failed) == 1

    deploy()

    assert len(httpserver.log) == 1
    assert [one["to"] for one in recorded] == [[name, "no/body"]]
    assert recorded[0]["about"] == "production waits"
