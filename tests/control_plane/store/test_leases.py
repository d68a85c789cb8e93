"""The summary of a pool's holders is the same by the database as by the rule, whatever they said."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planes import open_database

from sidemeter_control.limits.leases import Holding, Others, Pool, Standing, others
from sidemeter_control.store import leases
from sidemeter_control.store.database import Database
from sidemeter_control.store.leases import Holder, StoredPool

pytestmark = [pytest.mark.both_databases, pytest.mark.spread]

POOL, ELSEWHERE = ("acme", "calls", 1), ("acme", "calls", 2)
COUNT = st.integers(0, 20) | st.integers(0, 2**56)
HELD = st.builds(
    Holding,
    granted=COUNT,
    returned=COUNT,
    used=COUNT,
    refunded=COUNT,
    written_off=COUNT,
    reserved=COUNT,
    want_free=COUNT | st.just(2**62),
    need=COUNT,
    turn=st.integers(0, 40),
)
HOLDERS = st.lists(st.tuples(st.sampled_from(Standing), HELD), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(holders=HOLDERS, turn=st.integers(0, 40))
async def test_others_are_summed_up_as_the_rule_says(
    database: Database, holders: list[tuple[Standing, Holding]], turn: int
) -> None:
    with suppress(Undone):
        await said_by_both(database, holders, turn)


class Undone(Exception):
    """So that the next example finds nothing of this one."""


async def said_by_both(database: Database, holders: list[tuple[Standing, Holding]], turn: int) -> None:
    async with database.write() as conn:
        for pool in (POOL, ELSEWHERE):
            await leases.put_pool(conn, StoredPool(pool, "calls", (), None, 0, 0, turn))
        for number, (standing, holding) in enumerate(holders):
            holder = Holder((f"agent-{number}", "h"), 1, standing)
            await leases.add_holder(conn, holder)
            await leases.put_holdings(conn, holder.id, {POOL: holding, ELSEWHERE: Holding(granted=1)})
        for number in range(len(holders) + 1):  # of all but each of them, and of all
            rest = [each for index, each in enumerate(holders) if index != number]
            found = await leases.others(conn, (f"agent-{number}", "h"), [POOL])
            assert found.get(POOL, Others()) == others(Pool(10, 1, 1, 1, turn), rest)
            own = await leases.own_holdings(conn, (f"agent-{number}", "h"), [POOL])
            assert own == ({POOL: holders[number][1]} if number < len(holders) else {})
        raise Undone


async def test_sums_of_very_many_large_counts_are_exact(tmp_path: Path) -> None:
    holding = Holding(granted=2**62, want_free=2**62, turn=1)
    async with open_database(tmp_path) as database, database.write() as conn:
        await leases.put_pool(conn, StoredPool(POOL, "calls", (), None, 0, 0, 0))
        for number in range(9):
            holder = Holder((f"agent-{number}", "h"), 1, Standing.CURRENT)
            await leases.add_holder(conn, holder)
            await leases.put_holdings(conn, holder.id, {POOL: holding})
        found = await leases.others(conn, ("agent-0", "h"), [POOL])
    assert found[POOL] == Others(held=8 * 2**62, active=8, spare=8 * 2**62, short=0, wanted=8 * 2**62)


@pytest.mark.parametrize("ids", [[], [("nobody", "calls", 1)]])
async def test_a_pool_without_holders_is_absent(tmp_path: Path, ids: list[tuple[str, str, int]]) -> None:
    async with open_database(tmp_path) as database, database.read() as conn:
        assert await leases.others(conn, ("a", "h"), ids) == await leases.own_holdings(conn, ("a", "h"), ids) == {}
