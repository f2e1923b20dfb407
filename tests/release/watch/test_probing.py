"""What probes ask for, in which order, and what is said of an error rate that rests on them."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from release.configuration.rules import WatchProbe
from release.measure.counters import ProbeLook
from release.measure.tally import Tally
from release.measure.traffic import PROBES, ROUTER
from release.model import Probe
from release.watch.probing import (
    Asked,
    after_probes,
    measured_on,
    mix_of,
    next_probes,
    say_failed,
    unmeasured,
)
from tests.fakes.samples import PROMETHEUS

KNOWN = mix_of((), "/health", "/api/", "/api/me")
MS = timedelta(milliseconds=1)
ORDERS = WatchProbe(path="/api/orders", weight=3, expect=(200, 304))


def asked(wanted: WatchProbe, status: int, detail: str = "") -> Asked:
    return Asked(wanted, Probe(datetime(2026, 1, 8, tzinfo=UTC), status, MS, detail))


def test_without_a_list_half_of_the_probes_do_what_a_user_does() -> None:
    shares = Counter(probe.name for probe in next_probes(KNOWN, 0, 1000))
    assert shares == {"GET /health": 100, "GET /api/": 400, "GET /api/me": 500}
    assert [probe.session for probe in KNOWN] == [False, False, True]


def test_without_an_account_nothing_is_asked_that_needs_one() -> None:
    mix = mix_of((), "/health", "/api/", "")
    assert [(probe.name, probe.weight) for probe in mix] == [("GET /health", 1), ("GET /api/", 4)]


def test_a_list_is_asked_as_it_is() -> None:
    assert mix_of((ORDERS,), "/health", "/api/", "/api/me") == (ORDERS,)


def test_any_few_probes_in_a_row_are_spread_by_weight() -> None:
    """Samples are small: one after the other must not ask for one page alone."""
    for first in range(20):
        few = Counter(probe.name for probe in next_probes(KNOWN, first, 10))
        assert few == {"GET /health": 1, "GET /api/": 4, "GET /api/me": 5}


def test_samples_go_on_where_the_one_before_stopped() -> None:
    whole = next_probes(KNOWN, 0, 23)
    assert next_probes(KNOWN, 0, 7) + next_probes(KNOWN, 7, 16) == whole
    assert next_probes(KNOWN, 5, 0) == ()


@pytest.mark.parametrize(
    ("probe", "good", "errors"),
    [
        (WatchProbe(path="/"), [200, 204, 299], [0, 302, 401, 404, 500]),
        (WatchProbe(path="/", expect=404), [404], [0, 200, 500]),  # type: ignore[arg-type]
        (ORDERS, [200, 304], [0, 204, 404, 503]),
    ],
    ids=["nothing said", "one", "several"],
)
def test_what_is_not_answered_as_expected_is_an_error(
    probe: WatchProbe, good: list[int], errors: list[int]
) -> None:
    assert not any(asked(probe, status).failed for status in good)
    assert all(asked(probe, status).failed for status in errors)


def test_too_many_requests_say_nothing_unless_they_are_expected() -> None:
    assert not asked(ORDERS, 429).counts
    assert asked(ORDERS, 200).counts
    limit = WatchProbe(path="/limit", expect=(429,))
    assert (asked(limit, 429).counts, asked(limit, 429).failed) == (True, False)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        pytest.param([], ProbeLook(Tally(10, 1), (MS,)), id="none"),
        pytest.param([200, 304], ProbeLook(Tally(12, 1), (MS,) * 3), id="as expected"),
        pytest.param([200, 500], ProbeLook(Tally(12, 2), (MS,) * 3), id="one failed"),
        pytest.param([0], ProbeLook(Tally(11, 2), (MS,)), id="no answer has no answer time"),
        pytest.param([429, 200], ProbeLook(Tally(11, 1), (MS,) * 3, 1), id="too many"),
    ],
)
def test_what_came_of_probes_is_added_to_what_came_before(
    statuses: list[int], expected: ProbeLook
) -> None:
    before = ProbeLook(Tally(10, 1), (MS,))

    assert after_probes(before, [asked(ORDERS, status) for status in statuses]) == expected


def test_a_probe_that_failed_is_said_with_what_was_expected() -> None:
    assert say_failed(asked(ORDERS, 404)) == "GET /api/orders answers HTTP 404, expected 200 or 304"
    silent = asked(WatchProbe(path="/?key=1"), 0, "no answer within 10 s")
    assert say_failed(silent) == "GET / is not answered: no answer within 10 s, expected 200 to 299"


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "api/orders"},
        {"path": "/a b"},
        {"path": "/a\nX-Header: 1"},
        {"path": "/", "method": "DELETE"},
        {"path": "/", "weight": 0},
        {"path": "/", "expect": [99]},
        {"path": "/", "body": "{}"},
    ],
    ids=str,
)
def test_a_probe_that_cannot_be_sent_or_may_destroy_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WatchProbe.model_validate(wrong)


def test_what_is_measured_is_said_and_what_is_not() -> None:
    alone = (
        "error rate measured on: our own probes of GET /health, GET /api/, GET /api/me; not "
        "measured: all other requests, because neither a router nor a metrics server counts them"
    )
    assert measured_on((), KNOWN) == alone
    assert unmeasured((PROBES,), KNOWN) == (alone,)
    assert measured_on((ROUTER, PROMETHEUS), (ORDERS, ORDERS)) == (
        "error rate measured on: all requests, as the router counts them, and those that "
        "Prometheus counts, and our own probes of GET /api/orders"
    )
    assert unmeasured((PROBES, ROUTER), KNOWN) == ()
