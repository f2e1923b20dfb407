"""Which instances count as serving, and so as what a rollback brings back."""

from types import SimpleNamespace
from typing import Any

import pytest

from release.model import ImageRef, Instance
from release.rollout import Admin, Slot
from tasks.baseline import serving

IMAGE = ImageRef("registry/api", "sha256:" + "1" * 64)
ONE = Instance("c1", "api-1", "10.0.0.2", IMAGE, "v1.0.0", "a" * 40, "running", "healthy")


def a_target(*slots: Slot) -> Any:
    return SimpleNamespace(
        router=SimpleNamespace(slots=lambda: slots),
        orchestrator=SimpleNamespace(instances=lambda: (ONE,)),
    )


@pytest.mark.parametrize("up", [True, False], ids=["answers", "too busy to answer"])
def test_an_instance_that_the_router_is_to_send_requests_to_serves(up: bool) -> None:
    """Was nothing, a deployment at a busy moment took itself for the first, with no way back."""
    found = serving(a_target(Slot("api1", "api-1", admin=Admin.READY, up=up)))

    assert found == (ONE,)


@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINT])
def test_an_instance_that_was_taken_out_does_not(admin: Admin) -> None:
    assert serving(a_target(Slot("api1", "api-1", admin=admin, up=True))) == ()
