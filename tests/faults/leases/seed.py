"""One seed: agents share limits in a world that breaks, then in one that does not; what it came to."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sidemeter_control.limits.leases import Standing, smallest_grant

from ..simulation.world import Violation, World
from .machine import AGENT, AgentParts, Directory, Machine, Process
from .oracle import Oracle
from .plane import Books, Plane
from .wire import Network, Storm

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CAST", "KINDS", "Cast", "Outcome", "live"]

KINDS: Final = (
    *("kill", "reboot", "terminate", "copy", "set_back", "image", "clone"),
    *("cut_there", "cut_back", "crash_plane", "back_up", "roll_back"),
    *("raise_limit", "lower_limit", "reset_period", "write_off"),
    *("grant_credits", "expire_credits", "change_price"),
)
MAX_MACHINES: Final = 5
CREDITS: Final = "credits"
"""A limit in money that has no periods: grants raise it, and what expires lowers it."""
SYNCS: Final = 3
"""Within which everything that is not in doubt must be spendable, once the faults have ended."""


@dataclass(frozen=True)
class Cast:
    """Who plays: a test puts somebody in who breaks a rule. `is_dense`: every one of `kinds` happens, and often; `in_money`:
    there are limits in money in every world."""

    plane: type[Plane] = Plane
    agent: AgentParts = AGENT
    kinds: tuple[str, ...] = KINDS
    is_dense: bool = False
    in_money: bool = False


CAST: Final = Cast()


@dataclass
class Outcome:
    """What one seed came to; `violation` None: every promise held."""

    seed: int
    violation: str | None = None
    operations: int = 0
    spent: int = 0
    allowed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


def live(seed: int, cast: Cast = CAST, *, tracing: bool = False) -> Outcome:
    """Let a world unfold from `seed`: first broken in every way that the seed draws, then left alone."""
    world = World(seed, tracing=tracing)
    stage = _Stage(world, cast)
    outcome = Outcome(seed)
    try:
        stage.play()
    except Violation as exc:
        outcome.violation = str(exc)
    oracle = stage.oracle
    outcome.operations, outcome.faults, outcome.answers = oracle.operations, world.faults, oracle.answers
    outcome.spent, outcome.allowed = oracle.spent.total(), sum(oracle.allowed.values())
    outcome.trace = world.trace
    return outcome


class _Stage:
    """Everything that a seed draws before it begins, and the two phases."""

    def __init__(self, world: World, cast: Cast) -> None:
        self.world = world
        rng = world.rng
        self._rate = rng.choice((0.0, 0.01, 0.05))
        self.oracle = Oracle(world)
        self.limits = {f"limit{n}": rng.choice((30, 100, 1000, 400_000)) for n in range(rng.randint(1, 3))}
        self._cast = cast
        self.caps = self._money()
        storm = (0.02, 0.02, 0.1, 0.3, 0.1) if cast.is_dense else tuple(self._often() for _ in range(5))
        self.network = Network(world, Storm(*storm))
        self.plane = cast.plane(world, self.oracle, dict(self.limits), dict(self.caps), self._often() / 2)
        self.network.serve = self.plane.serve
        self._kills = rng.choice((0.0, 0.0, 0.002, 0.01))
        self._overruns = rng.choice((0.0, 0.0, 0.0, 0.05))
        self._pause_s = rng.choice((0.05, 0.2))
        self._greed = rng.choice((3, 10, 40))
        self.machines = [self._machine(f"m{n}") for n in range(rng.randint(2, 4))]
        kinds = [kind for kind in cast.kinds if cast.is_dense or rng.random() < 0.5] or ["kill"]
        self._nemesis = _Nemesis(self, kinds, 0.15 if cast.is_dense else rng.choice((0.3, 1.0)))

    def _money(self) -> dict[str, int]:
        """Limits in money, and what a unit of usage costs at most in each, in nano-units of a currency."""
        rng = self.world.rng
        named = [name for name in ("money", CREDITS) if self._cast.in_money or rng.random() < 0.6]
        self.limits |= {name: rng.choice((2_000, 3_000_000, 10**12)) for name in named}
        return {name: self.limits[name] // rng.choice((50, 300, 1500)) or 1 for name in named}

    def price(self, limit: str) -> int:
        """What a unit of usage costs in truth: as tiers and hours have it, never more than the cap of now."""
        cap = self.plane.books.caps[limit]
        return cap if self.world.calm or self.world.rng.random() < 0.3 else self.world.rng.randint(0, cap)

    def play(self) -> None:
        """Both phases."""
        for machine in self.machines:
            machine.start()
            self._sync_later(machine)
            self._call_later(machine)
        self._nemesis.begin()
        self.world.run(self.world.rng.uniform(2.0, 8.0))
        self._calm()
        self.world.run(6.0)
        self._renew()
        self.world.run(1.5)
        self._drain()

    # What goes on all the time

    def _sync_later(self, machine: Machine) -> None:
        holder = machine.process.holder if machine.process is not None else None
        interval_s = (1.0 if holder is None else holder.next_sync_ms / 1000) / machine.rate
        if self.world.calm:
            interval_s = 1.0
        self.world.later(interval_s, lambda: self._sync(machine))

    def _sync(self, machine: Machine) -> None:
        machine.run(lambda process: process.tick())
        self._sync_later(machine)

    def _call_later(self, machine: Machine) -> None:
        self.world.later(self.world.rng.expovariate(1 / self._pause_s), lambda: self._call(machine))

    def _call(self, machine: Machine) -> None:
        if self.world.calm:
            return
        rng = self.world.rng
        chosen = [limit for limit in self.limits if rng.random() < 0.7] or [next(iter(self.limits))]
        amounts = [(limit, self._amount(limit)) for limit in chosen]
        if rng.random() < 0.6 or not self.caps.keys().isdisjoint(chosen):
            machine.run(lambda process: process.spend(amounts))
        else:
            kept, lasts_s = rng.random() < 0.5, rng.choice((0.0, 0.1, 1.0, 3.0))
            deadline_ms = machine.now_ms() + rng.choice((200, 1000, 10_000))
            machine.run(lambda process: process.reserve(amounts, kept=kept, lasts_s=lasts_s, deadline_ms=deadline_ms))
        self._call_later(machine)

    def _amount(self, limit: str) -> int:
        most = max(self._greed * self.limits[limit] // 1000 // self.caps.get(limit, 1), 3)
        return self.world.rng.randint(0, most)

    # From broken to well

    def _calm(self) -> None:
        self.world.calm = True
        self.world.note("calm")
        self.network.cut_there.clear()
        self.network.cut_back.clear()
        if not self.plane.up:
            self.plane.start()
        for machine in self.machines:
            machine.start()

    def _renew(self) -> None:
        """Where it is not known what was granted before a rollback, only a new period has anything to spend."""
        if self.plane.books.recovery is not None:
            self.world.fault("recovery lasts until the next period")
            for limit in self.limits:
                if limit != CREDITS:
                    self.plane.reset(limit)

    def _drain(self) -> None:
        """Everybody spends what can be had, for three syncs; then nothing may be left but what is in doubt."""
        ends_s = self.world.now_s + SYNCS + 0.5
        for machine in self.machines:
            self._spend_all(machine, ends_s)
        self.world.run(SYNCS + 0.5)
        for limit in self.limits:
            self._check_drained(limit)

    def _spend_all(self, machine: Machine, ends_s: float) -> None:
        process = machine.process
        if process is not None and process.holder is not None:
            for limit in self.limits:
                lease = process.holder.leases.current(limit)
                if lease is not None:
                    cap = machine.directory.caps.get(limit, 1)
                    if lease.free >= cap:
                        process.spend([(limit, lease.free // cap)], 0)
                    for units in (max(lease.unit, self.limits[limit] // 200), lease.unit):
                        process.spend([(limit, max(units // cap, 1))], 1)
        if self.world.now_s < ends_s:
            self.world.later(0.08, lambda: self._spend_all(machine, ends_s))

    def _check_drained(self, limit: str) -> None:
        books = self.plane.books
        key = limit, books.periods[limit]
        if limit == CREDITS and books.recovery is not None:
            return
        taken = 0
        for name, own in books.holdings.get(key, {}).items():
            counts = self.oracle.counts.get((name, key))
            if books.holders[name].standing is Standing.CURRENT and counts is not None and self._is_alive(name):
                taken += counts.used + counts.reserved - counts.refunded
            else:
                taken += own.held
        units = len(self.machines) * (smallest_grant(books.limits[limit]) + books.caps.get(limit, 0))
        left = books.left(key) - taken
        if left > units:
            self.world.violated(f"{left} of {key} could not be spent, beyond {units} and what is in doubt")

    def _is_alive(self, name: tuple[str, str]) -> bool:
        process = self.oracle.alive.get(name)
        return (
            process is not None
            and process.alive
            and process.holder is not None
            and process.name_of(process.holder) == name
        )

    # What is drawn

    def _often(self) -> float:
        return self._rate if self.world.rng.random() < 0.5 else 0.0

    def _machine(self, name: str, directory: Directory | None = None) -> Machine:
        machine = Machine(
            self.world, self.oracle, self.network, name, list(self.limits), self._kills, self._cast.agent, directory
        )
        machine.overruns = self._overruns
        machine.price = self.price
        return machine

    def add(self, directory: Directory) -> None:
        """A copy of a directory comes to life on a machine of its own."""
        machine = self._machine(f"m{len(self.machines)}", directory)
        self.machines.append(machine)
        machine.start()
        self._sync_later(machine)
        self._call_later(machine)


class _Nemesis:
    """Strikes about every `pause_s` with one of `kinds`, names of its methods."""

    def __init__(self, stage: _Stage, kinds: list[str], pause_s: float) -> None:
        self.stage = stage
        self.world = stage.world
        self._kinds = kinds
        self._pause_s = pause_s
        self._copies: dict[str, Directory] = {}
        self._images: dict[str, tuple[Directory, bytes]] = {}

    def begin(self) -> None:
        """Strike, and strike again."""
        self.world.later(self.world.rng.expovariate(1 / self._pause_s), self._strike)

    def _strike(self) -> None:
        if self.world.calm:
            return
        strike: Callable[[Machine], None] = getattr(self, self.world.rng.choice(self._kinds))
        strike(self.world.rng.choice(self.stage.machines))
        self.begin()

    # Agents

    def kill(self, machine: Machine) -> None:
        self.world.fault("agent killed", machine.name)
        machine.kill()

    def reboot(self, machine: Machine) -> None:
        self.world.fault("machine rebooted", machine.name)
        machine.reboot()

    def terminate(self, machine: Machine) -> None:
        self.world.fault("agent stopped in order", machine.name)
        machine.run(Process.stop)

    def copy(self, machine: Machine) -> None:
        self._copies.setdefault(machine.name, machine.directory)

    def set_back(self, machine: Machine) -> None:
        directory = self._copies.pop(machine.name, None)
        if directory is None:
            self.copy(machine)
            return
        self.world.fault("directory put back from a copy", machine.name)
        machine.put_back(directory, None)

    def image(self, machine: Machine) -> None:
        """The whole machine, memory and all, is put back from an image, and boots."""
        image = self._images.pop(machine.name, None)
        if image is None:
            self._images[machine.name] = machine.directory, bytes(machine.tmpfs.view)
            return
        self.world.fault("machine put back from an image", machine.name)
        machine.put_back(*image)

    def clone(self, machine: Machine) -> None:
        if len(self.stage.machines) < MAX_MACHINES:
            self.world.fault("directory cloned, both alive", machine.name)
            self.stage.add(machine.directory)

    # The network

    def cut_there(self, machine: Machine) -> None:
        self._cut(machine, self.stage.network.cut_there)

    def cut_back(self, machine: Machine) -> None:
        self._cut(machine, self.stage.network.cut_back)

    def _cut(self, machine: Machine, names: set[str]) -> None:
        self.world.fault("one-way partition", machine.name)
        names.add(machine.name)
        self.world.later(self.world.rng.uniform(0.5, 4.0), lambda: names.discard(machine.name))

    # The control plane

    def crash_plane(self, machine: Machine) -> None:
        self.world.fault("control plane killed")
        self.stage.plane.crash()
        self.world.later(self.world.rng.uniform(0.0, 2.0), self._start_plane)

    def _start_plane(self) -> None:
        if not self.stage.plane.up:
            self.stage.plane.start()

    def back_up(self, machine: Machine) -> None:
        self.stage.plane.backups.append(self.stage.plane.books.copy())

    def roll_back(self, machine: Machine) -> None:
        plane = self.stage.plane
        if plane.up and plane.backups:
            told = self.world.chance(0.3)
            self.world.fault("control plane restored from a backup" if told else "control plane rolled back by hand")
            books: Books = self.world.rng.choice(plane.backups)
            plane.roll_back(books, told=told)

    # Limits

    def _some_limit(self) -> str:
        return self.world.rng.choice([limit for limit in self.stage.limits if limit != CREDITS])

    def raise_limit(self, machine: Machine) -> None:
        limit = self._some_limit()
        self.world.fault("limit raised", limit)
        self.stage.plane.change(limit, self.stage.plane.books.limits[limit] * 3 // 2)

    def lower_limit(self, machine: Machine) -> None:
        limit = self._some_limit()
        self.world.fault("limit lowered", limit)
        self.stage.plane.change(limit, self.stage.plane.books.limits[limit] // 2)

    def reset_period(self, machine: Machine) -> None:
        limit = self._some_limit()
        self.world.fault("period ends", limit)
        self.stage.plane.reset(limit)

    def grant_credits(self, machine: Machine) -> None:
        if CREDITS in self.stage.caps:
            self.world.fault("credits granted")
            units = self.stage.limits[CREDITS] * self.world.rng.choice((1, 3, 10)) // 10
            self.stage.plane.change(CREDITS, self.stage.plane.books.limits[CREDITS] + units)

    def expire_credits(self, machine: Machine) -> None:
        if CREDITS in self.stage.caps:
            self.world.fault("credits expire")
            self.stage.plane.expire(CREDITS, self.world.rng.choice((30, 80, 100)))

    def change_price(self, machine: Machine) -> None:
        for limit, cap in self.stage.caps.items():
            self.world.fault("price changed", limit)
            self.stage.plane.price(limit, max(cap * self.world.rng.choice((2, 10, 15)) // 10, 1))

    def write_off(self, machine: Machine) -> None:
        """The operator is sure of it: the holder is gone, and all that it spent is known."""
        plane, oracle = self.stage.plane, self.stage.oracle
        for key, own in plane.books.holdings.items():
            for name, holding in own.items():
                process = oracle.alive.get(name)
                superseded = plane.books.holders[name].standing is not Standing.CURRENT
                gone = superseded and process is not None and not process.alive and not oracle.under_way[name]
                counted = holding.used + holding.reserved - holding.refunded
                if gone and holding.free > 0 and oracle.debited[name, key] <= counted:
                    self.world.fault("rights written off", name, key)
                    plane.write_off(key, name)
                    return
