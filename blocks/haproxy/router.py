"""HAProxy as the proxy in front of the service, controlled by its admin socket."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from blocks.haproxy.file import instances_in_file, render_backend, slot_names
from blocks.haproxy.socket import ask
from blocks.polling import poll
from blocks.router import Router
from blocks.whole_file import replace_file
from release.configuration.haproxy import HaproxySettings
from release.duration import say_duration
from release.errors import BadConfiguration, RolloutFailed
from release.measure.slot import FULL_WEIGHT, Admin, Slot
from release.measure.tally import Tally
from release.model import Instance
from release.rollout import choose_slots

T = TypeVar("T")

_SETTLE_WITHIN = timedelta(seconds=30)  # from a name to an address, and from there to a check
_END_WITHIN = timedelta(seconds=30)  # for requests to an instance that is gone; as draining has
_POLL = timedelta(milliseconds=50)
# srv_admin_state is a sum of these (HAProxy's management guide, "show servers state").
_MAINT_BITS = 0x01 | 0x02
_DRAIN_BITS = 0x08 | 0x10
_FREE_ADDRESS = "127.0.0.1"


class HaproxyRouter(HaproxySettings, Router):
    """HAProxy 2.6 or newer, controlled through its admin socket; a reload would cost requests.

    The backend file is kept in step, because a restarted HAProxy reads its servers from there. The
    backend needs ``slot_count`` servers named <backend>1, <backend>2, … and a ``resolvers`` section
    that its ``default-server`` names.
    """

    _block_type_name = "Ignition HAProxy Router"

    def check(self) -> None:
        """Raise Unreachable or BadConfiguration if the router could not be controlled."""
        there = self._rows("show servers state " + self.backend)
        missing = [name for name in self._names() if name not in there]
        if missing:
            raise BadConfiguration(
                f"HAProxy's backend {self.backend} has no server {', '.join(missing)}; "
                f"{self.slot_count} slots are configured",
                f"add them to {self.backend_file}, or lower the router's slots",
            )
        if not os.access(self.backend_file.parent, os.W_OK):
            raise BadConfiguration(
                f"{self.backend_file} cannot be written: a restarted HAProxy would use old servers",
                f"ls -ld {self.backend_file.parent}",
            )

    def slots(self) -> tuple[Slot, ...]:
        """All slots, as HAProxy sees them now.

        HAProxy cannot forget a name that a slot once had, so one in maintenance is free unless
        the backend file gives it that name.
        """
        states = self._rows("show servers state " + self.backend)
        counters = self._counters()
        reserved = self._reserved()
        return tuple(
            _slot(name, states[name], counters[name], reserved)
            for name in self._names()
            if name in states and name in counters
        )

    def answered(self) -> Tally:
        """All answers since HAProxy started; a 503 because no server is UP is the backend's own."""
        whole = self._counters()["BACKEND"]
        return Tally(_answers(whole), _number(whole["hrsp_5xx"]))

    def admit(self, instance: Instance, weight: int = FULL_WEIGHT) -> Slot:
        """Let users meet an instance, after HAProxy's own health check of it has passed.

        The order matters. HAProxy calls a server UP as soon as it has an address or leaves
        maintenance, before the first check; so the slot waits in maintenance until the name
        stands for the container's own address, then drained until a fresh check has passed, and
        only then becomes ready.
        """
        if not instance.address:
            raise RolloutFailed(f"{instance.name} has no address on the router's network")
        slots = self.slots()
        (name,) = choose_slots(slots, [instance.name])
        slot = next(slot for slot in slots if slot.name == name)
        known = slot.instance == instance.name and slot.address == instance.address and slot.up
        with self._free_on_failure(name):
            if not known:
                self._introduce(name, instance)
            self._set_weight(name, weight)
            self._set_state(name, Admin.READY)
            admitted = self._settled(lambda: self._slot(name), lambda slot: slot.serving)
            if not admitted.serving:
                after = say_duration(_SETTLE_WITHIN)
                raise RolloutFailed(f"{instance.name} is not UP in {name} after {after}")
        self._write()
        return admitted

    def drain(self, name: str) -> None:
        """Send no new request to the instance; those under way go on."""
        slot = self._slot_of(name)
        if slot is not None and slot.admin is Admin.READY:
            self._set_state(slot.name, Admin.DRAIN)
            self._write()

    def await_idle(self, name: str, within: timedelta) -> int:
        """Wait until no request is under way at the instance; returns how many still are."""

        def under_way() -> int:
            slot = self._slot_of(name)
            return slot.sessions if slot else 0

        return poll(under_way, _is_none, every=_POLL, within=within)

    def retire(self, name: str) -> None:
        """Free the instance's slot. An instance without a slot is not an error."""
        slot = self._slot_of(name)
        if slot is not None:
            self._set_state(slot.name, Admin.MAINT)
            self._set_weight(slot.name, FULL_WEIGHT)
            self._write(free=slot.name)

    def set_weight(self, name: str, weight: int) -> None:
        """Set the instance's share, 1 to 256; 100 is a trusted instance's."""
        slot = self._slot_of(name)
        if slot is not None and slot.weight != weight:
            self._set_weight(slot.name, weight)
            self._write()

    # ---- the steps of an admission

    def _introduce(self, name: str, instance: Instance) -> None:
        """Give a slot its instance, and wait until a fresh health check of it has passed."""
        self._set_state(name, Admin.MAINT)
        row = self._rows("show servers state " + self.backend)[name]
        answer = self._ask(f"set server {self.backend}/{name} fqdn {instance.name}").strip()
        if self._rows("show servers state " + self.backend)[name]["srv_fqdn"] != instance.name:
            raise RolloutFailed(f"HAProxy does not take {instance.name} into {name}: {answer}")
        if (row["srv_fqdn"], row["srv_addr"]) == (instance.name, _FREE_ADDRESS):
            # Killed in `_disconnect`: for a name that it knows, HAProxy does not look again.
            self._set_address(name, instance.address)
        self._until_address(name, instance)
        self._disconnect(name, instance)
        self._set_state(name, Admin.DRAIN)
        row = self._settled(lambda: self._counters()[name], _freshly_checked)
        if not _freshly_checked(row):
            raise RolloutFailed(
                f"{instance.name} is healthy, but HAProxy's own check of it says "
                f"{row['check_status'] or 'nothing'} {row['last_chk']} after "
                f"{say_duration(_SETTLE_WITHIN)}".replace("  ", " "),
                "is the proxy on the same network as the service?",
            )

    def _disconnect(self, name: str, instance: Instance) -> None:
        """Close every connection to the instance that the slot had before.

        HAProxy keeps them when a name gets another address, and also those of requests that end
        only now: the old instance would answer for this one. It closes them when it is told another
        address here. Requests that still run after ``_END_WITHIN`` are cut: they are at an instance
        that left long ago, and their connections would be kept. Raises RolloutFailed if HAProxy
        does not take an address.
        """
        if poll(lambda: self._slot(name).sessions, _is_none, every=_POLL, within=_END_WITHIN):
            self._tell(f"shutdown sessions server {self.backend}/{name}")
        for address in (_FREE_ADDRESS, instance.address):
            self._set_address(name, address)

    def _until_address(self, name: str, instance: Instance) -> None:
        found = self._settled(
            lambda: self._rows("show servers state " + self.backend)[name]["srv_addr"],
            lambda found: found == instance.address,
        )
        if found != instance.address:
            raise RolloutFailed(
                f"HAProxy finds {found} for {instance.name}, which is at {instance.address}, "
                f"after {say_duration(_SETTLE_WITHIN)}",
                "does HAProxy's resolvers section ask the engine's name server?",
            )

    def _settled(self, look: Callable[[], T], good: Callable[[T], bool]) -> T:
        """What was seen last, once it is good or HAProxy has had the time to settle."""
        return poll(look, good, every=_POLL, within=_SETTLE_WITHIN)

    @contextmanager
    def _free_on_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except RolloutFailed:
            self._set_state(name, Admin.MAINT)
            self._write(free=name)
            raise

    # ---- what HAProxy says

    def _names(self) -> tuple[str, ...]:
        return slot_names(self.backend, self.slot_count)

    def _slot(self, name: str) -> Slot:
        return next(slot for slot in self.slots() if slot.name == name)

    def _slot_of(self, instance: str) -> Slot | None:
        return next((slot for slot in self.slots() if slot.instance == instance), None)

    def _rows(self, command: str) -> dict[str, dict[str, str]]:
        """The table that a command answers, by server name."""
        lines = [line for line in self._ask(command).splitlines() if line.strip()]
        head = next((line for line in lines if line.startswith("# ")), "")
        if not head:
            raise BadConfiguration(
                f"HAProxy knows no backend {self.backend}: {' '.join(lines) or 'no answer'}",
                f"echo 'show servers state' | socat stdio {self.socket}",
            )
        columns = head[2:].split()
        rows = (dict(zip(columns, line.split(), strict=False)) for line in lines)
        return {row["srv_name"]: row for row in rows if row.get("be_name") == self.backend}

    def _counters(self) -> dict[str, dict[str, str]]:
        text = self._ask("show stat").removeprefix("# ").strip()
        rows = csv.DictReader(text.splitlines())
        return {row["svname"]: row for row in rows if row["pxname"] == self.backend}

    def _reserved(self) -> dict[str, str] | None:
        try:
            return instances_in_file(self.backend_file.read_text())
        except FileNotFoundError:
            return None

    # ---- what HAProxy is told

    def _set_state(self, name: str, state: Admin) -> None:
        self._tell(f"set server {self.backend}/{name} state {state}")

    def _set_address(self, name: str, address: str) -> None:
        answer = self._ask(f"set server {self.backend}/{name} addr {address}").strip()
        if not answer.startswith(("IP changed", "no need to change")):
            raise RolloutFailed(f"HAProxy does not take {address} into {name}: {answer}")

    def _set_weight(self, name: str, weight: int) -> None:
        self._tell(f"set server {self.backend}/{name} weight {weight}")

    def _tell(self, command: str) -> None:
        """Send a command that changes something; HAProxy answers nothing if it obeys."""
        answer = self._ask(command).strip()
        if answer:
            raise RolloutFailed(f"HAProxy refused {command!r}: {answer}")

    def _ask(self, command: str) -> str:
        return ask(self.socket, command)

    def _write(self, free: str = "") -> None:
        """Bring the backend file in step with what HAProxy does now, in one rename."""
        slots = [replace(slot, instance="") if slot.name == free else slot for slot in self.slots()]
        old = self.backend_file.read_text() if self.backend_file.exists() else ""
        text = render_backend(slots, self.backend, self.port, old, self.health_path)
        if text == old:
            return
        # HAProxy may run as another user than the deployer.
        replace_file(self.backend_file, text.encode(), new_mode=0o644)


