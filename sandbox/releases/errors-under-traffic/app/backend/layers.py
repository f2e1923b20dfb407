"""What every request passes on its way to a route."""

from audit import Audited
from edge import Edge
from metrics import Measured
from starlette.types import ASGIApp


def wrap(app: ASGIApp) -> ASGIApp:
    """The application with its layers around it."""
    return Edge(Measured(Audited(app)))
