"""A proxy in memory, before the containers of a FakeOrchestrator."""

import sys
from dataclasses import replace
from datetime import timedelta

from pydantic import PrivateAttr

from blocks.haproxy.file import slot_names
from blocks.router import Router
from release.errors import RolloutFailed, Unreachable
from release.measure.slot import FULL_WEIGHT, Admin, Slot
from release.measure.tally import Tally
from release.model import Instance
from release.rollout import choose_slots
from tests.fakes.orchestrator import FakeOrchestrator


class FakeRouter(Router):
    """Slots that lead to containers; ``answer`` sends requests through them."""

    _block_type_name = "Fake Router"
    kind: str = "in memory"
    orchestrator: FakeOrchestrator
    _slots: dict[str, Slot] = PrivateAttr(
        default_factory=lambda: {name: Slot(name) for name in slot_names("api", 6)}
    )
    _silent: int = PrivateAttr(default=0)  # how many looks are still not answered
    _refused: int = PrivateAttr(default=0)  # by itself: no instance was there to answer

    def hang_up(self, looks: int = sys.maxsize) -> None:
        """Answer none of the next ``looks``."""
        self._silent = looks

    def begin_again(self) -> None:
        """Count from zero, as one does that was restarted."""
        self._refused = 0
        for name, slot in self._slots.items():
            self._slots[name] = replace(slot, answered=0, answered_2xx=0, answered_5xx=0)

    def check(self) -> None:
        self.slots()

    def slots(self) -> tuple[Slot, ...]:
        if self._silent:
            self._silent -= 1
            raise Unreachable("the router does not answer")
        return tuple(self._seen(slot) for slot in self._slots.values())

    def answered(self) -> Tally:
        slots = self.slots()
        return Tally(
            sum(slot.answered for slot in slots) + self._refused,
            sum(slot.answered_5xx for slot in slots) + self._refused,
        )

    def admit(self, instance: Instance, weight: int = FULL_WEIGHT) -> Slot:
        (name,) = choose_slots(self.slots(), [instance.name])
        # Whatever was in that slot, this is what the router's own check finds.
        if instance.health != "healthy" or not self._behind(instance.name):
            self._slots[name] = Slot(name)
            raise RolloutFailed(f"{instance.name} is not UP in {name}")
        self._slots[name] = replace(
            self._slots[name], instance=instance.name, admin=Admin.READY, weight=weight
        )
        return self._seen(self._slots[name])

    def drain(self, name: str) -> None:
        self._change(name, admin=Admin.DRAIN)

    def await_idle(self, name: str, within: timedelta) -> int:
        return 0

    def retire(self, name: str) -> None:
        self._change(name, instance="", admin=Admin.MAINT, weight=FULL_WEIGHT)

    def set_weight(self, name: str, weight: int) -> None:
        self._change(name, weight=weight)

    def answer(self, requests: int) -> int:
        """Send requests round robin; returns how many failed."""
        serving = [slot for slot in self.slots() if slot.serving]
        if not serving:
            self._refused += requests
            return requests
        failed = 0
        for number in range(requests):
            slot = self._slots[serving[number % len(serving)].name]
            behind = self._behind(slot.instance)
            bad = behind is None or self.orchestrator.behaviour(behind) == "errors"
            failed += bad
            self._slots[slot.name] = replace(
                slot,
                answered=slot.answered + 1,
                answered_2xx=slot.answered_2xx + (not bad),
                answered_5xx=slot.answered_5xx + bad,
            )
        return failed

    def _seen(self, slot: Slot) -> Slot:
        behind = self._behind(slot.instance)
        up = behind is not None and slot.admin is not Admin.MAINT
        return replace(slot, up=up, address=behind.address if behind else "")

    def _behind(self, name: str) -> Instance | None:
        for instance in self.orchestrator.host.containers:
            if instance.name == name and instance.running:
                return instance
        return None

    def _change(self, occupant: str, **values: object) -> None:
        for name, slot in self._slots.items():
            if slot.instance == occupant and occupant:
                self._slots[name] = replace(slot, **values)  # type: ignore[arg-type]
