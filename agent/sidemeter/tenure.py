"""Tenure: the holder of this agent's epoch, with the cell that keeps its counts over a kill.

A process goes on as the holder that its directory and its cell tell of, both, or begins one that has nothing. The cell is
opened with the first lease: most agents have none.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from sidemeter.cell import Cell, digest_of
from sidemeter.clock import Clock
from sidemeter.held import KeptHold, Named
from sidemeter.holder import Head, Heard, Holder, LeaseAnswer, Standing, may_resume
from sidemeter.kept import Identity
from sidemeter.leases import Counts, Key, Lease
from sidemeter.limits import Limits

__all__ = ["MAX_LOST", "Tenure"]

log = logging.getLogger(__name__)

MAX_LOST: Final = 8
"""Holders whose epoch was lost and that still have something to say: beyond it, what the oldest has stays in doubt."""

_SYNC_ID_BYTES: Final = 8

OpenCell = Callable[[str], Cell]


class Tenure:
    """What this agent holds of hard limits, as the present `holder`; None before the first hello.

    `lost` are holders of epochs that are over: they spend nothing, and return what they have. `unnamed` are leases whose
    names are not in the database yet.
    """

    def __init__(
        self, limits: Limits, clock: Clock, open_cell: OpenCell, where: Callable[[], tuple[Path, str]]
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._open_cell = open_cell
        self._where = where
        self._cell: Cell | None = None
        self.holder: Holder | None = None
        self.lost: deque[Holder] = deque(maxlen=MAX_LOST)
        self.unnamed: dict[Key, None] = {}

    @property
    def holds(self) -> bool:
        """Whether there is a lease, so that a new epoch would leave something behind."""
        return self.holder is not None and len(self.holder.leases) > 0

    @property
    def leases(self) -> list[Lease]:
        """The leases of the present holder."""
        return [] if self.holder is None else list(self.holder.leases)

    # Beginning and ending

    def resume(self, identity: Identity, named: Sequence[Named] | None, kept: Iterable[KeptHold]) -> bool:
        """Go on as who this agent was; False if its epoch has to be given up, since what it spent in it is not known.

        An epoch in which it never had a lease may go on: there is nothing to be known. One that had leases in this very
        process does not: the database under it is another.
        """
        held = self.holds
        self.lose()
        self._close()
        self._limits.debits.had |= {key for key, _ in named or ()}
        if held:
            return False
        own = {digest_of(key): key for key, holder in named or () if holder == identity.hello_id}
        if named is not None and (identity.epoch is None or not own):
            return True
        cell = self._open()
        head = cell.head
        standing = Standing(identity.hello_id, identity.epoch or 0, identity.nonce, identity.steps)
        known = named is not None and _are_known(cell, own)
        if head is None or not may_resume(head, standing, self._clock.boot_id(), names_known=known):
            log.warning("what this agent held of hard limits is not known any more, and stays in doubt")
            return False
        for digest, (index, _) in list(cell.found.items()):
            if digest not in own:
                cell.release(index)
        found = [(own[digest], index, counts) for digest, (index, counts) in cell.found.items() if digest in own]
        holder = Holder.resume(identity.agent_id, head, found)
        holder.generation = identity.generation or ""
        changed = holder.leases.resume([(each.id, each.parts, each.deadline_ms) for each in kept])
        self._take_up(holder)
        self.keep(changed)
        return True

    def begin(
        self, agent_id: str, hello_id: str, epoch: int, *, nonce: bytes | None = None, generation: str | None = None
    ) -> Holder:
        """The holder of that epoch: the one there is, or a new one with nothing."""
        holder = self.holder
        if holder is not None and (holder.head.hello_id, holder.head.epoch) == (hello_id, epoch):
            return holder
        self.lose()
        head = Head(hello_id, epoch, self._clock.boot_id(), nonce, sync_id=self._next_id())
        holder = Holder(agent_id, head)
        holder.generation = generation or ""
        if self._cell is not None:
            self._cell.begin(head)
        self._take_up(holder)
        return holder

    def lose(self) -> None:
        """The epoch is over, or another process may live in it: what is held is never spent again, and is returned."""
        holder, self.holder = self.holder, None
        if holder is None:
            return
        holder.lose()
        self.unnamed.clear()
        self._limits.hold(None)
        if len(holder.leases):
            self.lost.append(holder)

    def close(self) -> None:
        """Let go of the cell: what is in it stays for the next process."""
        if self.holder is not None:
            self.keep(self._limits.debits.take_changed())
        self._close()

    def _take_up(self, holder: Holder) -> None:
        self.holder = holder
        self._limits.hold(holder.leases, holder.head.hello_id)

    # Keeping

    def stepped(self, steps: int) -> None:
        """The database has taken so many steps: the cell is to know before anything is done that relies on the last."""
        holder = self.holder
        if holder is not None and self._cell is not None and holder.head.steps < steps:
            holder.head = msgspec.structs.replace(holder.head, steps=steps)
            self._cell.turn(holder.head)

    def keep_changed(self) -> None:
        """Keep what own usage debited since it was kept last."""
        self.keep(self._limits.debits.take_changed())

    def keep(self, leases: Iterable[Lease]) -> None:
        """Keep the counts of the present holder's leases in the cell. One that has no place there is returned."""
        holder = self.holder
        for lease in leases:
            if holder is None or holder.leases.get(lease.key) is not lease:
                continue
            cell = self._cell or self._begun(holder)
            if lease.index < 0 and not self._claim(cell, lease):
                continue
            cell.write(
                lease.index,
                lease.granted,
                lease.returned,
                lease.used,
                lease.reserved,
                lease.refunded,
                lease.overrun,
            )

    def _begun(self, holder: Holder) -> Cell:
        cell = self._open()
        cell.begin(holder.head)
        return cell

    def _claim(self, cell: Cell, lease: Lease) -> bool:
        try:
            lease.index = cell.claim(lease.key)
        except OSError as exc:
            log.warning("no room to keep what is spent of %s, so it is not spent: %s", lease.key[0], exc)
            lease.returned += max(lease.free, 0)
            return False
        self.unnamed[lease.key] = None
        return True

    def hear(self, holder: Holder, answer: LeaseAnswer) -> Heard:
        """Take an answer: what it brings is in the cell before it is spent, and then the holder's head."""
        heard = holder.hear(answer, self._next_id())
        if holder is self.holder:
            self.keep(heard.store)
            over = {each.limit: each.period_now for each in answer.grants if each.period_now > each.period}
            self.keep(lease for limit in over if (lease := holder.leases.current(limit)) is not None)
            if heard.turned and self._cell is not None:
                self._cell.turn(holder.head)
            self._limits.outdate(over)
        elif holder in self.lost and holder.is_settled:
            self.lost.remove(holder)
        return heard

    def forget(self, leases: Collection[Lease]) -> None:
        """Give up the places of leases of periods that are over, whose names are forgotten."""
        for lease in leases:
            if self._cell is not None:
                self._cell.release(lease.index)
            lease.index = -1
            self._limits.debits.had.discard(lease.key)

    # The cell

    def _open(self) -> Cell:
        directory, file_id = self._where()
        name = hashlib.blake2b(f"{directory}\0{file_id}".encode(), digest_size=16).hexdigest()
        self._cell = cell = self._open_cell(f"sidemeter-{name}.cell")
        return cell

    def _close(self) -> None:
        if self._cell is not None:
            self._cell.close()
            self._cell = None

    def _next_id(self) -> str:
        return self._clock.token_hex(_SYNC_ID_BYTES)


def _are_known(cell: Cell, own: dict[bytes, Key]) -> bool:
    """Whether the cell has the counts of every lease that is named, and none of another that was ever granted."""
    strangers = (counts for digest, (_, counts) in cell.found.items() if digest not in own)
    return not cell.is_damaged and own.keys() <= cell.found.keys() and all(each == Counts() for each in strangers)
