"""Recovering: read back what a damaged database holds, take its events again, and declare what is missing."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, ParamSpec

from sidemeter import damaged
from sidemeter.buffer import Buffer
from sidemeter.clock import Clock
from sidemeter.damaged import Damage
from sidemeter.errors import StorageRefused
from sidemeter.losses import Loss
from sidemeter.salvage import Found, Numbers, read

__all__ = ["Salvager"]

P = ParamSpec("P")

log = logging.getLogger(__name__)

_PAGES_AT_ONCE: Final = 16
"""Read without a pause: some 600 small rows or 2 ms, in which the thread of the event loop may have to wait."""
_ROWS_AT_ONCE: Final = 500
_AFTER_A_REFUSAL_S: Final = 1.0

Requeue = Callable[[Sequence[bytes]], Awaitable[None]]
"""Take events, in their wire form, that were accepted before; returns once they are durable here."""


class _Progress:
    """What was read of one damaged database so far.

    What is counted comes back with the rest: a control plane that is restored later may need it, and one that has it
    knows its id. What the damaged database said of the control plane is gone with it.
    """

    def __init__(self) -> None:
        self.events = Numbers()
        self.refused = Numbers()
        self.losses: dict[str, Loss] = {}

    def new(self, found: Found) -> list[bytes]:
        """The events of `found` that were not seen before."""
        return [body for seq, body in found.events if self.events.add(seq)]

    def missing(self, damage: Damage) -> list[Loss]:
        """The losses to declare: rows that are known to have been there and were not read back."""
        facts, reason = damage.facts, f"the buffer was damaged: {damage.reason}"
        losses = []
        if not damage.exact:
            losses.append(Loss(facts.file_id, facts.settled_seq + 1, None, None, reason, damage.noticed_at_us))
        else:
            first, last = facts.settled_seq + 1, facts.last_seq
            back = self.events.without(self.refused).count(first, last) if damage.same_file else 0
            if facts.unsettled > back:
                absent = self.events.absent(first, last) if damage.same_file and not damage.overtaken else None
                low, high = absent or (1 if damage.overtaken else first, last)
                losses.append(Loss(facts.file_id, low, high, facts.unsettled - back, reason, damage.noticed_at_us))
        losses += self._kept(damage)
        apart, told = (len(self.refused), len(self.losses)) if damage.same_file else (0, 0)
        if facts.refused > apart:
            which, reason = f"{facts.file_id}-refused", f"{reason}; these were kept apart"
            losses.append(Loss(which, 1, facts.last_seq, facts.refused - apart, reason, damage.noticed_at_us))
        if max(facts.losses, facts.open_losses) > told:
            losses.append(self._declarations(damage))
        return losses

    def _declarations(self, damage: Damage) -> Loss:
        """In place of those that are gone. Where none waited to be told, whoever counted last knows of them."""
        facts, reason = damage.facts, "declarations of earlier losses were damaged"
        known_in = None if facts.open_losses or facts.counted is None else facts.counted.generation
        return Loss(f"{facts.file_id}-losses", 1, facts.last_seq, None, reason, damage.noticed_at_us, known_in)

    def _kept(self, damage: Damage) -> list[Loss]:
        """What was counted, kept and not read back: lost where the control plane goes back to before it was counted."""
        facts, reason = damage.facts, f"the buffer was damaged: {damage.reason}"
        first, last = facts.kept_from_seq, facts.settled_seq
        back = self.events.without(self.refused).count(first, last) if damage.same_file else 0
        if facts.kept <= back:
            return []
        low, high = (self.events.absent(first, last) if damage.same_file else None) or (first, last)
        gone = facts.kept - back if damage.exact else None
        counted_in = None if facts.counted is None else facts.counted.generation
        return [Loss(f"{facts.file_id}-kept", low, high, gone, reason, damage.noticed_at_us, counted_in)]


class Salvager:
    """Brings the events of damaged databases back into the buffer, one database after the other."""

    def __init__(self, buffer: Buffer, clock: Clock, requeue: Requeue) -> None:
        self._buffer = buffer
        self._clock = clock
        self._requeue = requeue
        self.salvaged_events = 0

    async def salvage_once(self) -> None:
        """Wait for a damaged database, and read it back to its end.

        A kill in the middle makes the next start begin anew: an event that is here already is known by its id.
        """
        damage = await self._buffer.damage()
        progress, before = _Progress(), self.salvaged_events
        with damaged.opened(self._buffer.directory, damage) as (database, log_file):
            pages = read(database, log_file)
            while chunk := await asyncio.to_thread(_some, pages):
                for found in chunk:
                    await self._take(found, progress)
        losses = progress.missing(damage)
        for loss in losses:
            how = "lost" if loss.counted_in is None else "known to the control plane, and no longer kept"
            many = "it is not known how many" if loss.events is None else loss.events
            log.error("events from row %d on (%s) are %s: %s", loss.first_seq, many, how, loss.reason)
            await self._until_kept(self._buffer.declare, loss)
        await self._buffer.salvaged(damage)
        log.warning("%d events of damaged/%d are read back", self.salvaged_events - before, damage.number)

    async def _take(self, found: Found, progress: _Progress) -> None:
        bodies = progress.new(found)
        for some in (bodies[at : at + _ROWS_AT_ONCE] for at in range(0, len(bodies), _ROWS_AT_ONCE)):
            await self._until_kept(self._requeue, some)
            self.salvaged_events += len(some)
        refused = [row for row in found.refused if progress.refused.add(row[0])]
        losses = [loss for loss in found.losses if loss.id not in progress.losses]
        progress.losses |= {loss.id: loss for loss in losses}
        if refused or losses:
            await self._until_kept(self._buffer.keep, refused, losses)

    async def _until_kept(self, keep: Callable[P, Awaitable[None]], *given: P.args, **named: P.kwargs) -> None:
        """A disk that refuses delays what is read back; it does not end it."""
        while True:
            try:
                await keep(*given, **named)
            except StorageRefused as exc:
                log.warning("what is read back waits for the disk: %s", exc)
                await self._clock.sleep(_AFTER_A_REFUSAL_S)
            else:
                return


def _some(pages: Iterator[Found]) -> list[Found]:
    return list(itertools.islice(pages, _PAGES_AT_ONCE))
