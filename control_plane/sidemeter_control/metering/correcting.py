"""Correcting: an event is voided, or says something else, and every total follows in the same transaction."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.metering import events
from sidemeter_control.metering.corrections import Correction, CorrectionKind, decide
from sidemeter_control.metering.events import Event, parse_data
from sidemeter_control.metering.meters import Reader, Uncountable
from sidemeter_control.metering.outcomes import outcome_readers
from sidemeter_control.metering.settling import settle
from sidemeter_control.metering.totals import fold_in, take_out
from sidemeter_control.store import audit, corrections, dead_letters, late_days, meters, outcomes, state
from sidemeter_control.store import events as stored_events
from sidemeter_control.store.database import Database
from sidemeter_control.store.events import StoredEvent

__all__ = ["correct_event", "void_event"]


async def void_event(
    database: Database, source: str, id_: str, reason: str, *, by: str, now_us: int, subject: str | None = None
) -> StoredEvent:
    """Let an event count nowhere; answers it as it is then. `subject`: whose it is, where several have one of that id.

    Sent again, it answers the event as it is. NotFound when there is no such event, Conflict when it is voided for another
    reason or is not the only one, InvalidInput for a reason that is none.
    """
    async with database.write() as conn:
        event = await _find(conn, source, id_, subject)
        wanted = Correction(CorrectionKind.VOID, event.data, reason, now_us, by)
        return await _apply(conn, event, wanted)


async def correct_event(
    database: Database,
    source: str,
    id_: str,
    data: str,
    reason: str,
    *,
    by: str,
    now_us: int,
    subject: str | None = None,
) -> StoredEvent:
    """Let an event say something else, also one that is voided, which then counts again; answers it as it is then.

    `data` is the text of a JSON object, `subject` and Conflict as for `void_event`. Sent again, it answers the event as it
    is. NotFound when there is no such event;
    InvalidInput for a reason that is none, for data that breaks a rule of events, or that a meter of its type cannot count:
    then nothing has changed.
    """
    async with database.write() as conn:
        event = await _find(conn, source, id_, subject)
        wanted = Correction(CorrectionKind.CORRECT, data, reason, now_us, by)
        events.check(_event(event, data))
        return await _apply(conn, event, wanted)


async def _find(conn: AsyncConnection, source: str, id_: str, subject: str | None) -> StoredEvent:
    found = await stored_events.find(conn, source, id_, subject)
    if not found:
        raise NotFound("event", f"{source}/{id_}")
    if len(found) > 1:
        raise Conflict(f"several subjects have an event {source}/{id_}: name the subject")
    return found[0]


async def _apply(conn: AsyncConnection, event: StoredEvent, wanted: Correction) -> StoredEvent:
    place = event.subject, event.seq
    so_far = (await corrections.of(conn, [place])).get(place, [])
    if not decide(so_far, wanted):
        return event
    await corrections.add(conn, *place, len(so_far) + 1, wanted)
    corrected = replace(event, data=wanted.data, voided=wanted.kind is CorrectionKind.VOID)
    await _recount(conn, event, corrected, wanted)
    closed_until_us = (await state.get(conn)).closed_until_us
    await late_days.note(conn, [(event.subject, _event(event, event.data))], closed_until_us)
    action = "voidEvent" if corrected.voided else "correctEvent"
    target = f"event {event.source}/{event.id}"
    await audit.add(conn, wanted.at_us, wanted.actor, action, target, reason=wanted.reason)
    return corrected


async def _recount(conn: AsyncConnection, was: StoredEvent, now: StoredEvent, wanted: Correction) -> None:
    """Take the event from every meter that counted it, and add it as it is now. Its letters have nothing to wait for."""
    readers = [Reader(meter) for meter in await meters.counting(conn) if meter.event_type == was.type]
    waiting = await dead_letters.waiting_of(conn, was.subject, was.source, was.id)
    # A meter that is not filled so far counts the event later, as it is then.
    reached = [reader for reader in readers if reader.meter.progress.counts(was.seq)]
    if not now.voided:
        _check(readers, _event(now, now.data))
    if not was.voided:
        counted_by = [reader for reader in reached if reader.meter.id not in waiting.values()]
        await take_out(conn, counted_by, _event(was, was.data))
    if not now.voided:
        await fold_in(conn, {now.type: reached}, [_event(now, now.data)])
    await dead_letters.leave(conn, list(waiting), wanted.at_us, wanted.actor)
    await _resettle(conn, was, now)


async def _resettle(conn: AsyncConnection, was: StoredEvent, now: StoredEvent) -> None:
    """The same for the outcome rules that have read the event."""
    known = {meter.key: meter for meter in await meters.list_all(conn, archived=True)}
    reached = [rule for rule in await outcomes.rules(conn, known) if rule.progress.counts(was.seq)]
    removed, added = (
        [] if event.voided else [(_event(event, event.data), parse_data(event.data))] for event in (was, now)
    )
    closed_until_us = (await state.get(conn)).closed_until_us
    await settle(conn, outcome_readers(reached), added, removed, closed_until_us=closed_until_us)


def _check(readers: Sequence[Reader], event: Event) -> None:
    data = parse_data(event.data)
    for reader in readers:
        try:
            reader.read(data, event.time_us, event.source, event.id)
        except Uncountable as exc:
            field = f"data.{reader.meter.value_property}"
            rule = str(exc).removeprefix(f"{field} ")
            raise InvalidInput(field, f"{rule}: meter {reader.meter.key!r} could not count it") from exc


def _event(event: StoredEvent, data: str | None) -> Event:
    return Event(event.id, event.source, event.type, event.subject, event.time_us, data)
