"""What the tests of tasks read back from the Prefect server."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import Artifact as Found


@pytest.fixture
def artifact(prefect_server: None) -> Callable[[str], Any]:
    """The newest artifact of a key, as it was written."""

    def read(key: str) -> Any:
        found = Artifact.get(key)
        assert isinstance(found, Found), f"nothing was written under {key}"
        return found.data

    return read
