"""Who holds leases: a hello begins a holder, and a database that finds itself an older copy waits for all there were."""

import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict
from sidemeter_control.limits.add_ons import check_reason
from sidemeter_control.limits.leases import Standing
from sidemeter_control.limits.recovery import Attested, HolderId, Recovery, begin_recovery, judge
from sidemeter_control.store import audit, leases, recoveries, state
from sidemeter_control.store.database import Database
from sidemeter_control.store.leases import Holder
from sidemeter_control.store.witness import Statement, Witness

__all__ = [
    "begin",
    "end_recovery",
    "joined",
    "look_at_start",
    "recovered",
    "witnessed",
]

_log = logging.getLogger(__name__)


async def joined(conn: AsyncConnection, holder: HolderId, epoch: int) -> None:
    """A hello begins a holder; whoever spoke for its agent may only return from now on, and what it has stays counted."""
    known = await state.get(conn)
    await leases.supersede(conn, holder[0])
    if await leases.holder(conn, holder) is None:
        await leases.add_holder(conn, Holder(holder, epoch, Standing.CURRENT))
    if known.lease_version:
        under_way = await recoveries.current(conn)
        if under_way is not None:
            await recoveries.change(conn, under_way, under_way.recovery.joined())
        await state.leases_changed(conn)


async def begin(conn: AsyncConnection, generation: str, holders: int | None, now_us: int) -> Recovery:
    """A recovery begins in this transaction, with that generation. `holders` as in `Recovery`."""
    under_way = await recoveries.current(conn)
    newest = await leases.newest_period(conn)
    recovery = begin_recovery(
        None if under_way is None else under_way.recovery,
        await leases.current_holders(conn),
        # What was granted of before now was granted in a period that had begun, by whatever clock.
        through=now_us if newest is None else max(now_us, newest),
        holders=holders,
    )
    await recoveries.begin(conn, generation, recovery, now_us)
    await state.keep_leases_under(conn, generation)
    await state.leases_changed(conn)
    _log.error(
        "nothing is granted of hard limits until %d holders of leases have told what they hold, or until endRecovery:"
        " more may have been granted than this database knows",
        len(recovery.awaited),
    )
    return recovery


async def recovered(conn: AsyncConnection, now_us: int) -> None:
    """The recovery under way is over, in this transaction."""
    await recoveries.end(conn, now_us)
    _log.warning("everything that was granted of hard limits is known again")


async def end_recovery(database: Database, reason: str, *, by: str, now_us: int) -> None:
    """End the recovery under way by an operator's word that whoever has not told what it holds will never spend it.

    Conflict when none is under way, InvalidInput for a reason that is none.
    """
    check_reason(reason)
    async with database.write() as conn:
        under_way = await recoveries.current(conn)
        if under_way is None:
            raise Conflict("no recovery is under way")
        awaited = [f"{agent_id}/{hello_id}" for agent_id, hello_id in sorted(under_way.recovery.awaited)]
        await recoveries.end(conn, now_us)
        await state.leases_changed(conn)
        await audit.add(conn, now_us, by, "endRecovery", "leases", reason=reason, awaited=awaited)
        said = await witnessed(conn, database.witness, all_known=True)
    await database.witness.keep(said)


async def witnessed(conn: AsyncConnection, witness: Witness, *, all_known: bool = False) -> Statement:
    """What is to be kept outside of the database once this transaction is committed.

    `all_known`: from here on this database knows every holder there ever was, whatever the witness said.
    """
    known = await state.get(conn)
    last = witness.last
    holders: int | None = None
    if all_known or (last is not None and last.generation == known.generation and last.holders is not None):
        holders = known.holders
    return witness.statement(await _testimony(conn, known, holders))


async def _testimony(conn: AsyncConnection, known: state.State, holders: int | None) -> Attested:
    under_way = await recoveries.current(conn) if known.lease_version else None
    if under_way is not None:
        holders = under_way.recovery.holders
    return Attested(known.generation, known.lease_version, holders)


async def look_at_start(database: Database, clock: Clock) -> None:
    """Find out whether this database is the one that granted leases last; if it is not, a recovery begins.

    To be done before anybody is answered.
    """
    async with database.write() as conn:
        known = await state.get(conn)
        own = await _testimony(conn, known, known.holders)
        leased_in = await state.generation_of_leases(conn)
        recovered_in = await recoveries.began_in(conn, known.generation)
        found = judge(own, leased_in, database.witness.last, recovered_in=recovered_in)
        generation = known.generation
        if found.recovers:
            if found.anew:
                generation = clock.new_id("gen")
                await state.set_generation(conn, generation)
            await begin(conn, generation, found.holders, clock.now_us())
        elif leased_in != generation:
            await state.keep_leases_under(conn, generation)
        said = await _testimony(conn, await state.get(conn), found.holders)
        statement = database.witness.statement(said)
    await database.witness.keep(statement)
