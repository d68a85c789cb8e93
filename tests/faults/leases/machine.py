"""A machine: a directory, memory that survives a process, a clock of its own rate, and one agent with its callers.

The agent here is its pure core with the least that carries out its effects, in the order that the core asks for. It may die
at any store into its cell, at any commit of its database and at any message.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import structs

from sidemeter.cell import Cell, OwnMemory, digest_of
from sidemeter.holder import Head, Holder, Outgoing, may_resume
from sidemeter.holder import Standing as Kept
from sidemeter.leases import ALLOWED, Amounts, Counts, Key, Lease, Leases

from ..simulation.world import World
from .oracle import HolderId, Oracle
from .wire import Answered, Asked, Batch, Hello, HelloAnswer, Informed, Network, Row

__all__ = ["AGENT", "AgentParts", "Directory", "Killed", "Machine", "Process"]

RETRIES_AFTER_S: Final = 0.3
HURRIES_AFTER_S: Final = 0.02
MAX_TRIES_OF_A_CALLER: Final = 3


class Killed(BaseException):
    """kill -9: what the process was about to do does not happen."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A reservation as the database keeps it."""

    parts: tuple[tuple[Key, int], ...]
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Directory:
    """What the agent's database holds; replaced as a whole by each commit.

    `rows` are its events, of which the first `counted` are known to be; `caps` the price caps that it heard last.
    """

    agent_id: str
    hello_id: str
    last_epoch: int = 0
    standing: Kept | None = None
    names: frozenset[Key] = frozenset()
    holds: dict[str, HeldRow] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    counted: int = 0
    caps: dict[str, int] = field(default_factory=dict)
    steps: int = 0


class TmpMemory(OwnMemory):
    """Memory of the kernel: there after the process, gone after a reboot."""

    survives = True


def _as_they_are(counts: Counts) -> Counts:
    return counts


@dataclass(frozen=True, slots=True)
class AgentParts:
    """The rules that an agent is made of, or ones broken on purpose."""

    leases: type[Leases] = Leases
    holder: type[Holder] = Holder
    may_resume: Callable[..., bool] = may_resume
    process: "type[Process] | None" = None
    resume_counts: Callable[[Counts], Counts] = _as_they_are


AGENT: Final = AgentParts()


