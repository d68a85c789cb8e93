"""Storing events: each once, with what it adds up to. One that fails stops no other, whatever its fault (P4, P7)."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.metering.batches import Batch
from sidemeter_control.metering.counting import Readers, count
from sidemeter_control.metering.events import Data, Event
from sidemeter_control.metering.outcomes import Readers as OutcomeReaders
from sidemeter_control.metering.outside import note_outside
from sidemeter_control.metering.settling import settle
from sidemeter_control.metering.totals import add_to_totals
from sidemeter_control.store import events as stored_events
from sidemeter_control.store import late_days
from sidemeter_control.store.database import savepoint

__all__ = ["INTERNAL", "Refusal", "Rules", "Stored", "all_that_can", "store"]

INTERNAL = "internal"
"""The code of a dead letter that is our fault: its reason names the incident under which the log explains it."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event is not counted: `code` is stable, `reason` is for people."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """By what one transaction counts: its meters, its instant, and how far ahead of that an event's time may be.

    An event with a time before `closed_until_us` is counted, and noted as late.
    """

    readers: Readers
    now_us: int
    max_future_us: int
    new_id: Callable[[str], str]
    closed_until_us: int = 0
    outcomes: OutcomeReaders = field(default_factory=dict)

    def refusal(self, event: Event) -> Refusal | None:
        """Why an event that keeps every rule of its own is not counted now."""
        if event.time_us <= self.now_us + self.max_future_us:
            return None
        return Refusal("time_in_future", f"time: is more than {self.max_future_us // 1_000_000} s ahead of this clock")


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of events, by their place: stored now, or refused; the others were stored before."""

    new: Sequence[int]
    refused: dict[int, Refusal]


async def store(
    conn: AsyncConnection,
    rules: Rules,
    events: Sequence[Event],
    data: Sequence[Data],
    *,
    batch: Batch | None = None,
    agent_id: str | None = None,
) -> Stored:
    """Insert and count the events that are not stored yet. `data` is theirs, parsed; `batch` brought them, of `agent_id`.

    An event that makes this fail for a reason nobody foresaw is refused as INTERNAL, and the others are stored.
    """
    latest_us = rules.now_us + rules.max_future_us
    refused: dict[int, Refusal] = {}
    places: Sequence[int] = range(len(events))
    if not all(event.time_us <= latest_us for event in events):
        refused = {place: refusal for place in places if (refusal := rules.refusal(events[place]))}
        places = [place for place in places if place not in refused]
    new: list[int] = []

    async def add(part: Sequence[int]) -> None:
        placed = await stored_events.add(conn, _at(events, part), rules.now_us)
        added = part if len(placed) == len(part) else [part[place] for place in placed]
        await add_to_totals(conn, rules.readers, _at(events, added), rules.now_us, data=_at(data, added), batch=batch)
        await note_outside(conn, rules.readers, _at(events, added), _at(data, added), agent_id)
        await late_days.note(conn, ((each.subject, each) for each in _at(events, added)), rules.closed_until_us)
        if rules.outcomes:
            both = zip(_at(events, added), _at(data, added), strict=True)
            await settle(conn, rules.outcomes, both, closed_until_us=rules.closed_until_us)
        new.extend(added)

    def alone(place: int) -> None:
        count(rules.readers, [events[place]], [data[place]])

    faults = await all_that_can(conn, places, add, alone, rules.new_id)
    if faults:  # what is stored already is a duplicate, whatever counting it anew would come to
        known = await stored_events.known(conn, [events[place] for place in faults])
        faults = {place: fault for place, fault in faults.items() if _name(events[place]) not in known}
    return Stored(new, refused | faults)


def _name(event: Event) -> tuple[str, str, str]:
    return event.subject, event.source, event.id


def _at(values: Sequence[T], places: Sequence[int]) -> Sequence[T]:
    """The values at some of their places, which rise; all of them nearly always, and then as they are."""
    return values if len(places) == len(values) else [values[place] for place in places]


async def all_that_can(
    conn: AsyncConnection,
    places: Sequence[int],
    act: Callable[[Sequence[int]], Awaitable[None]],
    alone: Callable[[int], None],
    new_id: Callable[[str], str],
) -> dict[int, Refusal]:
    """Do `act` for all places; where that fails, for those that `alone` does not fail for, and by halves of these where
    it still fails, down to single ones. Answers the places it cannot be done for; what failed is undone.

    `alone` is what of `act` needs no database. It finds nearly every culprit: a part costs a millisecond to undo, and a
    whole batch of culprits thousands of parts. A database that gives no answer ends it all: that is no event's fault.
    """
    faults = _Faults(new_id)
    failed: dict[int, Refusal] = {}
    parts = [places] if places else []
    tried_alone = False
    while parts:
        part = parts.pop()
        try:
            async with savepoint(conn):
                await act(part)
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001 -- the point of it: no mistake of ours about one event stops another
            half = len(part) // 2
            if not half:
                failed[part[0]] = faults.of(exc)
            elif tried_alone:
                parts += [part[half:], part[:half]]
            else:
                tried_alone = True
                failed = faults.of_each(part, alone)
                parts = [[place for place in part if place not in failed]] if len(failed) < len(part) else []
    return failed


class _Faults:
    """Refusals for what we got wrong. The same fault again is the same incident: a batch full of it is one line of log."""

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self._incidents: dict[tuple[object, ...], str] = {}

    def of(self, exc: Exception) -> Refusal:
        raised_at = exc.__traceback__
        while raised_at is not None and raised_at.tb_next is not None:
            raised_at = raised_at.tb_next
        where = (type(exc), raised_at and raised_at.tb_frame.f_code, raised_at and raised_at.tb_lineno)
        if where not in self._incidents:
            incident = self._incidents[where] = self._new_id("err")
            _log.error(
                "%s: an event could not be counted, and is a dead letter",
                incident,
                exc_info=exc,
                extra={"incident_id": incident},
            )
        return Refusal(
            INTERNAL, f"counting it failed on our side ({type(exc).__name__}); its id is {self._incidents[where]}"
        )

    def of_each(self, places: Sequence[int], alone: Callable[[int], None]) -> dict[int, Refusal]:
        failed = {}
        for place in places:
            try:
                alone(place)
            except StoreUnavailable:
                raise
            except Exception as exc:  # noqa: BLE001 -- see `all_that_can`
                failed[place] = self.of(exc)
        return failed
