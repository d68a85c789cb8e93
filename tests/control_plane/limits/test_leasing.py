"""Leases over the real store: what is granted is durable, is never more than the limit, and is never forgotten."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lessees import Lessee
from shop import BASE, Shop, open_shop, us

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.budgeting import remove_budget, set_budget
from sidemeter_control.limits.budgets import Budget, BudgetSpec, BudgetUnit
from sidemeter_control.limits.features import new_feature
from sidemeter_control.limits.forgetting import forget_once
from sidemeter_control.limits.given import remove_entitlement, set_entitlement
from sidemeter_control.limits.leases import Holding, Standing
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.sync_messages import LeaseReport
from sidemeter_control.limits.units import PoolId
from sidemeter_control.metering.batches import NO_DIGEST, Batch, digest
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.identity import SyncStatus
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.store import leases, meters, recoveries, state

pytestmark = [pytest.mark.both_databases, pytest.mark.spread]

NOVEMBER, DECEMBER = us("2026-11-01"), us("2026-12-01")
CALLS = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(100), enforcement=Enforcement.HARD)
TOKENS = msgspec.structs.replace(CALLS, feature="tokens", limit=Decimal("10.5"))
CALLS_NOW = ("acme/calls", NOVEMBER)
TOKENS_NOW = ("acme/tokens", NOVEMBER)
POOL: PoolId = ("acme", "calls", NOVEMBER)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        acme = await opened.customer("acme", subjects=("a", "b"))
        await opened.sell(acme, BASE, entitlements=(CALLS, TOKENS))
        yield opened


async def held(shop: Shop, pool: PoolId = POOL) -> dict[tuple[str, str], Holding]:
    async with shop.database.read() as conn:
        found = (await leases.holdings(conn, [pool])).get(pool, [])
    return {each.holder.id: each.holding for each in found}


async def outside(shop: Shop, pool: PoolId = POOL) -> int:
    async with shop.database.read() as conn:
        return (await leases.pools(conn, [pool]))[pool].outside


async def allow(shop: Shop, limit: Decimal | None, **more: Any) -> None:
    """Agree on another limit of calls."""
    spec = msgspec.structs.replace(CALLS, limit=limit, **more)
    await set_entitlement(shop.database, shop.clock, OverrideSpec(customer="acme", entitlement=spec))


async def arrives(shop: Shop, lessee: Lessee, *ids: str, subject: str = "a") -> None:
    """The first batch of an agent's epoch."""
    at = shop.clock.now_us()
    body = msgspec.msgpack.encode([[id_, "chat", "llm", subject, at, '{"tokens":0.25}'] for id_ in ids])
    batch = Batch(lessee.agent_id, lessee.epoch, 1, NO_DIGEST, digest(NO_DIGEST, body), body)
    assert (await Ingest(shop.database, shop.clock).batch(batch)).recorded.accepted == len(ids)


