"""Settling: uses are confirmed and reversed as outcomes arrive, in whatever order, and are added up by the hour of use."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import usage
from sidemeter_control.metering.events import Data, Event, parse_data
from sidemeter_control.metering.meters import from_nano
from sidemeter_control.metering.outcomes import (
    Mention,
    OutcomeReader,
    OutcomeRule,
    State,
    Thing,
    difference,
    plus,
    settled,
    sort,
    state_of,
)
from sidemeter_control.metering.rollups import DAY_US, EMPTY, Bucket, Rollup
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store import events, outcomes, rollups

__all__ = ["Settled", "settle", "settled_within"]

Readers = Mapping[str, Sequence[OutcomeReader]]
"""The rules that settle, by the types of events they read."""


async def settle(
    conn: AsyncConnection,
    readers: Readers,
    added: Sequence[tuple[Event, Data]],
    removed: Sequence[tuple[Event, Data]] = (),
) -> None:
    """Take note of events, and of others no more, and bring the settled quantities to what follows from it."""
    new, old = sort(readers, added), sort(readers, removed)
    things = new.keys() | old.keys()
    if not things:
        return
    before = await outcomes.mentions(conn, things)
    after = {thing: (known - old.get(thing, set())) | new.get(thing, set()) for thing, known in before.items()}
    rules = {reader.rule.id: reader.rule for some in readers.values() for reader in some}
    for rule in rules.values():
        changes = difference(
            rule, *({t: m for t, m in each.items() if t.rule_id == rule.id} for each in (before, after))
        )
        await _add(conn, changes)
    await outcomes.remove_mentions(conn, [(t, m) for t, some in old.items() for m in some])
    await outcomes.add_mentions(conn, [(t, m) for t, some in new.items() for m in some])


async def _add(conn: AsyncConnection, hours: Mapping[Bucket, Rollup]) -> None:
    """Add to hours, and to the days that they lie in."""
    if not hours:
        return
    changes = dict(hours)
    for hour, change in hours.items():
        day = hour._replace(grain_s=86400, bucket_us=hour.bucket_us - hour.bucket_us % DAY_US)
        changes[day] = plus(changes.get(day, EMPTY), change)
    known = await rollups.get(conn, changes)
    await rollups.put(conn, {bucket: plus(known.get(bucket, EMPTY), change) for bucket, change in changes.items()})


@dataclass(frozen=True, slots=True)
class Settled:
    """How much of what was used is settled, in the meter's unit."""

    confirmed: Decimal
    reversed: Decimal


async def settled_within(
    conn: AsyncConnection, rule: OutcomeRule, subjects: Sequence[str], interval: Interval
) -> Settled:
    """What those subjects used in the interval and is settled by now, however much later the outcome came.

    Nothing is kept for a rule without a number: then the events answer, one by one.
    """
    if not rule.id:
        return _added_up(await _from_events(conn, rule, subjects, interval))
    covered = await usage.covering(conn, [interval], subjects)
    found: list[tuple[str, int]] = []
    for bucket, rollup in await rollups.read(conn, [rule.settled], [*covered.spans, *covered.lone.values()], subjects):
        found.append((state_of(bucket.group), rollup.sum or 0))
    for edge in covered.edges:
        used = await _mentioned(conn, rule, subjects, edge, [rule.meter.event_type])
        found += _within(edge, rule, used, await outcomes.mentions(conn, used))
    return _added_up(found)


async def _from_events(
    conn: AsyncConnection, rule: OutcomeRule, subjects: Sequence[str], interval: Interval
) -> list[tuple[str, int]]:
    until = Interval(interval.from_us, interval.to_us + rule.window_us)
    known = await _mentioned(conn, rule, subjects, until, list(OutcomeReader(rule).types))
    return _within(interval, rule, known, known)


async def _mentioned(
    conn: AsyncConnection, rule: OutcomeRule, subjects: Sequence[str], interval: Interval, types: Sequence[str]
) -> dict[Thing, set[Mention]]:
    """What events of those types in the interval say of things."""
    reader = OutcomeReader(rule)
    found: defaultdict[Thing, set[Mention]] = defaultdict(set)
    async for some in events.within(conn, interval, types, subjects):
        read = sort({type_: [reader] for type_ in types}, ((each, parse_data(each.data)) for each in some))
        for thing, mentions in read.items():
            found[thing] |= mentions
    return found


def _within(
    interval: Interval, rule: OutcomeRule, things: Iterable[Thing], known: Mapping[Thing, AbstractSet[Mention]]
) -> list[tuple[str, int]]:
    """Each settled use of those things in the interval: the state it came to, and its quantity."""
    return [
        (state, use.nano)
        for thing in things
        for use, state in settled(known[thing], rule.window_us)
        if interval.from_us <= use.time_us < interval.to_us
    ]


def _added_up(found: Iterable[tuple[str, int]]) -> Settled:
    nanos: defaultdict[str, int] = defaultdict(int)
    for state, nano in found:
        nanos[state] += nano
    return Settled(from_nano(nanos[State.CONFIRMED.value]), from_nano(nanos[State.REVERSED.value]))
