"""Usage that no holder of leases speaks for: it takes from what is shared of a limit, in the transaction that counts it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.units import LEASED, PoolId, units_of_nano
from sidemeter_control.metering.counting import Readers
from sidemeter_control.metering.events import Data, Event
from sidemeter_control.metering.meters import Aggregation, Reader, Uncountable, values_of
from sidemeter_control.store import leases, state
from sidemeter_control.store.leases import StoredPool

__all__ = ["note_outside"]

_Read = tuple[int, Mapping[str, str | None]]
"""What a meter makes of an event: nano-units, and its dimensions."""


async def note_outside(
    conn: AsyncConnection, counting: Readers, events: Sequence[Event], data: Sequence[Data], agent_id: str | None
) -> None:
    """Add events that are new to the pools of leases they count toward. `data` is theirs, parsed.

    `agent_id` is the agent that brought them: it speaks for them itself in the pools that it has a part of. Nothing is
    asked of a database that never granted a lease.
    """
    if not (await state.get(conn)).lease_version:
        return
    leased = _by_meter(counting)
    types = {type_ for type_, _ in leased}
    counted = [(event, parsed) for event, parsed in zip(events, data, strict=True) if event.type in types]
    pools = await leases.pools_of(conn, {event.subject for event, _ in counted}, agent_id) if counted else {}
    more: Counter[PoolId] = Counter()
    for event, parsed in counted:
        read: dict[str, Sequence[_Read]] = {}
        for pool in pools.get(event.subject, ()):
            if not _counts_in(pool, event.time_us):
                continue
            if pool.meter_key not in read:
                read[pool.meter_key] = _read(leased.get((event.type, pool.meter_key), ()), event, parsed)
            more[pool.id] += _units(read[pool.meter_key], pool)
    await leases.add_outside(conn, +more)


def _by_meter(counting: Readers) -> Mapping[tuple[str, str], Sequence[Reader]]:
    """The readers of meters that limits are leased of, by type of event and the meter's key."""
    found: defaultdict[tuple[str, str], list[Reader]] = defaultdict(list)
    for type_, readers in counting.items():
        for reader in readers:
            if reader.meter.aggregation in LEASED:
                found[type_, reader.meter.key].append(reader)
    return found


def _counts_in(pool: StoredPool, time_us: int) -> bool:
    return pool.end_us is None or pool.id[2] <= time_us < pool.end_us


def _read(readers: Sequence[Reader], event: Event, data: Data) -> Sequence[_Read]:
    """What each of them makes of an event; nothing where it is a dead letter."""
    found: list[_Read] = []
    for reader in readers:
        if reader.counts_all:
            found.append((10**9, {}))
            continue
        try:
            read = reader.read(data, event.time_us, event.source, event.id)
        except Uncountable:
            continue
        if read is not None:
            group, reading = read
            nano = 10**9 if reader.meter.aggregation is Aggregation.COUNT else reading
            found.append((nano if isinstance(nano, int) else 0, values_of(reader.meter, group)))
    return found


def _units(read: Sequence[_Read], pool: StoredPool) -> int:
    """What an event adds to a pool; the most where a meter is being defined anew."""
    return max(
        (
            units_of_nano(nano, pool.scale)
            for nano, values in read
            if all(values.get(key) == value for key, value in pool.slice)
        ),
        default=0,
    )