async def test_a_limit_is_shared_in_units_and_what_is_granted_is_stored_before_the_answer(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    answer = await agent.sync({CALLS_NOW: 30})
    (grant,) = answer.grants
    assert msgspec.to_builtins(grant) == {
        "limit": "acme/calls",
        "period": NOVEMBER,
        "granted": 30,
        "mode": "lease",
        "limit_units": 100,
        "unit": 1,
        "policy_version": (await state_of(shop)).config_version,
        "period_now": NOVEMBER,
        "keep_free": None,
    }
    assert (answer.status, answer.next_sync_ms) == (SyncStatus.OK, 1000)
    assert [each.granted for each in (await held(shop)).values()] == [30]


async def state_of(shop: Shop) -> state.State:
    async with shop.database.read() as conn:
        return await state.get(conn)


@pytest.mark.parametrize(
    ("spec", "period", "scale"),
    [
        (CALLS, NOVEMBER, 0),
        (TOKENS, NOVEMBER, 9),
        (msgspec.structs.replace(TOKENS, limit=Decimal(10) ** 15), NOVEMBER, 0),
        (msgspec.structs.replace(CALLS, reset=ResetPeriod.NEVER), 0, 0),
        (msgspec.structs.replace(CALLS, enforcement=Enforcement.SOFT), NOVEMBER, None),
        (msgspec.structs.replace(CALLS, limit=None), NOVEMBER, None),
        (msgspec.structs.replace(CALLS, grace_days=3), NOVEMBER, None),
    ],
    ids=["a count", "a sum", "a large sum", "for ever", "soft", "unlimited", "in grace"],
)
async def test_agents_are_told_which_limits_are_leased_and_of_which_period(
    shop: Shop, spec: EntitlementSpec, period: int, scale: int | None
) -> None:
    await shop.sell(await shop.customer("buyer"), BASE, entitlements=(spec,), plan="other")
    agent = await Lessee(shop).hello()
    (limit,) = (await agent.sync(subjects=("buyer",))).limits
    assert (limit.period, limit.scale) == (period, scale)


async def test_a_sync_that_is_repeated_changes_nothing_and_gets_the_same_answer(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    question = agent.question({CALLS_NOW: 30})
    first = await agent.put(question)
    before = await held(shop)
    assert await agent.put(question) == first
    assert await held(shop) == before
    assert (await state_of(shop)).version == first.state_version


async def test_the_version_rises_only_with_what_is_stored(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    version = (await agent.sync()).state_version
    leased = (await agent.sync({CALLS_NOW: 30})).state_version
    assert version == (await state_of(shop)).config_version
    assert leased == version + 1
    assert (await Lessee(shop, "agent-2").hello()).seen is not None


async def test_what_was_counted_before_the_first_lease_is_not_shared_any_more(shop: Shop) -> None:
    await shop.use("b", "2026-11-20T00:00:00", "1")
    await shop.use("b", "2026-10-20T00:00:00", "1")
    agent = await Lessee(shop).hello()
    (grant,) = (await agent.sync({CALLS_NOW: 1000})).grants
    assert (grant.granted, grant.limit_units) == (99, 99)


async def test_what_comes_without_an_agent_takes_from_what_is_shared(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 10, TOKENS_NOW: 10})
    await shop.use("b", "2026-11-20T00:00:00", "0.25")
    await shop.use("b", "2026-11-20T00:00:00", "-1", mode="test")
    await shop.use("b", "2026-10-20T00:00:00", "1")
    await shop.use("stranger", "2026-11-20T00:00:00", "1")
    assert (await outside(shop), await outside(shop, ("acme", "tokens", NOVEMBER))) == (1, 250_000_000)
    (calls, _) = (await agent.sync({CALLS_NOW: 1000})).grants
    assert (calls.granted, calls.limit_units) == (99, 99)


async def test_what_an_agent_sends_counts_once_as_what_it_used_if_it_has_a_part(shop: Shop) -> None:
    agent, other = await Lessee(shop).hello(), await Lessee(shop, "agent-2").hello()
    await agent.sync({CALLS_NOW: 10})
    agent.leases[CALLS_NOW].used = 2
    await arrives(shop, agent, "e1", "e2")
    assert await outside(shop) == 0
    await arrives(shop, other, "f1", "f2", "f3")
    assert await outside(shop) == 3


async def test_usage_that_nobody_speaks_for_is_never_granted_again(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 1})
    await arrives(shop, agent, *map(str, range(60)))  # and it tells of none of them
    (grant,) = (await agent.sync({CALLS_NOW: 1000})).grants
    assert grant.granted <= 41


async def test_agents_together_never_hold_more_than_the_limit(shop: Shop) -> None:
    agents = [await Lessee(shop, f"agent-{number}").hello() for number in range(5)]
    for _ in range(8):
        for agent in agents:
            await agent.sync({CALLS_NOW: 60})
    assert sum(each.held for each in (await held(shop)).values()) == 100


async def test_a_limit_that_is_cut_closes_and_what_is_returned_is_not_granted_again(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 50})
    await allow(shop, Decimal(20))
    (grant,) = (await agent.sync({CALLS_NOW: 80})).grants
    assert (grant.mode, grant.granted, grant.limit_units) == ("closed", 50, 20)
    agent.leases[CALLS_NOW].returned = 40
    (grant,) = (await agent.sync({CALLS_NOW: 15})).grants
    assert grant.granted == 55
    assert sum(each.held for each in (await held(shop)).values()) == 15


@pytest.mark.parametrize("behind_s", [0.001, 2, state.MAX_BEHIND_S])
async def test_a_limit_that_is_cut_while_a_sync_waits_for_its_turn_is_the_one_that_is_shared(
    shop: Shop, behind_s: float
) -> None:
    """The instant of a sync is of before its turn, and that of another control plane's clock, which may be behind."""
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 50})
    before_us = shop.clock.now_us()
    shop.clock.advance(behind_s)
    await allow(shop, Decimal(40))
    (grant,) = (await agent.put(agent.question({CALLS_NOW: 80}), now_us=before_us)).grants
    assert (grant.mode, grant.granted, grant.limit_units) == ("closed", 50, 40)


