"""The control plane of the simulation: the real rules over a store of one transaction at a time.

What the store does here in a few dictionaries, SQL does in earnest: load what bears on one sync, take it, keep what changed,
commit, and only then answer.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import attrgetter, lt
from typing import Final

from sidemeter.holder import LeaseAnswer, LeaseSync
from sidemeter_control.limits.leases import (
    Holding,
    Key,
    Known,
    Pool,
    Standing,
    Sync,
    Taken,
    newly_settled,
    others,
    shows_rollback,
    take,
)
from sidemeter_control.limits.recovery import HolderId, Recovery, begin_recovery
from sidemeter_control.metering.identity import NO_NONCES, Nonces

from ..simulation.world import World
from .oracle import Oracle
from .wire import Answered, Batch, Hello, HelloAnswer, Informed, Row, Said, as_answer, as_sync

__all__ = ["Books", "Plane", "Witness"]

MAX_BACKUPS: Final = 10

_risen: Final = attrgetter("returned", "used", "refunded", "overrun", "written_off")
"""The counts that never fall; what was granted does, where it never arrived."""


@dataclass(slots=True)
class HolderRow:
    """A holder as the store has it."""

    epoch: int
    standing: Standing
    nonces: Nonces = NO_NONCES


@dataclass(slots=True)
class Books:
    """Everything that the control plane's database holds. `caps` are the price caps of the limits in money, `bills` what is
    owed of them for events that are `counted`; `lacking` may be owed for some that this copy lacks."""

    generation: str
    limits: dict[str, int]
    periods: dict[str, int]
    state_version: int = 0
    holders: dict[HolderId, HolderRow] = field(default_factory=dict)
    newest: dict[str, HolderId] = field(default_factory=dict)
    holdings: dict[Key, dict[HolderId, Holding]] = field(default_factory=dict)
    turns: dict[Key, int] = field(default_factory=dict)
    recovery: Recovery | None = None
    caps: dict[str, int] = field(default_factory=dict)
    counted: dict[str, None] = field(default_factory=dict)
    bills: Counter[Key] = field(default_factory=Counter)
    lacking: Counter[Key] = field(default_factory=Counter)

    def copy(self) -> "Books":
        """The same, as a backup keeps it."""
        return Books(
            self.generation,
            dict(self.limits),
            dict(self.periods),
            self.state_version,
            {name: replace(row) for name, row in self.holders.items()},
            dict(self.newest),
            {key: dict(own) for key, own in self.holdings.items()},
            dict(self.turns),
            self.recovery,
            dict(self.caps),
            dict(self.counted),
            Counter(self.bills),
            Counter(self.lacking),
        )

    def pool(self, key: Key) -> Pool | None:
        """The pool of a lease, if it is of a limit that there is."""
        limit, period = key
        if limit not in self.limits:
            return None
        return Pool(self.left(key), period, self.periods[limit], 1, self.turns.get(key, 0))

    def left(self, key: Key) -> int:
        """What there is to share: of money, what is neither owed nor may be owed for what a rollback lost."""
        return max(self.limits[key[0]] - self.bills[key] - self.lacking[key], 0)

    def held(self, key: Key) -> int:
        """What all holders together have of a pool."""
        return sum(each.held for each in self.holdings.get(key, {}).values())

    @property
    def holders_ever(self) -> int | None:
        """How many holders there have been, also in what is lost; None: nobody knows."""
        return len(self.holders) if self.recovery is None else self.recovery.holders


@dataclass(slots=True)
class Witness:
    """What is kept outside of the database, and so not rolled back with it: how far it had come when it last answered."""

    state_version: int = 0
    holders: int | None = 0


class Plane:
    """Serves one message at a time. `up` is false after a crash. `take` is the rule, or one broken on purpose."""

    take: Callable[[Sync, Known], Taken] = staticmethod(take)
    begin_recovery = staticmethod(begin_recovery)

    def __init__(
        self, world: World, oracle: Oracle, limits: dict[str, int], caps: dict[str, int], crashes: float
    ) -> None:
        self.world = world
        self.oracle = oracle
        self.crashes = crashes
        self.books = Books(self._new_id(), limits, dict.fromkeys(limits, 1), caps=caps)
        self.witness = Witness()
        self.up = True
        self._was_rolled_back = False
        self.backups: list[Books] = []
        for limit, units in limits.items():
            oracle.allows((limit, 1), units)

    # Its life

    def crash(self) -> None:
        """Stop at once; what was committed stays."""
        self.up = False

    def start(self) -> None:
        """Go on from what was committed: a database that is older than its witness knows that it was rolled back."""
        self.up = True
        if self.books.state_version < self.witness.state_version:
            self._recover(self.witness.holders)

    def roll_back(self, books: Books, *, told: bool) -> None:
        """Become an older copy. `told`: whoever put it back says so, and the witness is lost; else the witness tells."""
        self.books = books.copy()
        if told:
            self._recover(None)
        else:
            self.start()

    def _recover(self, holders: int | None) -> None:
        books = self.books
        self._was_rolled_back = True
        current = [name for name, row in books.holders.items() if row.standing is Standing.CURRENT]
        through = max(*books.periods.values(), self.oracle.newest_period)
        books.recovery = self.begin_recovery(books.recovery, current, through=through, holders=holders)
        books.generation = self._new_id()
        books.state_version = max(books.state_version, self.witness.state_version) + 1
        for limit in books.periods:  # the calendar is not in the database
            books.periods[limit] = max(books.periods[limit], self.oracle.period_now[limit])
            self.oracle.allows((limit, books.periods[limit]), books.limits[limit])  # of then, whatever changed since
        self._witness()
        self.world.note("recovering", sorted(books.recovery.awaited), holders)

    # What is asked of it

    def serve(self, message: Said) -> Answered:
        """One transaction, and its answer; None if it is down, or goes down on the way."""
        if not self.up:
            return None
        if self.world.strikes("control plane crashes before its commit", self.crashes):
            self._crash_and_return()
            return None
        answer = self._answer(message)
        if self.world.strikes("control plane crashes after its commit", self.crashes):
            self._crash_and_return()
            return None
        self._witness()
        return answer

    def _answer(self, message: Said) -> Answered:
        if isinstance(message, Hello):
            return self._hello(message)
        if isinstance(message, Batch):
            return self._count(message.rows)
        answer = self._sync(message.message)
        counted = next(
            (at for at, row in enumerate(message.rows) if row.id not in self.books.counted), len(message.rows)
        )
        last_id = message.rows[counted - 1].id if counted else ""
        return Informed(answer, counted, last_id, dict(self.books.caps))

    def _count(self, rows: tuple[Row, ...]) -> None:
        """Put events on the bill, each once."""
        books = self.books
        new = [row for row in rows if row.id not in books.counted]
        for row in new:
            books.counted[row.id] = None
            for key, cost in row.costs:
                books.bills[key] += cost
        if new:
            self._committed()

    def _hello(self, hello: Hello) -> HelloAnswer:
        books = self.books
        name: HolderId = (hello.agent_id, hello.hello_id)
        row = books.holders.get(name)
        if row is None:
            before = books.newest.get(hello.agent_id)
            epoch = hello.previous_epoch
            if before is not None:
                epoch = max(epoch, books.holders[before].epoch)
                if books.holders[before].standing is Standing.CURRENT:
                    books.holders[before].standing = Standing.SUPERSEDED
                    self.superseded(books, before)
            row = books.holders[name] = HolderRow(epoch + 1, Standing.CURRENT)
            books.newest[hello.agent_id] = name
            if books.recovery is not None:
                books.recovery = books.recovery.joined()
            self._committed()
            self.world.note("hello", name, row.epoch)
        return HelloAnswer(hello.hello_id, row.epoch, dict(books.periods), dict(books.caps))

    def superseded(self, books: Books, holder: HolderId) -> None:
        """Its rest stays counted: nothing to do."""

    def _sync(self, message: LeaseSync) -> LeaseAnswer:
        books, sync = self.books, as_sync(message)
        known = self._known(sync)
        if shows_rollback(sync, known):
            self.world.violated(f"a rollback that was known before is noticed by {sync}")
        if known.recovery is not None:
            known = self.doubted(sync, known)
        before = {key: books.held(key) for key in known.holdings}
        taken = self.take(sync, known)
        self._check(sync, known, taken)
        row = books.holders.setdefault(sync.holder, HolderRow(sync.epoch, taken.standing))
        row.standing, row.nonces = taken.standing, taken.nonces
        if books.recovery is not None and taken.recovery is None:
            self.world.fault("recovery ends", sorted(books.holders))
        books.recovery = taken.recovery
        self.keep(taken, sync)
        self._check_holder(sync)
        for key in taken.holdings:
            books.turns[key] = books.turns.get(key, 0) + 1
            held = books.held(key)
            told_late = sync.generation != known.generation and self._is_over(key)
            self._check_sum(key, held, before.get(key, 0), facts=known.recovery is not None or told_late)
            self._check_spent(key, held)
        self._committed()
        self.world.note("sync", sync.holder, taken.status, *taken.grants)
        return as_answer(taken, message, books.generation, books.state_version)

    def doubted(self, sync: Sync, known: Known) -> Known:
        """Set aside what was settled since this copy was made: its events may come again."""
        books, pools = self.books, dict(known.pools)
        for key, units in newly_settled(sync, known).items():
            if key[0] in books.caps and key in pools:
                books.lacking[key] += units
                pools[key] = replace(pools[key][0], limit=books.left(key)), pools[key][1]
        return replace(known, pools=pools)

    def keep(self, taken: Taken, sync: Sync) -> None:
        """Store the holdings, in the transaction of the sync."""
        for key, holding in taken.holdings.items():
            self.books.holdings.setdefault(key, {})[sync.holder] = holding

    def _known(self, sync: Sync) -> Known:
        books = self.books
        row = books.holders.get(sync.holder)
        pools = {}
        holdings = {}
        for each in sync.reports:
            own = books.holdings.get(each.key, {})
            holdings[each.key] = own.get(sync.holder, Holding())
            if (pool := books.pool(each.key)) is not None:
                rest = [(books.holders[name].standing, one) for name, one in own.items() if name != sync.holder]
                pools[each.key] = pool, others(pool, rest)
        return Known(
            books.generation,
            books.state_version,
            None if row is None else row.standing,
            NO_NONCES if row is None else row.nonces,
            books.recovery,
            len(books.holders),
            pools,
            holdings,
        )

    def _check(self, sync: Sync, known: Known, taken: Taken) -> None:
        """Counts never fall, and the same message again changes nothing more."""
        for key, after in taken.holdings.items():
            before = known.holdings[key]
            if any(map(lt, _risen(after), _risen(before))):
                self.world.violated(f"a count of {sync.holder} {key} fell from {before} to {after}")
        if self.world.chance(0.05) and taken.standing is Standing.CURRENT:
            again = self.take(
                sync, replace(known, nonces=taken.nonces, holdings=taken.holdings, recovery=taken.recovery)
            )
            if again.holdings != taken.holdings or again.nonces != taken.nonces:
                self.world.violated(f"the same sync twice: {again} after {taken}")

    def _check_holder(self, sync: Sync) -> None:
        """The control plane knows of every grant, and of no return that its holder does not."""
        for each in sync.reports:
            theirs, ours = self.oracle.counts.get((sync.holder, each.key)), self.books.holdings[each.key][sync.holder]
            is_over = each.period < self.books.periods[each.limit]  # its holder may have forgotten it by now
            if theirs is None or is_over or self.books.recovery is not None:
                continue
            if theirs.granted > ours.granted or ours.returned > theirs.returned:
                self.world.violated(f"{sync.holder} has {theirs} of {each.key}, the control plane {ours}")

    def _check_sum(self, key: Key, held: int, before: int, *, facts: bool) -> None:
        """No more is granted than there is. `facts`: it only learned what was granted before it was rolled back, maybe in
        a period of which its holder has forgotten the lease since, and nothing is granted any more."""
        limit = self.books.left(key) if key[0] in self.books.limits else 0
        if held > max(limit, before) and not facts and not self.oracle.overran(key):
            self.world.violated(f"holders have {held} of {limit} of {key}, and had {before}")

    def _check_spent(self, key: Key, held: int) -> None:
        """Whatever is spent is on the bill or with its holder: nothing that was settled is lost.

        What an older copy lacks of a period that is over comes with its events; nothing is granted by it until then.
        """
        books = self.books
        if books.recovery is not None or key[0] not in books.caps or (self._was_rolled_back and self._is_over(key)):
            return
        known = books.bills[key] + books.lacking[key] + held
        if self.oracle.spent[key] > known:
            self.world.violated(f"{self.oracle.spent[key]} of {key} are spent, and {known} are known of")

    def _is_over(self, key: Key) -> bool:
        return key[0] in self.books.periods and key[1] < self.books.periods[key[0]]

    # What the operator and the calendar do

    def change(self, limit: str, units: int) -> None:
        """Raise or lower a limit."""
        self.books.limits[limit] = units
        self.oracle.allows((limit, self.books.periods[limit]), units)
        self._committed()
        self._witness()

    def expire(self, limit: str, share: int) -> None:
        """Credits run out: of what is left by the bill, so many hundredths."""
        books, key = self.books, (limit, self.books.periods[limit])
        left = max(books.limits[limit] - books.bills[key], 0)
        out = books.bills[key] + books.lacking[key] + books.held(key)
        books.limits[limit] -= left * share // 100
        before = self.oracle.allowed[key] if books.recovery is not None else 0  # nobody knows what is out
        self.oracle.cuts(key, books.limits[limit], max(out, before, self.oracle.spent[key]))
        self._committed()
        self._witness()

    def price(self, limit: str, cap: int) -> None:
        """A plan is changed: usage costs at most so much from now on."""
        self.books.caps[limit] = cap
        self._committed()
        self._witness()

    def reset(self, limit: str) -> None:
        """A new period of a limit begins."""
        self.books.periods[limit] = self.oracle.begins(limit)
        self.oracle.allows((limit, self.books.periods[limit]), self.books.limits[limit])
        self._committed()
        self._witness()

    def write_off(self, key: Key, holder: HolderId) -> None:
        """An operator says that what a holder that is gone has free will never be spent."""
        own = self.books.holdings[key]
        own[holder] = own[holder].write_off()
        self._committed()
        self._witness()

    # The store

    def _committed(self) -> None:
        self.books.state_version += 1
        if self.world.chance(0.05):
            if len(self.backups) < MAX_BACKUPS:
                self.backups.append(self.books.copy())
            else:
                self.backups[int(self.world.rng.random() * MAX_BACKUPS)] = self.books.copy()

    def _witness(self) -> None:
        self.witness = Witness(self.books.state_version, self.books.holders_ever)

    def _crash_and_return(self) -> None:
        self.crash()
        self.world.later(self.world.rng.uniform(0.0, 2.0), self.start)

    def _new_id(self) -> str:
        return f"g{self.world.rng.getrandbits(32):08x}"
