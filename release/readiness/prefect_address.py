"""The address of a Prefect API, and what was probably meant if it is not one."""

from urllib.parse import urlsplit

EXAMPLE = "http://127.0.0.1:4200/api"
"""Where `prefect server start` listens."""

_UI = ("/v2", "/dashboard", "/runs", "/deployments")  # pages that people copy the address of


_HERE = ("127.0.0.1", "localhost", "::1")
_PORT = "4200"  # without --port


def how_to_start(address: str) -> str:
    """What starts the server that does not answer at ``address``: here, or on its own machine.

    `prefect server start` ignores PREFECT_API_URL: it listens on port 4200, whatever was asked.
    """
    parts = urlsplit(address)
    port = parts.netloc.rpartition(":")[2]
    if parts.hostname not in _HERE:
        return f"on {parts.hostname}: prefect server start"
    if port.isdigit() and port != _PORT:
        return f"prefect server start --port {port}"
    return "prefect server start"


def meant_address(address: str) -> str:
    """The API's address that was probably meant; empty if ``address`` already looks like one."""
    scheme, separator, rest = address.rpartition("://")
    root = rest.rstrip("/")
    if not root.endswith("/api"):
        for page in _UI:
            root = root.partition(page)[0]
        root += "/api"
    meant = f"{scheme if separator else 'http'}://{root}"
    return "" if meant == address.rstrip("/") else meant


def hint_for(address: str) -> str:
    """What to type if something answers at ``address``, but not as Prefect's API does."""
    meant = meant_address(address)
    if meant:
        return f"did you mean {meant}? export PREFECT_API_URL={meant}"
    return f"export PREFECT_API_URL={EXAMPLE}, with the host and port of your Prefect server"
