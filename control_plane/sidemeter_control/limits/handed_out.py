"""What of a limit is handed out, to whom, and an operator's word that some of it will never be spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.limits.add_ons import check_reason
from sidemeter_control.limits.leases import Holding, Standing
from sidemeter_control.limits.shared import Shared, shared_limits
from sidemeter_control.limits.units import PoolId, from_units, units_of
from sidemeter_control.metering import holders
from sidemeter_control.store import agents, audit, leases, state
from sidemeter_control.store.agents import PENDING_WITHIN_US
from sidemeter_control.store.database import Database
from sidemeter_control.store.leases import Held, Holder

__all__ = ["NOTHING_HANDED_OUT", "HandedOut", "HandedOutLimit", "handed_out", "limit_as_held", "write_off"]


class HandedOut(NamedTuple):
    """Of one limit, in the meter's unit: what agents hold and have not said they used, and what of that is in doubt."""

    leased: Decimal
    in_doubt: Decimal


NOTHING_HANDED_OUT = HandedOut(Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class HandedOutLimit:
    """A limit and all that have a part of it, in the period that counts now. `outside`: units that no holder speaks for."""

    id: str
    limit: Decimal
    scale: int
    outside: int
    held: Sequence[Held]

    @property
    def committed(self) -> Decimal:
        """What cannot be granted to anybody any more, in the meter's unit."""
        return self.quantity(self.outside + sum(each.holding.held for each in self.held))

    def quantity(self, units: int) -> Decimal:
        """So many units in the meter's unit."""
        return from_units(units, self.scale)


async def handed_out(conn: AsyncConnection, ids: Sequence[PoolId]) -> dict[PoolId, HandedOut]:
    """The same of several pools; one that nothing was leased of is absent."""
    if not (await state.get(conn)).lease_version:
        return {}
    pools, held = await leases.pools(conn, ids), await leases.holdings(conn, ids)
    found = {}
    for id_, pool in pools.items():
        rest = dict.fromkeys(Standing, 0)
        for each in held.get(id_, ()):
            rest[each.holder.standing] += _rest(each.holding)
        current = rest.pop(Standing.CURRENT)
        found[id_] = HandedOut(from_units(current, pool.scale), from_units(sum(rest.values()), pool.scale))
    return found


def _rest(holding: Holding) -> int:
    """What may still be spent of it, as far as it was told."""
    return holding.held - max(holding.used - holding.refunded, 0)


async def limit_as_held(conn: AsyncConnection, limit: str, now_us: int) -> HandedOutLimit:
    """A limit by its id, as it is shared now; NotFound when there is none of that id that is shared by leases."""
    return await _as_held(conn, limit, await _shared(conn, limit, now_us))


async def _shared(conn: AsyncConnection, limit: str, now_us: int) -> Shared:
    found = (await shared_limits(conn, {limit}, now_us)).get(limit)
    if found is None:
        raise NotFound("limit that is shared by leases", limit)
    return found


async def _as_held(conn: AsyncConnection, limit: str, shared: Shared) -> HandedOutLimit:
    pools = await leases.pools(conn, [shared.id, shared.aside])
    pool, aside = pools.get(shared.id), pools.get(shared.aside)
    held = (await leases.holdings(conn, [shared.id])).get(shared.id, [])
    scale = shared.scale if pool is None else pool.scale
    outside = 0 if aside is None else aside.outside
    if shared.meter is None:
        outside += units_of(shared.used, scale)
    return HandedOutLimit(limit, shared.ceiling, scale, outside, held)


async def write_off(
    database: Database, limit: str, holder: tuple[str, int], reason: str, *, by: str, now_us: int
) -> HandedOutLimit:
    """Free what a holder, an agent and its epoch, has of a limit and did not use: it is gone, and will never spend that.
    Of a limit in money also what it used, if its agent is here in a later epoch and has nothing left to send: the bill has it.

    A current holder that was not heard of for ten minutes is fenced with it. Sent again, it changes nothing. NotFound when
    there is no such limit, or no such holder of it; Conflict when it may still spend.
    """
    check_reason(reason)
    agent_id, epoch = holder
    async with database.write() as conn:
        shared = await _shared(conn, limit, now_us)
        before = await _as_held(conn, limit, shared)
        theirs = [each for each in before.held if (each.holder.id[0], each.holder.epoch) == holder]
        if not theirs:
            raise NotFound(f"holder of {limit}", f"{agent_id} in epoch {epoch}")
        for each in theirs:
            await _check_gone(conn, each.holder, now_us)
        is_billed = shared.meter is None and await _has_sent_all(conn, agent_id, now_us)
        if all(_is_written_off(each, is_billed=is_billed) for each in theirs):
            return before
        for each in theirs:
            await leases.set_standing(conn, each.holder.id, _gone(each.holder.standing))
            await leases.put_holdings(conn, each.holder.id, {shared.id: each.holding.write_off(is_billed=is_billed)})
        await state.leases_changed(conn)
        after = await _as_held(conn, limit, shared)
        freed = format(before.committed - after.committed, "f")
        target = f"limit {limit}"
        await audit.add(
            conn, now_us, by, "writeOffLease", target, agent=agent_id, epoch=epoch, freed=freed, reason=reason
        )
        said = await holders.witnessed(conn, database.witness)
    await database.witness.keep(said)
    return after


async def _check_gone(conn: AsyncConnection, holder: Holder, now_us: int) -> None:
    """A current holder may spend as long as it lives: only one that is silent is taken for gone."""
    agent = await agents.get(conn, holder.id[0])
    if holder.standing is not Standing.CURRENT or agent is None or now_us - agent.last_seen_us > PENDING_WITHIN_US:
        return
    silent_s, wait_s = (now_us - agent.last_seen_us) // 1_000_000, PENDING_WITHIN_US // 1_000_000
    raise Conflict(
        f"agent {agent.agent_id!r} is in epoch {holder.epoch} now, was heard of {silent_s} s ago and may still spend what"
        f" it has: stop it, and write off once it was silent for {wait_s} s, or said hello anew"
    )


async def _has_sent_all(conn: AsyncConnection, agent_id: str, now_us: int) -> bool:
    """Whether all that an agent recorded in epochs of before is counted: it was heard of a moment ago, with nothing to send."""
    agent = await agents.get(conn, agent_id)
    return agent is not None and not agent.backlog and now_us - agent.last_seen_us <= PENDING_WITHIN_US


def _is_written_off(held: Held, *, is_billed: bool) -> bool:
    written_off = held.holding.write_off(is_billed=is_billed)
    return held.holder.standing is not Standing.CURRENT and written_off == held.holding


def _gone(standing: Standing) -> Standing:
    return Standing.SUPERSEDED if standing is Standing.CURRENT else standing
