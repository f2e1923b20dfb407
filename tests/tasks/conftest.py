"""What the tests of tasks read back from the Prefect server."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.orchestration import get_client


@pytest.fixture
def artifact(prefect_server: None) -> Callable[[str], Any]:
    """The newest artifact of a key, as it was written."""

    def read(key: str) -> Any:
        # Prefect 3.8.8's own Artifact.get sends nulls that its server refuses.
        wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "UPDATED_DESC", "limit": 1}
        with get_client(sync_client=True) as client:
            found = client.request("POST", "/artifacts/filter", json=wanted).json()
        return found[0]["data"]

    return read
