"""The registry: which kinds of each sort of system there are.

A kind is one line here, one class of settings, and the module of its block, which is also what its
settings are: the block's class has both for bases, so no field is written twice.

Blocks are named by their place and imported when a target is made: reading settings waits for no
client library, and a team on Compose needs no other kind's library.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union

from pydantic import Discriminator, Tag

from release.configuration.compose import ComposeSettings
from release.configuration.github import GithubForgeSettings, GithubTicketSettings
from release.configuration.haproxy import HaproxySettings
from release.configuration.kinds import KindSettings
from release.configuration.pagerduty import PagerDutySettings
from release.configuration.prometheus import PrometheusSettings

if TYPE_CHECKING:
    from blocks.forge import Forge
    from blocks.metrics_source import MetricsServer
    from blocks.on_call import OnCall
    from blocks.orchestrator import Orchestrator
    from blocks.part import Part
    from blocks.router import Router
    from blocks.ticketing import Ticketing

P = TypeVar("P", bound="Part")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its settings, and its block as ``module:Class``."""

    settings: type[KindSettings]
    place: str

    @property
    def name(self) -> str:
        """What ``kind`` says in the configuration."""
        return str(self.settings.model_fields["kind"].default)

    @property
    def block(self) -> Any:
        """The block's class. Its module is imported now."""
        return resolve_name(self.place)


class Kinds(Generic[P]):
    """The kinds of one sort of system. The first is used if a configuration names none."""

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = list(kinds)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds)

    def add(self, kind: Kind) -> None:
        """Register one more. Settings and targets that are read afterwards know it."""
        self._kinds.append(kind)

    def settings(self) -> Any:
        """The type of a table of the configuration: the settings of any kind, told by ``kind``."""
        first = self._kinds[0]
        if len(self._kinds) == 1:
            return first.settings

        def name_in(table: Any) -> Any:
            if isinstance(table, Mapping):
                return table.get("kind", first.name)
            return getattr(table, "kind", None)

        tagged = tuple(Annotated[kind.settings, Tag(kind.name)] for kind in self)
        return Annotated[Union[tagged], Discriminator(name_in)]  # noqa: UP007  # made at run time

    def default(self) -> Any:
        """The settings of a missing table."""
        made: Any = self._kinds[0].settings
        return made()

    def blocks(self) -> Any:
        """The type of a target's part: the block of any kind. Prefect tells them by their slug."""
        return Union[tuple(kind.block for kind in self)]  # noqa: UP007

    def block_of(self, settings: KindSettings, **given: Any) -> P:
        """The block that is made of these settings and of the ``given`` fields.

        A given field never overwrites one that the settings have themselves.
        """
        block = next(kind.block for kind in self if kind.name == settings.kind)
        made: P = block(**(given | settings.model_dump(by_alias=True)))
        return made


ORCHESTRATORS: "Kinds[Orchestrator]" = Kinds(
    Kind(ComposeSettings, "blocks.compose.orchestrator:ComposeOrchestrator"),
)
ROUTERS: "Kinds[Router]" = Kinds(
    Kind(HaproxySettings, "blocks.haproxy.router:HaproxyRouter"),
)
METRICS: "Kinds[MetricsServer]" = Kinds(
    Kind(PrometheusSettings, "blocks.prometheus:Prometheus"),
)
FORGES: "Kinds[Forge]" = Kinds(
    Kind(GithubForgeSettings, "blocks.github.forge:GithubForge"),
)
ON_CALL: "Kinds[OnCall]" = Kinds(
    Kind(PagerDutySettings, "blocks.pagerduty.on_call:PagerDuty"),
)
TICKETING: "Kinds[Ticketing]" = Kinds(
    Kind(GithubTicketSettings, "blocks.github.ticketing:GithubTicketing"),
)