def _slot(
    name: str,
    state: Mapping[str, str],
    counters: Mapping[str, str],
    reserved: Mapping[str, str] | None,
) -> Slot:
    """One slot, from HAProxy's two tables and the backend file's names."""
    admin = _admin(int(state["srv_admin_state"]))
    fqdn = state["srv_fqdn"] if state["srv_fqdn"] != "-" else ""
    known = fqdn or (state["srv_addr"] if state["srv_addr"] not in (_FREE_ADDRESS, "-") else "")
    if admin is Admin.MAINT and reserved is not None and reserved.get(name) != known:
        known = ""
    return Slot(
        name=name,
        instance=known,
        remembers="" if known else fqdn,
        address=state["srv_addr"] if known else "",
        admin=admin,
        # One failed check of three ("UP 2/3") is not down: a starved machine fails some.
        up=counters["status"].startswith(("UP", "DRAIN")),
        sessions=_number(counters["scur"]),
        answered_2xx=_number(counters["hrsp_2xx"]),
        answered_4xx=_number(counters["hrsp_4xx"]),
        answered_5xx=_number(counters["hrsp_5xx"]),
        answered=_answers(counters),
        average=timedelta(milliseconds=_number(counters["rtime"])),
        weight=int(state["srv_uweight"]),
    )


def _answers(counters: Mapping[str, str]) -> int:
    kinds = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
    return sum(_number(counters[f"hrsp_{kind}"]) for kind in kinds)


def _admin(bits: int) -> Admin:
    if bits & _MAINT_BITS:
        return Admin.MAINT
    return Admin.DRAIN if bits & _DRAIN_BITS else Admin.READY


def _freshly_checked(counters: Mapping[str, str]) -> bool:
    """Whether a check has passed since the slot left maintenance.

    Leaving it sets HAProxy's health counter to ``rise``; the first check that passes sets it to
    the top, ``rise + fall - 1``. L7OK alone may be about the slot's last instance.
    """
    top = _number(counters["check_rise"]) + _number(counters["check_fall"]) - 1
    # "* " before the word: the next check is under way.
    passed = counters["check_status"].removeprefix("* ") == "L7OK"
    return passed and _number(counters["check_health"]) >= top


def _is_none(count: int) -> bool:
    return count == 0


def _number(text: str) -> int:
    return int(text) if text else 0