class SimCell(Cell):
    """A cell whose process may die between any two stores, and in the middle of one."""

    process: "Process | None" = None

    def _store(self, offset: int, content: bytes) -> None:
        process = self.process
        if process is not None and process.machine.strikes("killed at a store"):
            words = process.world.rng.randrange(len(content) // 8 + 1)
            super()._store(offset, content[: 8 * words])
            raise Killed
        super()._store(offset, content)


class Process:
    """One life of an agent, from its start to whatever ends it."""

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.world = machine.world
        self.parts = machine.parts
        self.alive = True
        self.holder: Holder | None = None
        self.lost: list[Holder] = []
        self.cell = SimCell(machine.tmpfs)
        self.cell.process = self
        self._ends = 0
        self._counted = 0
        self._sent: tuple[str, float] = ("", 0.0)

    # Starting

    def start(self) -> None:
        """Go on as who it was, or say hello."""
        directory, cell = self.machine.directory, self.cell
        names = {digest_of(key): key for key in directory.names}
        known = not cell.is_damaged and cell.found.keys() <= names.keys()
        head = cell.head
        standing = directory.standing and structs.replace(directory.standing, steps=directory.steps)
        if self.parts.may_resume(head, standing, self.machine.boot_id, names_known=known):
            if head is None:
                head = self._head(directory.hello_id, directory.last_epoch)
            found = [
                (names[digest], index, self.parts.resume_counts(counts))
                for digest, (index, counts) in cell.found.items()
                if digest in names
            ]
            self._resume(head, found)
        else:
            self.commit(hello_id=self.machine.new_id(), standing=None, holds={}, names=frozenset())
            self._say_hello()

    def _resume(self, head: Head, found: list[tuple[Key, int, Counts]]) -> None:
        self.world.fault("epoch goes on after a kill", head.hello_id, head.epoch)
        machine = self.machine
        holder = self.parts.holder.resume(machine.directory.agent_id, head, found)
        holder.leases.__class__ = self.parts.leases
        rows = machine.directory.holds.items()
        changed = holder.leases.resume([(hold_id, row.parts, row.deadline_ms) for hold_id, row in rows])
        self._take_up(holder)
        for lease in holder.leases:
            machine.oracle.sees(self.name_of(holder), lease)
        self.keep(holder, changed)
        for limit in machine.limits:
            holder.leases.watch(limit, machine.oracle.period_now[limit])
        self.sync(holder)

    def _say_hello(self) -> None:
        directory = self.machine.directory
        hello = Hello(directory.agent_id, directory.hello_id, directory.last_epoch)
        self.machine.network.send(self.machine.name, hello, self.entering(self._hear_hello))
        self.world.later(RETRIES_AFTER_S, self.entering(lambda: self._say_hello_again(hello)))

    def _say_hello_again(self, hello: Hello) -> None:
        if self.holder is None and self.machine.directory.hello_id == hello.hello_id:
            self._say_hello()

    def _hear_hello(self, answer: Answered) -> None:
        directory = self.machine.directory
        if self.holder is not None or not isinstance(answer, HelloAnswer) or answer.hello_id != directory.hello_id:
            return
        head = self._head(answer.hello_id, answer.epoch)
        self.commit(standing=Kept(answer.hello_id, answer.epoch), last_epoch=answer.epoch, caps=answer.caps)
        self.cell.begin(head)
        holder = self.parts.holder(directory.agent_id, head, self.parts.leases())
        self._take_up(holder)
        for limit, period in answer.periods.items():
            holder.leases.watch(limit, period)
        self.sync(holder)

    def _head(self, hello_id: str, epoch: int) -> Head:
        return Head(hello_id, epoch, self.machine.boot_id, sync_id=self.machine.new_id())

    def _take_up(self, holder: Holder) -> None:
        self.holder = holder
        self.machine.oracle.lives(self.name_of(holder), self)

    def name_of(self, holder: Holder) -> HolderId:
        return holder.agent_id, holder.head.hello_id

    # Keeping

    def keep(self, holder: Holder, leases: Sequence[Lease]) -> None:
        """Keep counts in the cell, as long as it is this holder's."""
        for lease in leases:
            if self.cell.head is not None and self.cell.head.hello_id == holder.head.hello_id:
                if lease.index < 0:
                    lease.index = self.cell.claim(lease.key)
                self.cell.write(lease.index, *lease.counts)
            self.machine.oracle.sees(self.name_of(holder), lease)

    def commit(self, **changes: object) -> None:
        """Commit to the database; the process may die before or after."""
        machine = self.machine
        if machine.strikes("killed before a commit"):
            raise Killed
        machine.directory = replace(machine.directory, **changes)  # type: ignore[arg-type]
        if machine.strikes("killed after a commit"):
            raise Killed

    def step(self, holder: Holder, **changes: object) -> None:
        """Commit what is relied on from here on: the cell knows of it first."""
        steps = self.machine.directory.steps + 1
        self.commit(steps=steps, **changes)
        if self.cell.head is not None and self.cell.head.hello_id == holder.head.hello_id:
            holder.head = structs.replace(holder.head, steps=steps)
            self.cell.turn(holder.head)

    # Syncing

    def sync(self, holder: Holder) -> None:
        """Send what a holder has to say, once what it returns is kept."""
        out = holder.report(self.machine.now_ms())
        self.send(holder, out)

    def hurry(self, holder: Holder) -> None:
        """Sync out of turn, unless a sync is under way."""
        sync_id, sent_s = self._sent
        if sync_id != holder.head.sync_id or self.world.now_s - sent_s > RETRIES_AFTER_S:
            self.sync(holder)

    def send(self, holder: Holder, out: Outgoing) -> None:
        self.keep(holder, out.store)
        if self.machine.strikes("killed at a message"):
            raise Killed
        self._sent = out.message.sync_id, self.world.now_s
        reply = self.entering(lambda answer: self._hear(holder, answer))
        self.machine.network.send(self.machine.name, Asked(out.message, self.machine.directory.rows), reply)

    def _hear(self, holder: Holder, informed: Answered) -> None:
        if not isinstance(informed, Informed) or (holder is not self.holder and holder not in self.lost):
            return
        answer = informed.answer
        heard = holder.hear(answer, self.machine.new_id())
        self.keep(holder, heard.store)
        if heard.turned and holder is self.holder:
            self.cell.turn(holder.head)
            head, names = holder.head, frozenset(lease.key for lease in holder.leases)
            standing = Kept(head.hello_id, head.epoch, head.nonce)
            self.learn(holder, informed, standing=standing, names=names)
            for lease in heard.drop:
                self.cell.release(lease.index)
                lease.index = -1
        if heard.lost and holder is self.holder:
            self._lose(holder, renamed=answer.status == "FENCED")
        if holder in self.lost and holder.is_settled:
            self.lost.remove(holder)
        if holder is self.holder and holder.leases.hurry:
            self.world.later(HURRIES_AFTER_S, self.entering(lambda: self.hurry(holder)))

    def learn(self, holder: Holder, informed: Informed, **kept: object) -> None:
        """What was debited for events that are counted is settled, once it is kept that they are."""
        directory = self.machine.directory
        rows, counted = directory.rows, informed.counted
        if counted > len(rows) or (counted and rows[counted - 1].id != informed.last_id):
            counted = 0  # of another copy of this directory
        self._counted = counted
        self.step(holder, counted=max(directory.counted, counted), caps=informed.caps, **kept)
        self.settle(holder, rows[directory.counted : counted])

    def settle(self, holder: Holder, rows: Sequence[Row]) -> None:
        """Give back what these took of the leases of this holder; whatever another one was debited for stays."""
        settled: Counter[Key] = Counter()
        for row in rows:
            if row.hello_id == holder.head.hello_id:
                settled.update(dict(row.debits))
        for key, units in settled.items():
            lease = holder.leases.get(key)
            if lease is not None:
                holder.leases.settle(lease, units)
                self.machine.oracle.settles(self.name_of(holder), key, units)
                self.keep(holder, [lease])

    def _lose(self, holder: Holder, *, renamed: bool) -> None:
        """Its epoch is over: what it has left is returned, and a new one begun, under a new name if another has its own."""
        self.world.fault("epoch lost", self.name_of(holder))
        self.lost.append(holder)
        self.holder = None
        agent_id = self.machine.new_id() if renamed else self.machine.directory.agent_id
        self.commit(agent_id=agent_id, hello_id=self.machine.new_id(), standing=None, holds={}, names=frozenset())
        self._say_hello()

    def tick(self) -> None:
        """A sync's turn; and every hold whose time is over. Now and then events are sent before that."""
        rows = self.machine.directory.rows[self._counted :]
        if rows and (self.world.calm or self.world.chance(0.5)):
            self.machine.network.send(self.machine.name, Batch(rows), lambda answer: None)
        for holder in [*self.lost, *([self.holder] if self.holder else [])]:
            self.keep(holder, holder.leases.expire(self.machine.now_ms()))
            self.sync(holder)

    # What callers do

    def spend(self, amounts: Sequence[tuple[str, int]], tries: int = MAX_TRIES_OF_A_CALLER) -> None:
        """Use so much of each limit at once, if that is allowed; wait for a grant a few times.

        Of money it is so many units at the price cap that is known here.
        """
        holder, leases = self._leases_of([(limit, self.debit(limit, units)) for limit, units in amounts])
        if holder is None or leases is None:
            return
        verdict = holder.leases.spend(leases)
        self.machine.oracle.answers[verdict.answer] += 1
        if verdict is ALLOWED:
            self.allowed(holder, leases)
            if self.world.chance(0.03):
                holder.leases.take_back(leases)
                self.keep(holder, [lease for lease, _ in leases])
            else:
                self.happens(holder, amounts, leases)
        elif verdict.answer == "ask" and tries:
            self.hurry(holder)
            self.world.later(0.05, self.entering(lambda: self.spend(amounts, tries - 1)))

    def debit(self, limit: str, units: int) -> int:
        """What so many units take of a lease: of money, what they cost at most."""
        return units * self.machine.directory.caps.get(limit, 1)

    def happens(self, holder: Holder, amounts: Sequence[tuple[str, int]], leases: Amounts) -> None:
        """The operation takes place; where it costs money it is an event, which is kept first."""
        machine, name = self.machine, self.name_of(holder)
        costs, debits = [], []
        for (limit, units), (lease, debit) in zip(amounts, leases, strict=True):
            if limit in machine.directory.caps:
                debits.append((lease.key, debit))
                costs.append((lease.key, units * machine.price(limit)))
        if costs:
            if machine.strikes("killed before a commit"):
                raise Killed
            row = Row(machine.new_id(), name[1], tuple(debits), tuple(costs))
            machine.directory = replace(machine.directory, rows=(*machine.directory.rows, row))
        in_money, caps = dict(costs), machine.directory.caps
        for (limit, units), (lease, debit) in zip(amounts, leases, strict=True):
            cost = in_money.get(lease.key, debit)
            beyond = max(cost - units * caps.get(limit, 1), 0)  # at a price that is not known here yet
            machine.oracle.spends(name, lease.key, cost, beyond, debit)
        if costs and machine.strikes("killed after a commit"):
            raise Killed

    def allowed(self, holder: Holder, amounts: Amounts) -> None:
        """What was debited is kept before the caller is told."""
        self.keep(holder, [lease for lease, _ in amounts])

    def reserve(self, amounts: Sequence[tuple[str, int]], *, kept: bool, lasts_s: float, deadline_ms: int) -> None:
        """Reserve, then use some of it in a while, whatever happens to the agent meanwhile, and say how much."""
        holder, leases = self._leases_of(amounts)
        if holder is None or leases is None:
            return
        hold_id = self.machine.new_id()
        if holder.leases.reserve(hold_id, leases, deadline_ms) is not ALLOWED:
            return
        self.keep(holder, [lease for lease, _ in leases])
        if kept:
            row = HeldRow(tuple((lease.key, units) for lease, units in leases), deadline_ms)
            self.commit(holds=self.machine.directory.holds | {hold_id: row})
        used = [self._used(units) for _, units in leases]
        parts = [(lease.key, units) for lease, units in leases]
        name, machine = self.name_of(holder), self.machine
        machine.oracle.under_way[name] += 1
        self.world.later(lasts_s, lambda: machine.operate(name, hold_id, parts, used))

    def _used(self, units: int) -> int:
        rng = self.world.rng
        if rng.random() < self.machine.overruns:
            self.world.fault("operation costs more than it reserved")
            return units + rng.randint(1, 5)
        return rng.randint(0, units)

    def end(self, name: HolderId, hold_id: str, used: Sequence[int] | None) -> None:
        """A final call, once or several times; None: the operation did not start."""
        for _ in range(self.world.rng.choice((1, 1, 2))):
            for holder in [*self.lost, *([self.holder] if self.holder else [])]:
                if self.name_of(holder) == name:
                    self.end_once(holder, hold_id, used)

    def end_once(self, holder: Holder, hold_id: str, used: Sequence[int] | None) -> None:
        """The end is kept in the database, with the event, before the counts change."""
        held = self.machine.directory.holds
        if hold_id in held:
            self.step(holder, holds={each: row for each, row in held.items() if each != hold_id})
        leases = holder.leases
        changed = leases.release(hold_id) if used is None else leases.commit(hold_id, used)
        self.keep(holder, [lease for lease, _ in changed or ()])

    def _leases_of(self, amounts: Sequence[tuple[str, int]]) -> tuple[Holder | None, list[tuple[Lease, int]] | None]:
        if self.holder is None:
            return None, None
        found = [(self.holder.leases.current(limit), units) for limit, units in amounts]
        if any(lease is None for lease, _ in found):
            return self.holder, None
        return self.holder, [(lease, units) for lease, units in found if lease is not None]

    # Stopping

    def stop(self) -> None:
        """SIGTERM: wait a moment for reservations, return what is free, and end."""
        holder = self.holder
        if holder is None or self._ends:
            self.machine.ended(self)
            return
        holder.stop()
        self._ends = 1
        self.world.later(0.3, self.entering(lambda: self.sync(holder)))
        self.world.later(0.6, self.entering(lambda: self.machine.ended(self)))

    def entering(self, call: Callable[..., None]) -> Callable[..., None]:
        """Let a call happen in this process, if it still lives then."""

        def enter(*given: object) -> None:
            if self.alive:
                try:
                    call(*given)
                except Killed:
                    self.machine.ended(self)

        return enter


class Machine:
    """Runs one agent. `kills` is how often it dies at a point where it can."""

    def __init__(
        self,
        world: World,
        oracle: Oracle,
        network: Network,
        name: str,
        limits: Sequence[str],
        kills: float,
        parts: AgentParts,
        directory: Directory | None = None,
    ) -> None:
        self.world = world
        self.oracle = oracle
        self.network = network
        self.name = name
        self.limits = limits
        self.kills = kills
        self.parts = parts
        self.overruns = 0.0
        self.rate = world.rng.choice((1.0, 1.0, 0.5, 3.0))
        self._offset_ms = world.rng.randrange(1_000_000)
        self.directory = Directory(self.new_id(), self.new_id()) if directory is None else directory
        self.tmpfs = TmpMemory()
        self.boot_id = self.new_id()
        self.price: Callable[[str], int] = lambda limit: 0
        self.process: Process | None = None

    def now_ms(self) -> int:
        """What its monotonic clock says."""
        return self._offset_ms + int(self.world.now_s * 1000 * self.rate)

    def new_id(self) -> str:
        return f"{self.world.rng.getrandbits(40):010x}"

    def strikes(self, kind: str) -> bool:
        """Whether its process dies here."""
        return self.world.strikes(kind, self.kills, self.name)

    def start(self) -> None:
        """Begin a process, unless there is one."""
        if self.process is None:
            self.process = (self.parts.process or Process)(self)
            self.process.entering(self.process.start)()

    def ended(self, process: Process) -> None:
        """The process is gone, in whatever way; it is started again."""
        if process.alive:
            process.alive = False
            self.process = None
            self.world.later(self.world.rng.uniform(0.05, 1.0), self.start)

    def kill(self) -> None:
        """kill -9, between two steps."""
        if self.process is not None:
            self.ended(self.process)

    def reboot(self) -> None:
        """Everything in memory is gone, and the machine is another run of itself."""
        self.kill()
        self.tmpfs, self.boot_id = TmpMemory(), self.new_id()

    def put_back(self, directory: Directory, memory: bytes | None) -> None:
        """Restore a copy of the directory; with `memory`, an image of the whole machine, which then boots."""
        self.kill()
        self.directory = directory
        if memory is not None:
            self.reboot()
            self.tmpfs.grow(len(memory))
            self.tmpfs.view[:] = memory

    def run(self, call: Callable[[Process], None]) -> None:
        """Let the process do something, if there is one."""
        if self.process is not None:
            process = self.process
            process.entering(lambda: call(process))()

    def operate(self, name: HolderId, hold_id: str, parts: list[tuple[Key, int]], used: list[int]) -> None:
        """The operation of a reservation happens, and its end is said; or it never started, or its end is never said."""
        self.oracle.under_way[name] -= 1
        what = self.world.rng.choice(("commit", "commit", "commit", "release", "silent"))
        if what != "release":
            for (key, units), each in zip(parts, used, strict=True):
                self.oracle.spends(name, key, each, max(each - units, 0))
        if what != "silent":
            final = None if what == "release" else used
            for after_s in self.world.rng.choice(((0.0,), (0.0,), (2.0,), (0.0, 1.5))):
                self.world.later(after_s, lambda: self.run(lambda process: process.end(name, hold_id, final)))
