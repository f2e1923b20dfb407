"""A spool of what a statistics service is to be told, in a file: it outlives a restart."""

import os
import threading
import time
from pathlib import Path

FILE = Path("/tmp/statistics.spool")
ENTRY = b"." * 64
ROOM = 200  # entries
PACE = 0.1  # seconds an entry: the room is for 20 s of a statistics service that does not answer
DATA_ERROR = 65  # exit code


def start() -> None:
    """Spool in the background, also what an earlier process of this container left over."""
    threading.Thread(target=keep, daemon=True).start()


def keep() -> None:
    """Add entries at their pace. A full spool must not lose one, so it ends the process."""
    began, spooled = time.monotonic(), FILE.stat().st_size if FILE.exists() else 0
    while True:
        due = spooled + int((time.monotonic() - began) / PACE) * len(ENTRY)
        if due >= ROOM * len(ENTRY):
            print(f"{FILE} is full: {ROOM} entries wait for the statistics service", flush=True)
            FILE.write_bytes(ENTRY * ROOM)
            os._exit(DATA_ERROR)
        FILE.write_bytes(b"." * due)
        time.sleep(PACE)
