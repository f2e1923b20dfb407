"""One environment: the systems that a run talks to, together."""

from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from blocks import kinds
from blocks.builder import Builder
from blocks.ledger.ledger import Ledger
from blocks.metrics import Metrics
from blocks.part import Part
from blocks.postgres.database import Database
from blocks.postgres.rehearsal import Rehearsal
from blocks.registry import Registry
from blocks.repository import Repository
from blocks.service import Service

if TYPE_CHECKING:
    from blocks.forge import Forge
    from blocks.on_call import OnCall
    from blocks.orchestrator import Orchestrator
    from blocks.router import Router
    from blocks.ticketing import Ticketing
else:  # Prefect loads a part as the kind that it was saved as
    Forge = kinds.FORGES.blocks()
    OnCall = kinds.ON_CALL.blocks()
    Orchestrator = kinds.ORCHESTRATORS.blocks()
    Router = kinds.ROUTERS.blocks()
    Ticketing = kinds.TICKETING.blocks()


class Target(Part):
    """Everything that one environment consists of.

    Saved as ``ignition-target/<environment>`` by ``ignition setup``. Its parts are blocks of their
    own, so that an operator can change an address or rotate a secret in one place.
    """

    _block_type_name = "Ignition Target"

    environment: str
    """The environment's name."""

    url: str
    """The public address."""

    repository: Repository
    builder: Builder
    registry: Registry
    database: Database
    rehearsal: Rehearsal = Field(default_factory=Rehearsal)
    orchestrator: Orchestrator
    router: Router | None = None
    service: Service
    metrics: Metrics
    ledger: Ledger
    ticketing: Ticketing
    forge: Forge
    on_call: OnCall


def say_unreadable(error: RuntimeError) -> str:
    """Why a saved target cannot be loaded, as Prefect raises it: the fields, and never a value."""
    problems = error.__cause__.errors() if isinstance(error.__cause__, ValidationError) else []
    fields = sorted({".".join(map(str, problem["loc"])) for problem in problems})
    named = f": {', '.join(fields)}" if fields else ""
    return f"was saved by another version, and this one cannot read it{named}"
