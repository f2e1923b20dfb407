"""`make chaos`: hits a deployment at one moment, again and again; it must end well each time.

Everything goes to staging, with users on it, and every release brings a migration of its own.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg

from sandbox import runs, witness
from sandbox.chaos import faults
from sandbox.chaos.cells import EVERY_CELL, REFUSED, Cell, Fault, Moment, chosen, in_order_of_play
from sandbox.chaos.moments import SEEN_BY_USERS, Candidate, Subject, World
from sandbox.chaos.table import HEAD, RATE, Result, Seen, rows, rows_of
from sandbox.commands import run, wait_until
from sandbox.errors import NotReady, SandboxError
from sandbox.layout import CHECKOUT, Sandbox
from sandbox.parts import environments, origin, prefect, stack
from sandbox.runs import AT, RUN_TIMEOUT, Kept, follow, next_version, roll_back, say, start
from sandbox.traffic import Traffic, TrafficReport
from sandbox.witness import Lookout

if TYPE_CHECKING:
    from cli.runs import RunView

KEPT = CHECKOUT / ".chaos"  # the logs of cells that failed
RESULTS = Kept(
    section="chaos",
    head=HEAD,
    right=(5, 6, 7),
    rows=rows,
    name=lambda result: result.cell,
    read=Result.from_json,
)
P0 = "P0: orders are charged twice"
SETTLE_TIMEOUT = 300.0  # seconds
SETTLED_TO = 0.3  # seconds between looks: each one slows down what it looks at
AFTERWARDS = 60.0  # seconds in which a recovery may still find that there is nothing to do
TAIL = 2.0  # seconds of traffic after it is settled
MIGRATIONS = "app/backend/migrations"
FIRST_FILE = 3  # after those of main
# Each file writes one row, so that a file that is applied twice is noticed.
TABLE = "CREATE TABLE chaos_effects (file text NOT NULL);\n"
EFFECT = "INSERT INTO chaos_effects VALUES ('{file}');\n"
# A file that is to be hit is held open for long enough; not in its rehearsal, on a copy.
HELD_OPEN = f"SELECT pg_sleep(0.8) WHERE current_database() = '{AT}';\n"
HIT_IN_ITS_FILE = (Moment.MIGRATE, Moment.MIGRATING)
ENDS_A_RUN = {
    *(Fault.KILL_RUN, Fault.FORGET, Fault.KILL_ROLLBACK, Fault.KILL_BOTH, Fault.HANG),
    *(Fault.CANCEL, Fault.CANCEL_TWICE, Fault.REGISTRY_GONE, Fault.ORIGIN_GONE),
}


def chaos(sandbox: Sandbox, rounds: int, only: str, add: bool = False) -> bool:
    """Play each chosen cell ``rounds`` times. Returns whether all passed every time.

    Results replace those that are kept of the same cells, or are added to them (``add``), and
    docs/chaos.md shows all that are kept. Raises SandboxError if this sandbox is up already, or
    for an unknown cell.
    """
    cells = tuple(in_order_of_play(chosen(only)))
    done: list[Result] = []
    earlier = RESULTS.earlier() if add else []
    with stack.standing(sandbox, "chaos"):
        field = Field(sandbox)
        field.prepare()
        for round in range(1, rounds + 1):
            for number, cell in enumerate(cells, start=1):
                say(f"\nround {round} of {rounds}, {number} of {len(cells)}: {cell.name}")
                done.append(field.play(cell))
                RESULTS.keep([*earlier, *done])
    show(done)
    return all(not result.wrongs for result in done)


@dataclass
class Field:
    """A sandbox, its users, and a line of releases, each with one migration more."""

    sandbox: Sandbox
    branch: str = "main"
    numbers: Any = field(default_factory=lambda: count(FIRST_FILE))  # of our migrations
    serving: Candidate | None = None  # the newest release, if it was deployed
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.sandbox)

    def prepare(self) -> None:
        """Deploy a release that makes the table into which each migration writes."""
        say("\na good release is deployed first")
        self.serving = self.release("before anything is broken", TABLE)
        ended = follow(self.deploy(self.serving))
        if ended.state != "Deployed":
            raise SandboxError(f"it ended as {ended.state}: {ended.message}")

    def play(self, cell: Cell) -> Result:
        """Deploy, or roll back, under traffic, hit it at the moment, wait until it is settled, and
        look.
        """
        made = self.serving if cell.is_rollback else None
        if made is None:
            held = HELD_OPEN if cell.moment in HIT_IN_ITS_FILE else ""
            made = self.release(cell.name, EFFECT + held)
            if cell.is_rollback:
                follow(self.deploy(made))
        url = self.sandbox.staging.public_url
        lookout = Lookout(url)
        looking = lookout if cell.moment in SEEN_BY_USERS else nullcontext()  # it costs as users do
        with looking, Traffic(url, rate=RATE) as client:
            instances, pinned = frozenset(self.world.instances()), self.pinned()
            began = roll_back(P0, by="chaos") if cell.is_rollback else self.deploy(made)
            subject = Subject(began.id, began.label, made, pinned, instances)
            came = self.world.await_moment(cell.moment, subject, lookout, RUN_TIMEOUT)
            at = time.time()
            if came:
                came = self.hit(cell, began.id)
            settled = self.await_settled(subject)
            over = time.time()
            faults.mend(self.sandbox)
            time.sleep(TAIL)  # how long it is looked at, not a wait for something
            report = client.stop()
        seen = self.look(cell, subject, came, at, over if settled else None, report)
        result = self.tell(cell, seen, began.id, report)
        is_new = seen.serves == made.version and not result.wrongs
        self.serving = made if is_new else None
        return result

    def hit(self, cell: Cell, run_id: str) -> bool:
        """Break it. Returns False if there is nothing left to break."""
        try:
            faults.inject(self.sandbox, cell.fault, run_id)
        except SandboxError as error:
            say(f"  {error}")
            return False
        return True

    # ---- deployments

    def release(self, notes: str, sql: str) -> Candidate:
        """One commit more, on a branch of its own, with one migration more."""
        number = next(self.numbers)
        version = next_version(self.sandbox, least=number)
        file = f"{number:04d}"
        files = {f"{MIGRATIONS}/{file}_chaos.sql": sql.format(file=file)}
        own = f"chaos/{version}"
        message = f"Release {version}: {notes}"
        commit = origin.branch_off(self.sandbox.origin, self.branch, own, message, files)
        self.branch = own
        return Candidate(
            version, commit, file, environments.served_version(self.sandbox.staging) or ""
        )

    def deploy(self, made: Candidate) -> "RunView":
        """Start the deployment of the newest release."""
        request = {"version": made.version, "ref": self.branch, "started_by": "chaos"}
        return start("deploy", request, made.version)

    # ---- what comes of it

    def await_settled(self, subject: Subject) -> bool:
        """Wait until nothing is under way any more. Returns False if the time runs out."""
        try:
            wait_until(
                lambda: self.is_settled(subject),
                what=f"an end to {subject.label}",
                seconds=SETTLE_TIMEOUT,
                hint=f"read {self.sandbox.logs}",
                every=SETTLED_TO,
            )
        except NotReady:
            return False
        return True

    def is_settled(self, subject: Subject) -> bool:
        """Whether the run has ended and was written down or recovered, and no lock is held.

        One that was refused while the ledger was away is written down by the next run.
        """
        run_id = subject.run_id
        try:
            if witness.lock_holder(self.sandbox, AT):  # first, for Prefect's server is busy enough
                return False
            over = self.world.ending(run_id) or self.world.recovered(run_id)
            over = over or self.world.state(run_id) == REFUSED
            return bool(over) and not self.world.unfinished()
        except (httpx.HTTPError, psycopg.OperationalError):
            return False  # it is among what is broken just now

    def look(
        self,
        cell: Cell,
        subject: Subject,
        came: bool,
        at: float,
        over: float | None,
        report: TrafficReport,
    ) -> Seen:
        """Look at everything that may be wrong now."""
        wait_until(
            lambda: prefect.server_answers(self.sandbox),
            what="an answer from the Prefect server",
            seconds=prefect.START_TIMEOUT,
            hint=f"read {self.sandbox.logs}",
        )
        world, made = self.world, subject.candidate
        with suppress(NotReady):  # what is still under way then is counted
            wait_until(
                lambda: not world.unfinished(),
                what="an end to all runs",
                seconds=AFTERWARDS,
                hint="",
            )
        tag = self.sandbox.origin / "refs/tags" / made.version
        after = [sample for sample in report.samples if over and sample.sent_at > over]
        ours = f"{FIRST_FILE:04d}"
        return Seen(
            version=made.version,
            before=made.before,
            came=came,
            ending=world.ending(subject.run_id),
            state=world.state(subject.run_id),
            serves=environments.served_version(self.sandbox.staging) or "",
            answered_after=dict(Counter(sample.version for sample in after)),
            requests=report.requests,
            failed=report.failed,
            in_hand_after=world.in_hand(at) if cell.fault in ENDS_A_RUN else None,
            settled_after=over - at if over else None,
            held_by=witness.lock_holder(self.sandbox, AT),
            containers=witness.instances(self.sandbox.staging),
            pinned=self.pinned(),
            waiting=world.unfinished(),
            tag=origin.revision(self.sandbox.origin, made.version) if tag.exists() else "",
            commit=made.commit,
            applied=dict(world.ask("SELECT file, count(*) FROM chaos_effects GROUP BY file")),
            recorded=[file for file in world.recorded_files() if file > ours],
            invalid_indexes=world.ask("SELECT count(*) FROM pg_index WHERE NOT indisvalid")[0][0],
        )

    def pinned(self) -> str:
        """The image that a reboot would bring up."""
        return witness.pinned(self.sandbox.staging)

    # ---- what is shown and kept

    def tell(self, cell: Cell, seen: Seen, run_id: str, report: TrafficReport) -> Result:
        """Say how a cell went, and keep its log if it failed."""
        result = Result.of(cell, seen)
        hand = "–" if seen.in_hand_after is None else f"{seen.in_hand_after:.1f} s"
        settled = "never" if seen.settled_after is None else f"{seen.settled_after:.1f} s"
        say(f"  {result.ending}, {result.serves} serves; in hand: {hand}, settled: {settled}")
        say(f"  {seen.failed:,} of {seen.requests:,} requests failed")
        for wrong in result.wrongs:
            say(f"  WRONG: {wrong}")
        if result.wrongs:
            say(f"  see {self.keep_log(cell, seen, run_id, report)}")
            self.free()
        return result

    def free(self) -> None:
        """Give the environment back after a cell that left it held, for those that follow."""
        if witness.lock_holder(self.sandbox, AT):
            program = self.sandbox.programs / "ignition"
            run([program, "unlock", AT, "--as", "chaos", "--reason", "the cell ended wrong"])

    def keep_log(self, cell: Cell, seen: Seen, run_id: str, report: TrafficReport) -> Path:
        """Write down what is needed to understand a wrong ending."""
        KEPT.mkdir(exist_ok=True)
        file = KEPT / f"{cell.name}-{datetime.now(UTC):%H%M%S}.log"
        query = (
            "SELECT at, run_id, kind, step, payload::text FROM ledger_events"
            " WHERE environment = %s ORDER BY seq DESC LIMIT 60"
        )
        with psycopg.connect(self.sandbox.ledger_url) as ledger:
            events = ledger.execute(query, (AT,)).fetchall()
        lines = [
            json.dumps(asdict(seen), indent=2, default=list),
            *(f"failed {line}" for line in witness.failures(report)),
            *(" ".join(str(value) for value in event)[:400] for event in reversed(events)),
            *(
                f"{datetime.fromtimestamp(at, UTC):%H:%M:%S.%f} {line}"
                for at, line in witness.log(self.sandbox, run_id)
            ),
        ]
        file.write_text("\n".join(lines) + "\n")
        return file


def show(done: Sequence[Result]) -> None:
    """Print the table of these cells."""
    there = {result.cell for result in done}
    runs.show(HEAD, rows_of([cell for cell in EVERY_CELL if cell.name in there], done))
    runs.say_wrongs([(result.cell, result.wrongs) for result in done])
