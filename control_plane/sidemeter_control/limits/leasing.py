"""Leasing: what a holder reports is taken in and what can be granted is, in one transaction, durable before the answer."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.leases import (
    Holding,
    Key,
    Known,
    Others,
    Pool,
    Standing,
    Sync,
    Taken,
    newly_settled,
    shows_rollback,
    take,
    tells_more,
)
from sidemeter_control.limits.recovery import HolderId
from sidemeter_control.limits.shared import Shared
from sidemeter_control.limits.units import PoolId, limit_id, limit_units, pool_id, units_of
from sidemeter_control.metering import holders
from sidemeter_control.metering.identity import NO_NONCES
from sidemeter_control.metering.rollbacks import Rollbacks
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.store import agents, leases, recoveries, state
from sidemeter_control.store.leases import Holder, StoredPool

__all__ = ["heard_without", "is_taken", "take_leases"]

_log = logging.getLogger(__name__)

NOTHING = Holding()
NOBODY = Others()

_KEPT_US = 366 * DAY_US
"""For how long a pool without an end goes on once its limit resets: whoever changes that back may do so until then."""


async def is_taken(conn: AsyncConnection, holder: HolderId, *, has_leases: bool) -> bool:
    """Whether a sync is one of leases: it tells of some, or what its holder has, or is, is to be considered."""
    if has_leases:
        return True
    if not (await state.get(conn)).lease_version:
        return False
    known = await leases.holder(conn, holder)
    if known is not None and known.standing is not Standing.CURRENT:
        return True
    return await leases.holds(conn, holder) or await recoveries.current(conn) is not None


async def take_leases(
    conn: AsyncConnection,
    rollbacks: Rollbacks,
    sync: Sync,
    shared: Mapping[str, Shared],
    now_us: int,
    *,
    lacks_batches: bool,
) -> Taken:
    """Take a sync as `leases.take` does, with what is stored, and store what it changes.

    `shared` are the limits of its leases. `lacks_batches`: it was told of counted batches that are not counted here.
    """
    holder = await leases.holder(conn, sync.holder)
    pools = await _pools(conn, sync, shared, now_us)
    known = await _known(conn, sync, holder, pools, shared)
    known = await _noticed(conn, rollbacks, sync, known, now_us, lacks_batches=lacks_batches)
    if known.recovery is not None:
        known = await _doubted(conn, sync, known, pools, shared)
    taken = take(sync, known)
    if taken.alert:
        _log.error("two processes speak for agent %s in epoch %d: both are fenced", sync.holder[0], sync.epoch)
    await _store(conn, sync, holder, known, taken, pools, now_us)
    return taken


async def _pools(
    conn: AsyncConnection, sync: Sync, shared: Mapping[str, Shared], now_us: int
) -> dict[PoolId, StoredPool]:
    """The pools of its leases; those of periods that count now are made where they are missing.

    A pool goes on counting until its period ends, also while another period counts because the limit resets otherwise: it
    may reset again as it did before, and has forgotten nothing then.
    """
    ids = [pool_id(each.key) for each in sync.reports]
    pools = await leases.pools(conn, ids + [each.aside for each in shared.values() if each.aside != each.id])
    now = {each.id: each for each in shared.values()}
    for id_ in ids:
        pool, limit = pools.get(id_), now.get(id_)
        if limit is None:
            resets = shared.get(limit_id(*id_[:2])) is not None  # another period counts now
            if pool is not None and resets and pool.end_us is None:
                pools[id_] = replace(pool, end_us=now_us + _KEPT_US)
                await leases.put_pool(conn, pools[id_])
        elif pool is None:
            pools[id_] = await _made(conn, limit)
        elif pool.end_us != limit.end_us:
            pools[id_] = replace(pool, end_us=limit.end_us)
            await leases.put_pool(conn, pools[id_])
    return pools


async def _made(conn: AsyncConnection, limit: Shared) -> StoredPool:
    """A new pool: nobody speaks for what was counted so far, as this transaction sees it."""
    outside = units_of(await limit.outside(conn), limit.scale)
    meter_key = "" if limit.meter is None else limit.meter.key
    pool = StoredPool(limit.id, meter_key, limit.slice, limit.end_us, limit.scale, outside)
    await leases.put_pool(conn, pool)
    return pool


async def _known(
    conn: AsyncConnection,
    sync: Sync,
    holder: Holder | None,
    pools: Mapping[PoolId, StoredPool],
    shared: Mapping[str, Shared],
) -> Known:
    now = await state.get(conn)
    own, rest = await leases.own_holdings(conn, sync.holder, pools), await leases.others(conn, sync.holder, pools)
    under_way = await recoveries.current(conn) if now.lease_version else None
    holdings: dict[Key, Holding] = {}
    found: dict[Key, tuple[Pool, Others]] = {}
    for report in sync.reports:
        id_ = pool_id(report.key)
        # Of a period that is over and forgotten, it has what it says.
        holdings[report.key] = own.get(id_, NOTHING) if id_ in pools else Holding(granted=report.granted)
        if report.limit in shared:
            theirs = rest.get(id_, NOBODY)
            held = theirs.held + own.get(id_, NOTHING).held
            limit = shared[report.limit]
            aside = pools.get(limit.aside if report.period == limit.id[2] else id_)
            lacking = 0 if aside is None else aside.outside
            pool = _pool(limit, report.period, pools.get(id_), (held, lacking), now.config_version)
            found[report.key] = pool, theirs
    return Known(
        now.generation,
        now.version,
        None if holder is None else holder.standing,
        await agents.nonces_of_hello(conn, *sync.holder) or NO_NONCES,
        None if under_way is None else under_way.recovery,
        now.holders,
        found,
        holdings,
    )


def _pool(limit: Shared, period: int, stored: StoredPool | None, out: tuple[int, int], policy_version: int) -> Pool:
    """The pool as the rules see it, of which are `out` units with holders, and units set aside: what is shared is the limit
    without the usage that no holder speaks for.

    That is at least what was counted beyond all that holders have: a meter that is defined anew may count more. Of money
    it is all that is owed by now: what holders debited for it they return, once they hear that it is counted.
    """
    scale = limit.scale if stored is None else stored.scale
    units, period_now = limit_units(limit.ceiling, scale), limit.id[2]
    held, lacking = out
    if limit.meter is None:
        turn = 0 if stored is None else stored.turn
        left = max(units - units_of(limit.used, scale) - lacking, 0)
        return Pool(left, period, period_now, policy_version, turn)
    if stored is None:
        return Pool(units, period, period_now, policy_version)
    outside = stored.outside
    if period == period_now:
        outside = max(outside, units_of(limit.used, scale) - held)
    return Pool(max(units - outside, 0), period, period_now, policy_version, stored.turn)


async def _doubted(
    conn: AsyncConnection,
    sync: Sync,
    known: Known,
    pools: Mapping[PoolId, StoredPool],
    shared: Mapping[str, Shared],
) -> Known:
    """What a holder settled since this copy of the database was made may be for usage that the copy lacks: of a limit in
    money so much is set aside, until its period ends. The bill it is on may come again only later, or in parts."""
    found, lacking = dict(known.pools), Counter[PoolId]()
    for key, units in newly_settled(sync, known).items():
        limit = shared.get(key[0])
        if limit is None or limit.meter is not None or pool_id(key) not in pools:
            continue
        pool, rest = found[key]
        found[key] = replace(pool, limit=max(pool.limit - units, 0)), rest
        aside = limit.aside if key[1] == limit.id[2] else pool_id(key)
        if limit.billed is not None and aside not in pools:
            await leases.put_pool(conn, StoredPool(aside, "", (), limit.billed.end_us, pools[pool_id(key)].scale, 0))
        lacking[aside] += units
    await leases.add_outside(conn, lacking)
    return replace(known, pools=found)


async def _noticed(
    conn: AsyncConnection, rollbacks: Rollbacks, sync: Sync, known: Known, now_us: int, *, lacks_batches: bool
) -> Known:
    """Whether the sync tells of what this database never stored: then a recovery begins, before it is taken."""
    same = sync.generation == known.generation
    if shows_rollback(sync, known) or (same and lacks_batches):
        await rollbacks.notice(conn, sync.holder[0], holds_leases=bool(sync.reports))
    elif not same and await _was_forgotten(conn, sync, known):
        await holders.begin(conn, known.generation, None, now_us)
    else:
        return known
    now, under_way = await state.get(conn), await recoveries.current(conn)
    recovery = None if under_way is None else under_way.recovery
    return replace(known, generation=now.generation, state_version=now.version, recovery=recovery)


async def _was_forgotten(conn: AsyncConnection, sync: Sync, known: Known) -> bool:
    """Whether grants of an earlier generation are told that no recovery has waited for.

    Not by a stranger, where leases are: it holds what another control plane granted.
    """
    if known.recovery is not None or not tells_more(sync, known):
        return False
    is_stranger = known.standing is None and (await state.get(conn)).lease_version > 0
    return not is_stranger and not await recoveries.began_in(conn, known.generation)


async def _store(  # noqa: PLR0917 -- what was, what is, and when
    conn: AsyncConnection,
    sync: Sync,
    holder: Holder | None,
    known: Known,
    taken: Taken,
    pools: Mapping[PoolId, StoredPool],
    now_us: int,
) -> None:
    """Keep what has changed; the version of leases rises if anything but a nonce has."""
    changed = {
        pool_id(key): holding
        for key, holding in taken.holdings.items()
        if pool_id(key) in pools and holding != known.holdings[key]
    }
    await leases.put_holdings(conn, sync.holder, changed)
    if holder is None:
        await leases.add_holder(conn, Holder(sync.holder, sync.epoch, taken.standing))
    elif taken.standing is not holder.standing:
        await leases.set_standing(conn, sync.holder, taken.standing)
    if holder is not None and taken.nonces != known.nonces:
        await agents.keep_nonces(conn, sync.holder[0], holder.epoch, taken.nonces)
        await leases.turned(conn, [id_ for key in taken.holdings if (id_ := pool_id(key)) in pools])
    if taken.recovery != known.recovery:
        await _recover(conn, taken, now_us)
    joined = holder is None or taken.standing is not holder.standing
    if changed or joined or taken.recovery != known.recovery:
        await state.leases_changed(conn)


async def _recover(conn: AsyncConnection, taken: Taken, now_us: int) -> None:
    under_way = await recoveries.current(conn)
    if taken.recovery is None:
        await holders.recovered(conn, now_us)
    elif under_way is not None:
        await recoveries.change(conn, under_way, taken.recovery)


async def heard_without(conn: AsyncConnection, agent_id: str, epoch: int, now_us: int) -> None:
    """A current agent that knows nothing of leases holds none: a recovery need not wait for it."""
    now = await state.get(conn)
    under_way = await recoveries.current(conn) if now.lease_version else None
    hello_id = await agents.hello_of(conn, agent_id, epoch)
    if under_way is None or hello_id is None:
        return
    recovery = under_way.recovery.heard((agent_id, hello_id))
    if recovery.is_over(now.holders):
        await holders.recovered(conn, now_us)
    elif recovery != under_way.recovery:
        await recoveries.change(conn, under_way, recovery)
    else:
        return
    await state.leases_changed(conn)