async def test_a_change_by_a_clock_that_was_far_ahead_ends_no_period_of_those_that_are_right(shop: Shop) -> None:
    """A year would be over in which nobody could spend of what is held."""
    agent, now_us = await Lessee(shop).hello(), shop.clock.now_us()
    shop.clock.advance(400 * 86_400)
    await allow(shop, Decimal(40))
    (grant,) = (await agent.put(agent.question({CALLS_NOW: 80}), now_us=now_us)).grants
    assert (grant.period_now, grant.limit_units) == (NOVEMBER, 100)


async def test_a_limit_that_is_lifted_is_leased_no_more_and_its_facts_are_kept(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 50})
    await allow(shop, None)
    agent.leases[CALLS_NOW].used, agent.leases[CALLS_NOW].returned = 5, 45
    answer = await agent.sync(subjects=("a",))
    assert (answer.grants, answer.status) == ([], SyncStatus.OK)
    assert [limit.scale for limit in answer.limits if limit.feature == "calls"] == [None]
    assert [(each.used, each.held) for each in (await held(shop)).values()] == [(5, 5)]
    await remove_entitlement(shop.database, shop.clock, "acme", "calls")
    (grant,) = (await agent.sync({CALLS_NOW: 1000})).grants
    assert grant.granted == 50 + 95


@pytest.mark.parametrize("reset", [ResetPeriod.DAY, ResetPeriod.NEVER])
async def test_a_reset_that_is_changed_and_changed_back_forgets_nothing_of_the_period(
    shop: Shop, reset: ResetPeriod
) -> None:
    one, other = await Lessee(shop, "agent-1").hello(), await Lessee(shop, "agent-2").hello()
    for agent, want in ((one, 30), (other, 20)):
        await agent.sync({CALLS_NOW: want})
    await allow(shop, Decimal(100), reset=reset)
    await one.sync()
    for _ in range(40):  # nobody speaks for it
        await shop.use("b", "2026-11-21T01:00:00", "1")
    await remove_entitlement(shop.database, shop.clock, "acme", "calls")
    (grant,) = (await one.sync({CALLS_NOW: 1000})).grants
    assert grant.limit_units == 100 - 40
    assert sum(each.held for each in (await held(shop)).values()) <= 60


@pytest.mark.parametrize("reset", [ResetPeriod.DAY, ResetPeriod.NEVER])
async def test_a_reset_that_is_changed_back_days_later_is_no_rollback(shop: Shop, reset: ResetPeriod) -> None:
    agent, other = await Lessee(shop).hello(), await Lessee(shop, "agent-2").hello()
    for each in (agent, other):
        await each.sync({CALLS_NOW: 30})
        each.leases[CALLS_NOW].used = 30
        await each.sync()
    await allow(shop, Decimal(100), reset=reset)
    await agent.sync()
    shop.clock.advance(3 * 86_400)
    assert not await forget_once(shop.database, shop.clock)
    await remove_entitlement(shop.database, shop.clock, "acme", "calls")
    for each in (agent, other):
        assert (await each.sync({CALLS_NOW: 20})).status is SyncStatus.OK
    assert all(each.held > 30 for each in (await held(shop)).values())


async def test_a_raised_limit_keeps_the_scale_of_its_pool(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({TOKENS_NOW: 10})
    spec = msgspec.structs.replace(TOKENS, limit=Decimal(10) ** 12)
    await set_entitlement(shop.database, shop.clock, OverrideSpec(customer="acme", entitlement=spec))
    answer = await agent.sync({TOKENS_NOW: 10}, subjects=("a",))
    assert [limit.scale for limit in answer.limits if limit.feature == "tokens"] == [9]
    assert answer.grants[0].limit_units == 2**56


async def test_a_period_that_resets_is_closed_and_the_new_one_is_granted_from_in_full(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 1000})
    shop.clock.advance((us("2026-12-02") - shop.clock.now_us()) // 1_000_000)
    then = ("acme/calls", DECEMBER)
    old, new = (await agent.sync({CALLS_NOW: 1000, then: 1000})).grants
    assert (old.mode, old.granted, old.period_now) == ("closed", 100, DECEMBER)
    assert (new.mode, new.granted, new.period_now) == ("closed", 100, DECEMBER)


async def test_a_new_epoch_holds_nothing_and_the_rest_of_the_old_one_stays_counted(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 70})
    old = agent.question()
    await agent.hello()
    (grant,) = (await agent.sync({CALLS_NOW: 1000})).grants
    assert grant.granted == 30
    late = msgspec.structs.replace(old, leases=(LeaseReport(*CALLS_NOW, granted=70, used=9, returned=61),))
    assert (await agent.put(late)).status is SyncStatus.FENCED
    (grant,) = (await agent.sync({CALLS_NOW: 1000})).grants
    assert grant.granted == 91


