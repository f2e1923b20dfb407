"""HAProxy's file of one backend, as text, which HAProxy reads when it restarts."""

import re
from collections.abc import Sequence

from release.measure.slot import FULL_WEIGHT, Admin, Slot


def slot_names(backend: str, count: int) -> tuple[str, ...]:
    """The names of the router's slots: ``api1`` to ``api6``."""
    return tuple(f"{backend}{number}" for number in range(1, count + 1))


def render_backend(
    slots: Sequence[Slot], backend: str, port: int, text: str = "", health_path: str = "/health"
) -> str:
    """Write HAProxy's ``backend`` section with one line for each slot.

    Everything in ``text`` (the present file) except its slots is kept, so that a team can tune its
    backend there. A free slot points at nothing. One that is not ready is ``disabled`` but keeps
    its name: a router that restarts sends it nothing, and it can still be admitted again.
    """
    lines = [_server_line(slot, port) for slot in slots]
    own = {slot.name for slot in slots}
    kept = (text or _new_backend(backend, health_path)).splitlines()
    kept = [line for line in kept if _server_of(line) not in own]
    at = _end_of_section(kept, backend)
    return "\n".join([*kept[:at], *lines, *kept[at:]]) + "\n"


def instances_in_file(text: str) -> dict[str, str]:
    """Slot name to instance name, as the router's file has it; "" for a free slot."""
    found = {}
    for line in text.splitlines():
        name = _server_of(line)
        if name:
            host = line.split()[2].rpartition(":")[0]
            found[name] = "" if host == "127.0.0.1" else host
    return found


def _new_backend(backend: str, health_path: str) -> str:
    # Not leastconn: it gives everything to a server that fails fast. rise 1 and fall 3: a starved
    # machine must not take the only server out.
    return f"""\
backend {backend}
  balance roundrobin
  option httpchk
  http-check send meth GET uri {health_path} ver HTTP/1.1 hdr Host proxy
  http-check expect status 200
  default-server check inter 1s fastinter 200ms downinter 200ms fall 3 rise 1 \
resolvers docker resolve-prefer ipv4 init-addr last,none
"""


def _server_line(slot: Slot, port: int) -> str:
    if not slot.instance:
        return f"  server {slot.name} 127.0.0.1:{port} weight {FULL_WEIGHT} disabled"
    line = f"  server {slot.name} {slot.instance}:{port} weight {slot.weight}"
    return line if slot.admin is Admin.READY else f"{line} disabled"


def _server_of(line: str) -> str:
    words = line.split()
    return words[1] if len(words) > 2 and words[0] == "server" else ""


def _end_of_section(lines: Sequence[str], backend: str) -> int:
    """Where the last line of ``backend <name>`` ends; the end of the file if it has none."""
    inside, end = False, len(lines)
    for number, line in enumerate(lines):
        if re.match(r"\S", line) and not line.startswith("#"):
            inside = line.split()[:2] == ["backend", backend]
        if inside and line.strip():
            end = number + 1
    return end
