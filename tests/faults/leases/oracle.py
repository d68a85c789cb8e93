"""The oracle: sees what really happens, which no program does, and says so when a promise is broken."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from sidemeter.leases import Counts, Key, Lease

from ..simulation.world import World

if TYPE_CHECKING:
    from .machine import Process

__all__ = ["Oracle"]

HolderId = tuple[str, str]


class Oracle:
    """What was spent of which limit in which period, by whom, and how much may be.

    Of a limit in money it is what operations cost in truth; `debited` is what their holders count for it, at price caps.
    `period_now` is the calendar. `alive` has the process of every holder that may still spend, `under_way` how many of
    each one's reserved operations are still to happen.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.spent: Counter[Key] = Counter()
        self.overrun: Counter[Key] = Counter()
        self.allowed: dict[Key, int] = {}
        self.period_now: dict[str, int] = defaultdict(lambda: 1)
        self.debited: Counter[tuple[HolderId, Key]] = Counter()
        self.alive: dict[HolderId, Process] = {}
        self.counts: dict[tuple[HolderId, Key], Counts] = {}
        self.operations = 0
        self.under_way: Counter[HolderId] = Counter()
        self.answers: Counter[str] = Counter()

    @property
    def newest_period(self) -> int:
        """The newest period that has begun."""
        return max(self.period_now.values(), default=1)

    def begins(self, limit: str) -> int:
        """A new period of a limit; they are instants, so a later one has a larger number whatever its limit."""
        self.period_now[limit] = self.newest_period + 1
        return self.period_now[limit]

    def allows(self, key: Key, units: int) -> None:
        """So much may be spent from now on; what was granted while it was more is not taken back."""
        self.allowed[key] = max(self.allowed.get(key, 0), units)

    def overran(self, key: Key) -> bool:
        """Whether an operation cost more than it reserved: that is beyond the promise, and counted apart."""
        return self.overrun[key] > 0

    def cuts(self, key: Key, units: int, out: int) -> None:
        """So much may be spent from now on, and what is `out` already: spent, or with holders who may spend it."""
        self.allowed[key] = max(units, out)

    def settles(self, holder: HolderId, key: Key, units: int) -> None:
        """What a holder was debited for is on the bill: it need not count it any more."""
        self.debited[holder, key] -= units

    def spends(self, holder: HolderId, key: Key, units: int, beyond: int = 0, debit: int | None = None) -> None:
        """An operation happens, and uses so much; `beyond` more than it reserved. In money, `debit` was debited for it."""
        self.operations += 1
        self.spent[key] += units - beyond
        self.debited[holder, key] += units - beyond if debit is None else debit
        self.overrun[key] += beyond
        if self.spent[key] > self.allowed[key]:
            self.world.violated(f"{self.spent[key]} of {key} are spent, {self.allowed[key]} are allowed")

    def sees(self, holder: HolderId, lease: Lease) -> None:
        """A lease after a step of its holder."""
        counts = lease.counts
        before = self.counts.get((holder, lease.key), Counts())
        after = self.counts[holder, lease.key] = counts
        if (
            after.granted < before.granted
            or after.returned < before.returned
            or after.used < before.used
            or after.refunded < before.refunded
            or after.overrun < before.overrun
            or after.reserved < 0
        ):
            self.world.violated(f"a count of {holder} {lease.key} fell from {before} to {after}")
        if after.free < 0 and after.overrun == 0:
            self.world.violated(f"{holder} holds less than nothing of {lease.key}: {after}")
        if after.used + after.reserved - after.refunded < self.debited[holder, lease.key]:
            self.world.violated(f"{holder} spent {self.debited[holder, lease.key]} of {lease.key}, and counts {after}")

    def lives(self, holder: HolderId, process: "Process") -> None:
        """A process goes on as a holder: no other does."""
        other = self.alive.get(holder)
        if other is not None and other is not process and other.alive:
            self.world.violated(f"two processes live as {holder}")
        self.alive[holder] = process
