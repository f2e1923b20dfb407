"""What every request passes on its way to a route."""

import spool
from edge import Edge
from metrics import Measured
from starlette.types import ASGIApp


def wrap(app: ASGIApp) -> ASGIApp:
    """The application with its layers around it."""
    spool.start()
    return Edge(Measured(app))
