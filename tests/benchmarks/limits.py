"""Hard limits: twenty agents in bursts on one limit, by leases and by what others do, on the same load.

The load is simulated in ticks and the same for all, without faults and with the same faults; the rules of the leases are the
real ones. What a limit is good for is in
five figures: what was spent beyond it, what was left of it although somebody wanted it, who was sent away although there
was something left, how many calls over the network a check takes, and how long one takes.
"""

import os
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from types import MappingProxyType
from typing import Literal, Protocol

import msgspec

from sidemeter.cell import Cell, candidates, digest_of
from sidemeter.holder import Head, Holder, LeaseAnswer, LeaseGrant, LeaseSync
from sidemeter.leases import ALLOWED, Counts, Lease, Leases
from sidemeter_control.limits.leases import Granted, Holding, Known, Pool, Report, Standing, Sync, others, take
from sidemeter_control.metering.identity import NO_NONCES

from .harness import Bench, Figure, at_most, latency

AGENTS = 20
TICK_MS = 10
TRIP_TICKS = 2
WAITS_TICKS = 20
RATE_PER_S = 1000
LASTS_S = 24
EXHAUSTED_AFTER_S = 18
LIMIT = AGENTS * RATE_PER_S * EXHAUSTED_AFTER_S
KEY = ("limit", 1)


