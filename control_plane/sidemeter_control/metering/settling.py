"""Settling: uses are confirmed and reversed as outcomes arrive, in whatever order, and are added up by the hour of use."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.events import Data, Event
from sidemeter_control.metering.outcomes import (
    Mention,
    OutcomeRule,
    Readers,
    Thing,
    difference,
    plus,
    settled,
    sort,
)
from sidemeter_control.metering.rollups import DAY_US, EMPTY, Bucket, Rollup
from sidemeter_control.store import changes, late_days, outcomes, rollups

__all__ = ["settle"]


async def settle(
    conn: AsyncConnection,
    readers: Readers,
    added: Iterable[tuple[Event, Data]],
    removed: Iterable[tuple[Event, Data]] = (),
    *,
    closed_until_us: int = 0,
) -> None:
    """Take note of events, and of others no more, and bring the settled quantities to what follows from it.

    A use before `closed_until_us` that is settled otherwise than before is late: it changes what was closed.
    """
    new, old = sort(readers, added), sort(readers, removed)
    things = new.keys() | old.keys()
    if not things:
        return
    before = await outcomes.mentions(conn, things)
    after = {thing: (known - old.get(thing, set())) | new.get(thing, set()) for thing, known in before.items()}
    rules = {reader.rule.id: reader.rule for some in readers.values() for reader in some}
    for rule in rules.values():
        of_rule = [{t: m for t, m in each.items() if t.rule_id == rule.id} for each in (before, after)]
        await _add(conn, difference(rule, *of_rule))
        if closed_until_us:
            changed = _uses(rule, of_rule[0]) ^ _uses(rule, of_rule[1])
            await late_days.note(conn, [(subject, use) for subject, use, _ in changed], closed_until_us)
    await outcomes.remove_mentions(conn, [(t, m) for t, some in old.items() for m in some])
    await outcomes.add_mentions(conn, [(t, m) for t, some in new.items() for m in some])


def _uses(rule: OutcomeRule, things: Mapping[Thing, AbstractSet[Mention]]) -> set[tuple[str, Mention, str]]:
    return {
        (thing.subject, use, state) for thing, known in things.items() for use, state in settled(known, rule.window_us)
    }


async def _add(conn: AsyncConnection, hours: Mapping[Bucket, Rollup]) -> None:
    """Add to hours, and to the days that they lie in."""
    if not hours:
        return
    changes.note(conn, subjects={hour.subject for hour in hours})
    added = dict(hours)
    for hour, change in hours.items():
        day = hour._replace(grain_s=86400, bucket_us=hour.bucket_us - hour.bucket_us % DAY_US)
        added[day] = plus(added.get(day, EMPTY), change)
    known = await rollups.get(conn, added)
    await rollups.put(conn, {bucket: plus(known.get(bucket, EMPTY), change) for bucket, change in added.items()})
