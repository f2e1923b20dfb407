"""What the tests of tasks read back from the Prefect server."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect.artifacts import Artifact


@pytest.fixture
def artifact(prefect_server: None) -> Callable[[str], Any]:
    """The newest artifact of a key, as it was written."""

    def read(key: str) -> Any:
        found: Any = Artifact.get(key)  # of another class than its own
        assert found is not None, f"nothing was written under {key}"
        return found.data

    return read