async def test_two_processes_with_one_identity_are_both_fenced(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    await agent.sync({CALLS_NOW: 10})
    first, twin = agent.question({CALLS_NOW: 20}), agent.question({CALLS_NOW: 20})
    assert (await agent.put(first)).status is SyncStatus.OK
    assert (await agent.put(twin)).status is SyncStatus.FENCED
    again = msgspec.structs.replace(first, sync_id="next", leases=())
    assert (await agent.put(again)).status is SyncStatus.FENCED
    async with shop.database.read() as conn:
        known = await leases.holder(conn, (agent.agent_id, agent.hello_id))
    assert known is not None
    assert known.standing is Standing.TWINS


async def test_an_agent_without_leases_is_answered_as_ever(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    answer = await agent.sync(subjects=("a",), hello_id=None)
    assert (answer.status, answer.grants, len(answer.limits)) == (SyncStatus.OK, (), 2)
    async with shop.database.read() as conn:
        assert (await state.get(conn)).lease_version == 0


async def test_both_ways_to_answer_keep_to_the_same_nonces(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    for want in ({CALLS_NOW: 10}, None, {CALLS_NOW: 20}):
        assert (await agent.sync(want)).status is SyncStatus.OK
        assert (await agent.sync(hello_id=None, leases=())).status is SyncStatus.OK


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"leases": (LeaseReport(*CALLS_NOW),) * 2}, "leases: must not name a lease twice"),
        ({"leases": tuple(LeaseReport("x", each) for each in range(1001))}, "leases: must be at most 1000"),
        ({"sync_id": None}, "sync_id: must be given with hello_id"),
    ],
    ids=["twice", "too many", "without a sync id"],
)
async def test_what_cannot_be_taken_is_refused_and_nothing_is_stored(
    shop: Shop, more: dict[str, Any], rule: str
) -> None:
    agent = await Lessee(shop).hello()
    with pytest.raises(InvalidInput, match=rule):
        await agent.sync(**more)
    assert await held(shop) == {}


async def test_leases_of_limits_that_are_none_leave_nothing_behind(shop: Shop) -> None:
    agent = await Lessee(shop).hello()
    strange = [("acme/sso", 0), ("nobody/calls", NOVEMBER), ("no-slash", 1), ("acme/calls", us("2026-10-01"))]
    answer = await agent.sync(dict.fromkeys(strange, 10))
    assert [(each.limit, each.mode, each.granted) for each in answer.grants] == [("acme/calls", "closed", 0)]
    async with shop.database.read() as conn:
        assert (await leases.figures(conn, 0)).pools == 0
        assert await recoveries.current(conn) is None


SPLIT = (Dimension("team", "team"),)
TEAM_A = BudgetSpec(
    key="team-a",
    customer="acme",
    unit=BudgetUnit.METER,
    meter="split",
    amount=Decimal(100),
    slice={"team": "a"},
    enforcement=Enforcement.HARD,
)


async def budget(shop: Shop, **changes: Any) -> Budget:
    """The budget of team a, of what a meter counts of the same events as calls."""
    async with shop.database.read() as conn:
        known = await meters.get(conn, ["split", "words"])
    if not known:
        await create_meter(shop.database, new_meter("split", "llm", Aggregation.COUNT, dimensions=SPLIT, now_us=0))
        words = new_meter("words", "llm", Aggregation.SUM, value_property="n", dimensions=SPLIT, now_us=0)
        await create_meter(shop.database, words)
    return await set_budget(shop.database, shop.clock, replace(TEAM_A, **changes))


async def of_team(shop: Shop, team: str, *ids: str) -> None:
    at = shop.clock.now_us()
    made = [Event(id_, "direct", "llm", "a", at, f'{{"team":"{team}","n":3,"tokens":0}}') for id_ in ids]
    assert (await Ingest(shop.database, shop.clock).record(made)).accepted == len(ids)


