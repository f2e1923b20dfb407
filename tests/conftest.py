"""A Prefect server of the tests' own, on an empty database."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Started once for all tests of flows and tasks: it takes longer than any of them."""
    # Imported here: the tests of rules run without Prefect, in a few seconds.
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield
