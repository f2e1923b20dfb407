"""The file that a restarted HAProxy reads: what is written, and what of a team's own is kept."""

from dataclasses import replace

import pytest

from blocks.haproxy.file import instances_in_file, render_backend, slot_names
from release.measure.slot import Admin, Slot

OWN = """\
# the team's own
backend other
  server web 10.0.0.1:80

backend api
  balance leastconn
  server api1 app-api-1:8000
  server api2 127.0.0.1:8000 disabled
  timeout server 5s

listen stats
  bind :9
"""


def in_slot(number: int, instance: str, admin: Admin = Admin.READY, **values: object) -> Slot:
    up = admin is not Admin.MAINT
    return replace(Slot(f"api{number}", instance, "", admin, up), **values)  # type: ignore[arg-type]


def free_slots(first: int, last: int = 6) -> tuple[Slot, ...]:
    return tuple(Slot(f"api{number}") for number in range(first, last + 1))


def test_a_new_file_checks_health_and_has_every_slot() -> None:
    slots = (in_slot(1, "app-api-1"), in_slot(2, "app-api-2", weight=25), *free_slots(3, 3))

    text = render_backend(slots, "api", 8000, health_path="/ready")

    assert text.startswith("backend api\n  balance roundrobin\n")
    assert "uri /ready ver HTTP/1.1" in text
    assert text.endswith(
        "  server api1 app-api-1:8000 weight 100\n"
        "  server api2 app-api-2:8000 weight 25\n"
        "  server api3 127.0.0.1:8000 weight 100 disabled\n"
    )


def test_what_a_team_wrote_around_its_servers_is_kept() -> None:
    text = render_backend((in_slot(1, "app-api-7"), *free_slots(2, 2)), "api", 8000, OWN)

    assert text == OWN.replace(
        "  server api1 app-api-1:8000\n  server api2 127.0.0.1:8000 disabled\n", ""
    ).replace(
        "  timeout server 5s\n",
        "  timeout server 5s\n"
        "  server api1 app-api-7:8000 weight 100\n"
        "  server api2 127.0.0.1:8000 weight 100 disabled\n",
    )


def test_rendering_twice_changes_nothing() -> None:
    slots = (in_slot(1, "app-api-7"), *free_slots(2))
    once = render_backend(slots, "api", 8000, OWN)

    assert render_backend(slots, "api", 8000, once) == once


@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINT])
def test_a_restarted_router_sends_nothing_to_a_drained_instance_but_knows_it(admin: Admin) -> None:
    text = render_backend((in_slot(1, "app-api-1", admin),), "api", 8000)

    assert text.endswith("  server api1 app-api-1:8000 weight 100 disabled\n")
    assert instances_in_file(text) == {"api1": "app-api-1"}


def test_a_free_slot_has_no_instance_in_the_file() -> None:
    assert instances_in_file(render_backend(free_slots(1, 1), "api", 8000)) == {"api1": ""}


def test_slots_are_numbered_from_one() -> None:
    assert slot_names("api", 3) == ("api1", "api2", "api3")