def load(seed: int, lasts_s: int = LASTS_S) -> list[list[int]]:
    """How many checks each agent makes in each tick: on for two seconds, off for two, both on the average."""
    rng = random.Random(seed)
    ticks = lasts_s * 1000 // TICK_MS
    made = []
    for _ in range(AGENTS):
        row: list[int] = []
        on = rng.random() < 0.5
        while len(row) < ticks:
            burst = max(1, round(rng.expovariate(TICK_MS / 2000)))
            row += [rng.randint(0, 4 * RATE_PER_S * TICK_MS // 1000) if on else 0 for _ in range(burst)]
            on = not on
        made.append(row[:ticks])
    return made


@dataclass(frozen=True)
class Fault:
    """What befalls an agent: it is "cut" off for so many ticks, its process is "killed", or its machine "rebooted"."""

    agent: int
    kind: Literal["cut", "killed", "rebooted"]
    ticks: int = 0


def faults(seed: int, lasts_s: int = LASTS_S) -> dict[int, list[Fault]]:
    """By tick: half of the agents are cut off for a second or two, half are killed, two machines are rebooted."""
    rng = random.Random(f"faults {seed}")
    ticks = lasts_s * 1000 // TICK_MS
    found: defaultdict[int, list[Fault]] = defaultdict(list)
    for agent in rng.sample(range(AGENTS), AGENTS // 2):
        found[rng.randrange(ticks)].append(Fault(agent, "cut", rng.randint(100, 200)))
    for agent in rng.sample(range(AGENTS), AGENTS // 2):
        found[rng.randrange(ticks)].append(Fault(agent, "killed"))
    for agent in rng.sample(range(AGENTS), 2):
        found[rng.randrange(ticks)].append(Fault(agent, "rebooted"))
    return found


class Way(Protocol):
    """A way to share a limit. `calls` counts requests to whoever keeps it; those of an agent in `cut` wait."""

    calls: int
    cut: set[int]

    def check(self, agent: int, tick: int) -> bool | None:
        """Spend one unit; None: wait, and ask again."""
        ...

    def end(self, agent: int, *, rebooted: bool) -> None:
        """The agent's process ends and begins again, with what its way to share keeps over that."""
        ...

    def pass_tick(self, tick: int) -> Collection[int]:
        """What goes on without anybody asking; the agents whose waiting callers may ask again."""
        ...


@dataclass
class Result:
    """What a way came to; `checks` are those made while something was left."""

    spent: int = 0
    checks: int = 0
    all_checks: int = 0
    sent_away: int = 0
    calls: int = 0

    @property
    def overspent(self) -> float:
        return 100 * max(self.spent - LIMIT, 0) / LIMIT

    @property
    def unspent(self) -> float:
        return 100 * max(LIMIT - self.spent, 0) / LIMIT

    @property
    def false_denials(self) -> float:
        return 100 * self.sent_away / self.checks

    @property
    def calls_per_check(self) -> float:
        return self.calls / self.all_checks


def play(
    way: Way, made: Sequence[Sequence[int]], befalls: Mapping[int, Sequence[Fault]] = MappingProxyType({})
) -> Result:
    """Let all agents check; whoever is to wait does so for 0.2 s at most."""
    result = Result()
    healed: defaultdict[int, set[int]] = defaultdict(set)
    waiting: list[deque[int]] = [deque() for _ in made]

    def ask(agent: int, tick: int, since: int) -> None:
        left = result.spent < LIMIT
        answer = way.check(agent, tick)
        if answer is None and tick - since < WAITS_TICKS:
            waiting[agent].append(since)
            return
        result.checks += left
        if answer:
            result.spent += 1
        else:
            result.sent_away += left

    for tick in range(len(made[0])):
        way.cut -= healed[tick]
        for fault in befalls.get(tick, ()):
            if fault.kind == "cut":
                way.cut.add(fault.agent)
                healed[tick + fault.ticks].add(fault.agent)
            else:
                way.end(fault.agent, rebooted=fault.kind == "rebooted")
        news = way.pass_tick(tick)
        for agent, row in enumerate(made):
            result.all_checks += row[tick]
            queue = waiting[agent]
            if agent in news or (queue and tick - queue[0] >= WAITS_TICKS):
                for _ in range(len(queue)):
                    since = queue.popleft()
                    if agent in news or tick - since >= WAITS_TICKS:
                        ask(agent, tick, since)
                    else:
                        queue.append(since)
            for _ in range(row[tick]):
                ask(agent, tick, tick)
    result.calls = way.calls
    return result


@dataclass
class Refreshed:
    """Every agent adds what it spent to a total, and reads the total, once in a while."""

    every_s: int
    calls: int = 0
    cut: set[int] = field(default_factory=set)
    total: int = 0
    seen: list[int] = field(default_factory=lambda: [0] * AGENTS)
    own: list[int] = field(default_factory=lambda: [0] * AGENTS)

    def check(self, agent: int, tick: int) -> bool:
        if self.seen[agent] + self.own[agent] >= LIMIT:
            return False
        self.own[agent] += 1
        return True

    def end(self, agent: int, *, rebooted: bool) -> None:
        self.own[agent] = 0

    def pass_tick(self, tick: int) -> Collection[int]:
        period = self.every_s * 1000 // TICK_MS
        for agent in range(AGENTS):
            if agent not in self.cut and tick % period == agent * period // AGENTS:
                self.calls += 1
                self.total += self.own[agent]
                self.own[agent], self.seen[agent] = 0, self.total
        return ()


class Split:
    """Every agent has its twentieth."""

    def __init__(self) -> None:
        self.calls, self.cut = 0, set[int]()
        self._left = [LIMIT // AGENTS] * AGENTS

    def check(self, agent: int, tick: int) -> bool:
        self._left[agent] -= 1
        return self._left[agent] >= 0

    def end(self, agent: int, *, rebooted: bool) -> None:
        self._left[agent] = LIMIT // AGENTS  # what it counted was in its memory

    def pass_tick(self, tick: int) -> Collection[int]:
        return ()  # nothing is ever moved


class Chunks:
    """Every agent fetches a thousandth of the limit when it has none left, and returns nothing."""

    def __init__(self) -> None:
        self.calls, self.cut = 0, set[int]()
        self._rest = LIMIT
        self._left = [0] * AGENTS
        self._due: dict[int, int] = {}

    def check(self, agent: int, tick: int) -> bool | None:
        if self._left[agent] > 0:
            self._left[agent] -= 1
            return True
        if self._rest == 0 and agent not in self._due:
            return False
        if agent not in self._due:
            self._due[agent] = tick + TRIP_TICKS
            self.calls += 1
        return None

    def end(self, agent: int, *, rebooted: bool) -> None:
        self._left[agent] = 0

    def pass_tick(self, tick: int) -> Collection[int]:
        news = [agent for agent, due in self._due.items() if due <= tick and agent not in self.cut]
        for agent in news:
            del self._due[agent]
            chunk = min(LIMIT // 1000, self._rest)
            self._rest -= chunk
            self._left[agent] += chunk
        return news


class Leased:
    """The real rules, over a network that takes its time. A cell outlives its process, and not its machine."""

    def __init__(self, seed: int = 1) -> None:
        self.calls, self.cut = 0, set[int]()
        self._rng = random.Random(seed)
        self._pool = Pool(LIMIT, 1, 1)
        self._holdings = [Holding()] * AGENTS
        self._nonces = [NO_NONCES] * AGENTS
        self._epochs = [1] * AGENTS
        self._gone: list[Holding] = []
        self._holders = [self._new_holder(n) for n in range(AGENTS)]
        self._leases = [[(holder.leases.add(Lease(KEY)), 1)] for holder in self._holders]
        self._under_way: dict[int, tuple[int, LeaseSync]] = {}
        self._answers: dict[int, tuple[int, LeaseAnswer]] = {}
        self._next_tick = [n * 100 // AGENTS for n in range(AGENTS)]

    def check(self, agent: int, tick: int) -> bool | None:
        verdict = self._holders[agent].leases.spend(self._leases[agent])
        if verdict is ALLOWED:
            return True
        return None if verdict.answer == "ask" else False

    def end(self, agent: int, *, rebooted: bool) -> None:
        if not rebooted:
            return  # it goes on with what is in the cell
        self._epochs[agent] += 1
        self._gone.append(self._holdings[agent])
        self._holdings[agent], self._nonces[agent] = Holding(), NO_NONCES
        self._under_way.pop(agent, None)
        self._answers.pop(agent, None)
        self._holders[agent] = self._new_holder(agent)
        self._leases[agent] = [(self._holders[agent].leases.add(Lease(KEY)), 1)]

    def pass_tick(self, tick: int) -> Collection[int]:
        news = []
        for agent, (due, answer) in list(self._answers.items()):
            if due <= tick and agent not in self.cut:
                news.append(agent)
                del self._answers[agent]
                self._holders[agent].hear(answer, self._new_id())
                self._next_tick[agent] = tick + answer.next_sync_ms // TICK_MS
        for agent, (due, message) in list(self._under_way.items()):
            if due <= tick and agent not in self.cut:
                del self._under_way[agent]
                self._answers[agent] = tick + TRIP_TICKS // 2, self._serve(agent, message)
        for agent, holder in enumerate(self._holders):
            is_free = agent not in self._under_way and agent not in self._answers and agent not in self.cut
            if is_free and (holder.leases.hurry or tick >= self._next_tick[agent]):
                self.calls += 1
                self._under_way[agent] = tick + TRIP_TICKS // 2, holder.report(tick * TICK_MS).message
        return news

    def _serve(self, agent: int, message: LeaseSync) -> LeaseAnswer:
        reports = tuple(Report(*msgspec.structs.astuple(each)) for each in message.leases)
        sync = Sync(
            (f"a{agent}", str(self._epochs[agent])), self._epochs[agent], message.sync_id, message.nonce,
            message.generation, 1, reports, message.complete,
        )  # fmt: skip
        rest = [(Standing.CURRENT, each) for n, each in enumerate(self._holdings) if n != agent]
        rest += [(Standing.SUPERSEDED, each) for each in self._gone]
        known = Known(
            "g", 1, Standing.CURRENT, self._nonces[agent], None, AGENTS,
            {KEY: (self._pool, others(self._pool, rest))}, {KEY: self._holdings[agent]},
        )  # fmt: skip
        taken = take(sync, known)
        self._nonces[agent] = taken.nonces
        if reports:
            self._pool = replace(self._pool, turn=self._pool.turn + 1)
            self._holdings[agent] = taken.holdings[KEY]
        grants = tuple(_as_grant(each) for each in taken.grants)
        return LeaseAnswer("OK", message.sync_id, taken.nonces.current, "g", 1, grants, taken.next_sync_ms)

    def _new_holder(self, agent: int) -> Holder:
        epoch = self._epochs[agent]
        return Holder(f"a{agent}", Head(f"h{agent}.{epoch}", epoch, "boot", sync_id=self._new_id()))

    def _new_id(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"


_fields_of = attrgetter(*(each.name for each in fields(Granted)))


def _as_grant(each: Granted) -> LeaseGrant:
    return LeaseGrant(*_fields_of(each))


SEEDS = (1, 2, 3)

WAYS: dict[str, Callable[[], Way]] = {
    "leases": Leased,
    "total read every 1 s": lambda: Refreshed(1),
    "total read every 10 s": lambda: Refreshed(10),
    "static split": Split,
    "fixed chunks": Chunks,
}


def _figures(name: str, results: Sequence[Result], *, faulty: bool) -> list[Figure]:
    """The worst of all loads; of leases, with what they are to reach."""
    ours, of = name == "leases", f"limit by {name}" + (", with faults" if faulty else "")
    told = [
        ("spent beyond it", max(each.overspent for each in results), "%", 0.0),
        ("left of it", max(each.unspent for each in results), "%", None if faulty else 0.01),
        ("denied in vain", max(each.false_denials for each in results), "%", None if faulty else 1.5),
        ("network calls", max(each.calls_per_check for each in results), "/check", 0.005),
    ]
    return [
        Figure(name=f"{of}: {what}", value=value, unit=unit, reach=at_most(most) if ours and most is not None else None)
        for what, value, unit, most in told
    ]


async def sharing(bench: Bench) -> list[Figure]:
    """Each way on the same loads, without and with the same faults; and the time of a debit with its store in the cell."""
    figures = []
    for faulty in (False, True):
        for name, way in WAYS.items():
            results = [play(way(), load(seed), faults(seed) if faulty else {}) for seed in SEEDS]
            figures += _figures(name, results, faulty=faulty)
            if name == "leases":
                most = max(each.spent for each in results)
                bench.prove("nothing is spent beyond the limit", found=max(most, LIMIT), expected=LIMIT)
    return [*figures, _debit(bench)]


def _debit(bench: Bench) -> Figure:
    cell = Cell.open(candidates(os.environ.items()), f"sidemeter-bench-{os.getpid()}")
    cell.begin(Head("hello", 1, "boot"))
    leases = Leases()
    lease = leases.add(Lease(KEY, Counts(granted=1 << 60)))
    lease.index = cell.claim(KEY)
    amounts, write, samples = [(lease, 1)], cell.write, []
    ends_s = time.perf_counter() + bench.seconds / 4
    while time.perf_counter() < ends_s:
        for _ in range(1000):
            began_ns = time.perf_counter_ns()
            if leases.spend(amounts) is ALLOWED:
                write(
                    lease.index,
                    lease.granted,
                    lease.returned,
                    lease.used,
                    lease.reserved,
                    lease.refunded,
                    lease.overrun,
                )
            samples.append((time.perf_counter_ns() - began_ns) / 1e9)
    again = cell.survives
    cell.close()
    kept = Cell.open(candidates(os.environ.items()), f"sidemeter-bench-{os.getpid()}") if again else None
    if kept is not None:
        bench.prove("every debit is in the cell", found=kept.found[digest_of(KEY)][1].used, expected=len(samples))
        kept.close()
        _remove(f"sidemeter-bench-{os.getpid()}")
    return latency("a debit and its store in the cell", samples, "µs", reach=at_most(2.0))


def _remove(name: str) -> None:
    for directory in candidates(os.environ.items()):
        (directory / name).unlink(missing_ok=True)
