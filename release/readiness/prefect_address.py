"""The address of a Prefect API, and what was probably meant if it is not one."""

EXAMPLE = "http://127.0.0.1:4200/api"
"""Where `prefect server start` listens."""

_UI = ("/v2", "/dashboard", "/runs", "/deployments")  # pages that people copy the address of


def meant_address(address: str) -> str:
    """The API's address that was probably meant; empty where ``address`` already looks like one."""
    scheme, separator, rest = address.rpartition("://")
    root = rest.rstrip("/")
    if not root.endswith("/api"):
        for page in _UI:
            root = root.partition(page)[0]
        root += "/api"
    meant = f"{scheme if separator else 'http'}://{root}"
    return "" if meant == address.rstrip("/") else meant


def hint_for(address: str) -> str:
    """What to type where something answers at ``address``, but not as Prefect's API does."""
    meant = meant_address(address)
    if meant:
        return f"did you mean {meant}? export PREFECT_API_URL={meant}"
    return f"export PREFECT_API_URL={EXAMPLE}, with the host and port of your Prefect server"
