"""One environment: the systems that a run talks to, together."""

from pydantic import Field

from blocks.builder import Builder
from blocks.compose.orchestrator import ComposeOrchestrator
from blocks.forge import Forge
from blocks.haproxy.router import HaproxyRouter
from blocks.ledger.ledger import Ledger
from blocks.metrics import Metrics
from blocks.on_call import OnCall
from blocks.part import Part
from blocks.postgres.database import Database
from blocks.postgres.rehearsal import Rehearsal
from blocks.registry import Registry
from blocks.repository import Repository
from blocks.service import Service
from blocks.ticketing import Ticketing


class Target(Part):
    """Everything that one environment consists of.

    Saved as ``ignition-target/<environment>`` by ``ignition setup``. Its parts are blocks of their
    own, so that an operator can change an address or rotate a secret in one place.
    """

    _block_type_name = "Ignition Target"

    environment: str = Field(description="The environment's name.")
    url: str = Field(description="The public address.")
    repository: Repository
    builder: Builder
    registry: Registry
    database: Database
    rehearsal: Rehearsal = Field(default_factory=Rehearsal)
    orchestrator: ComposeOrchestrator
    router: HaproxyRouter | None = None
    service: Service
    metrics: Metrics
    ledger: Ledger
    ticketing: Ticketing
    forge: Forge = Field(default_factory=Forge)
    on_call: OnCall = Field(default_factory=OnCall)