async def test_a_budget_is_shared_as_a_quota_is_and_what_its_slice_counts_takes_from_it(shop: Shop) -> None:
    made = await budget(shop)
    now = made.limit_id, NOVEMBER
    await of_team(shop, "a", "e1", "e2")
    await of_team(shop, "b", "e3")
    agent, other = await Lessee(shop).hello(), await Lessee(shop, "agent-2").hello()
    (grant,) = (await agent.sync({now: 30})).grants
    assert (grant.granted, grant.limit_units) == (30, 98)
    await of_team(shop, "a", "f1")
    await of_team(shop, "b", "f2")
    (both,) = (await other.sync({now: 1000})).grants
    assert (both.limit_units, both.granted) == (97, 33)  # half of what is left
    assert (await agent.sync(subjects=("b",))).limits[-1].scale == 0


async def test_twenty_first_syncs_at_once_are_never_granted_more_than_a_budget(shop: Shop) -> None:
    made = await budget(shop)
    agents = [await Lessee(shop, f"agent-{number}").hello() for number in range(20)]
    await asyncio.gather(*(agent.sync({(made.limit_id, NOVEMBER): 40}) for agent in agents))
    parts = [each.held for each in (await held(shop, ("acme", made.limit_name, NOVEMBER))).values()]
    assert (len(parts), sum(parts)) == (20, 100)


async def test_a_budget_that_is_removed_is_leased_no_more_and_set_again_it_has_forgotten_nothing(shop: Shop) -> None:
    made, agent = await budget(shop), await Lessee(shop).hello()
    now = made.limit_id, NOVEMBER
    await agent.sync({now: 50})
    await remove_budget(shop.database, shop.clock, made.key)
    await of_team(shop, "a", *map(str, range(30)))
    answer = await agent.sync({now: 50}, subjects=("b",))
    assert (answer.grants, [each.id for each in answer.limits]) == ([], ["acme/calls", "acme/tokens"])
    await budget(shop)
    (grant,) = (await agent.sync({now: 1000})).grants
    assert (grant.granted, grant.limit_units) == (70, 70)


async def test_a_budget_that_is_cut_grants_nothing_until_enough_came_back_and_raised_it_grants_again(
    shop: Shop,
) -> None:
    made, agent = await budget(shop), await Lessee(shop).hello()
    now = made.limit_id, NOVEMBER
    await agent.sync({now: 50})
    assert (await budget(shop, amount=Decimal(20))).limit_id == made.limit_id
    (grant,) = (await agent.sync({now: 80})).grants
    assert (grant.mode, grant.granted, grant.limit_units) == ("closed", 50, 20)
    await budget(shop, amount=Decimal(70))
    (grant,) = (await agent.sync({now: 1000})).grants
    assert grant.granted == 70


@pytest.mark.parametrize("changes", [{"meter": "words"}, {"slice": {"team": "b"}}, {"slice": None}])
async def test_a_budget_that_caps_something_else_is_another_limit_and_set_back_the_old_one(
    shop: Shop, changes: dict[str, Any]
) -> None:
    made, agent = await budget(shop), await Lessee(shop).hello()
    await agent.sync({(made.limit_id, NOVEMBER): 90})
    other = await budget(shop, **changes)
    assert other.limit_id != made.limit_id
    old, new = (made.limit_id, NOVEMBER), (other.limit_id, NOVEMBER)
    (grant,) = (await agent.sync({old: 100, new: 5})).grants
    assert grant.limit == other.limit_id
    assert grant.granted > 0
    await budget(shop)
    (grant,) = (await agent.sync({old: 1000, new: 0})).grants
    assert (grant.limit, grant.granted) == (made.limit_id, 100)


async def test_the_period_of_a_budget_that_is_over_is_closed_and_the_next_one_granted_in_full(shop: Shop) -> None:
    made, agent = await budget(shop), await Lessee(shop).hello()
    now, then = (made.limit_id, NOVEMBER), (made.limit_id, DECEMBER)
    await agent.sync({now: 1000})
    shop.clock.advance((us("2026-12-02") - shop.clock.now_us()) // 1_000_000)
    old, new = (await agent.sync({now: 1000, then: 1000})).grants
    assert (old.mode, old.granted, old.period_now) == ("closed", 100, DECEMBER)
    assert (new.granted, new.period_now) == (100, DECEMBER)


async def test_no_quota_can_have_the_name_of_a_budgets_limit(shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="key: must be 1 to 128 letters"):
        new_feature((await budget(shop)).limit_name, now_us=0)
