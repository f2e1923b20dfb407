"""A schedule over HTTP: who is on call, and what is no answer."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.pagerduty.on_call import PagerDuty
from release.errors import Unreachable
from release.gate.evidence import Duty, Message

TOKEN = "u+Tr0ub4dor"


@pytest.fixture
def on_call(httpserver: HTTPServer) -> PagerDuty:
    return PagerDuty(url=httpserver.url_for("/"), schedule="PI7DH85", token=SecretStr(TOKEN))


def duty(end: str | None, **user: str) -> dict[str, Any]:
    return {"user": {"summary": "Grace H.", **user}, "end": end, "start": None}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], None),
        ([duty(None)], Duty("Grace H.")),
        (
            [duty("2026-11-03T18:00:00Z", name="Grace", html_url="https://pager/1"), duty(None)],
            Duty("Grace", datetime(2026, 11, 3, 18, tzinfo=UTC), "https://pager/1"),
        ),
    ],
)
def test_the_schedule_names_who_is_on_call(
    httpserver: HTTPServer, on_call: PagerDuty, found: list[Any], expected: Duty | None
) -> None:
    wanted = {"schedule_ids[]": "PI7DH85", "include[]": "users", "earliest": "true"}
    headers = {"Authorization": f"Token token={TOKEN}"}
    httpserver.expect_request("/oncalls", query_string=wanted, headers=headers).respond_with_json(
        {"oncalls": found}
    )

    assert on_call.now() == expected


def incident(title: str, status: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "status": status, "html_url": "https://pager/7", **more}


ACKNOWLEDGED = {"acknowledger": {"summary": "Grace H."}, "at": "2026-11-03T14:02:00Z"}
RESOLVED = {"last_status_change_at": "2026-11-03T14:02:00Z"}
LINK, AT = "https://pager/7", datetime(2026, 11, 3, 14, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], None),
        ([incident("[d-000000] production waits", "triggered")], None),
        ([incident("[d-1874ab] production waits", "triggered")], Message(link=LINK)),
        (
            [
                incident("disk full", "triggered"),
                incident("[d-1874ab] waits", "acknowledged", acknowledgements=[ACKNOWLEDGED]),
                incident("[d-1874ab] waited", "triggered"),
            ],
            Message("Grace H.", AT, LINK),
        ),
        (  # one that came later, that Ada has signed, takes back no acknowledgement
            [
                incident("[d-1874ab] still waits: Ada has signed", "triggered"),
                incident("[d-1874ab] waits", "acknowledged", acknowledgements=[ACKNOWLEDGED]),
            ],
            Message("Grace H.", AT, LINK),
        ),
        (
            [
                incident(
                    "[d-1874ab] waits",
                    "resolved",
                    last_status_change_by={"type": "user_reference", "summary": "Grace H."},
                    **RESOLVED,
                )
            ],
            Message("Grace H.", AT, LINK),
        ),
        (
            [
                incident(
                    "[d-1874ab] waits",
                    "resolved",
                    last_status_change_by={"type": "service_reference", "summary": "API"},
                    **RESOLVED,
                )
            ],
            Message(link=LINK),
        ),
    ],
)
def test_a_message_says_who_has_acknowledged_it(
    httpserver: HTTPServer, on_call: PagerDuty, found: list[Any], expected: Message | None
) -> None:
    headers = {"Authorization": f"Token token={TOKEN}"}
    wanted = {"sort_by": "created_at:desc", "limit": "100"}
    httpserver.expect_request("/incidents", query_string=wanted, headers=headers).respond_with_json(
        {"incidents": found}
    )

    assert on_call.message("[d-1874ab]") == expected


def test_an_incident_of_another_shape_is_no_answer(
    httpserver: HTTPServer, on_call: PagerDuty
) -> None:
    odd = incident("[d-1874ab] waits", "acknowledged", acknowledgements=[])
    httpserver.expect_request("/incidents").respond_with_json({"incidents": [odd]})

    with pytest.raises(Unreachable, match="another shape"):
        on_call.message("[d-1874ab]")


@pytest.mark.parametrize(
    ("schedule", "token", "configured"), [("", "", False), ("P", "", True), ("", "t", True)]
)
def test_there_is_somebody_to_ask_with_a_schedule_or_a_key(
    schedule: str, token: str, configured: bool
) -> None:
    assert PagerDuty(schedule=schedule, token=SecretStr(token)).configured is configured


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("{}", 200, "another shape"),
        ("no", 200, "another shape"),
        ('{"oncalls": [{"user": null}]}', 200, "another shape"),
        ('{"oncalls": [{"user": {"name": "A"}, "end": "soon"}]}', 200, "another shape"),
        ("{}", 401, "answers 401"),
        ("", 302, "answers 302"),
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(
    httpserver: HTTPServer, on_call: PagerDuty, body: str, code: int, says: str
) -> None:
    httpserver.expect_request("/oncalls").respond_with_data(body, status=code)

    with pytest.raises(Unreachable, match=says) as refused:
        on_call.now()
    assert TOKEN not in str(refused.value)
