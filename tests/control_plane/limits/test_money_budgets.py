"""HARD budgets in money over the real store: whatever agents debit at price caps, the bill never exceeds the budget."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from heavy import seeds
from lessees import PLENTY, Lessee, Spender, spend_all
from shop import BASE, CALLS, Shop, open_shop, us

from sidemeter_control.errors import Conflict, InvalidInput
from sidemeter_control.limits.budgeting import set_budget
from sidemeter_control.limits.budgets import Budget, BudgetSpec
from sidemeter_control.limits.spending import spending
from sidemeter_control.limits.sync_messages import LimitState
from sidemeter_control.metering import holders
from sidemeter_control.metering.catalogue import update_meter
from sidemeter_control.metering.correcting import void_event
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.catalogue import publish_plan, subscribe
from sidemeter_control.pricing.changes import ChangeAt
from sidemeter_control.pricing.charges import ChargeSpec, OutcomeSpec, PricingModel, TierSpec
from sidemeter_control.pricing.lifecycle import change_plan
from sidemeter_control.pricing.plans import Enforcement, PlanSpec, ResetPeriod
from sidemeter_control.pricing.subscriptions import SubscribeSpec
from sidemeter_control.store import leases, meters

NOVEMBER = us("2026-11-01")
LATER = ("acme/later", 0)
TOKENS = ChargeSpec(
    key="tokens",
    meter="tokens",
    model=PricingModel.GRADUATED,
    tiers=(TierSpec(up_to=Decimal(500), unit_price=Decimal("0.01")), TierSpec(unit_price=Decimal("0.004"))),
)
PACKAGES = ChargeSpec(
    key="tokens", meter="tokens", model=PricingModel.PACKAGE, package_price=Decimal(10), package_size=Decimal(1000)
)
SETTLED = ChargeSpec(
    key="settled",
    meter="calls",
    model=PricingModel.OUTCOME,
    unit_price=Decimal(1),
    outcome=OutcomeSpec(confirm_type="kept", reverse_type="returned", window_hours=5, property="order"),
)
SHARE = ChargeSpec(key="share", meter="tokens", model=PricingModel.PERCENTAGE, percentage=Decimal(3), free_events=2)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def budget(shop: Shop, amount: str, *charges: ChargeSpec, **changes: Any) -> Budget:
    """Acme pays these charges, and no more than the amount in November."""
    acme = await shop.customer("acme", subjects=("a", "b"))
    await shop.sell(acme, *charges)
    hard = {"enforcement": Enforcement.HARD, "period": ResetPeriod.BILLING_PERIOD} | changes
    return await set_budget(
        shop.database, shop.clock, BudgetSpec(key="all", customer="acme", amount=Decimal(amount), **hard)
    )


async def spent(shop: Shop) -> Decimal:
    acme = await shop.customer("acme", subjects=("a", "b"))
    async with shop.database.read() as conn:
        (answer,) = await spending(conn, acme, shop.clock.now_us())
    return answer.spent


async def told(agent: Lessee, **more: Any) -> Sequence[LimitState]:
    return (await agent.sync(subjects=("a",), **{"knows_prices": True} | more)).limits


async def spender(shop: Shop, made: Budget, name: str = "agent-1") -> Spender:
    return Spender(await Lessee(shop, name).hello(), (made.limit_id, NOVEMBER))


async def test_agents_are_told_price_caps_and_share_what_is_not_owed_yet(shop: Shop) -> None:
    made = await budget(shop, "60", BASE, TOKENS, CALLS)
    agent = await Lessee(shop).hello()
    (limit,) = await told(agent)
    assert (limit.id, limit.feature, limit.limit, limit.used) == (made.limit_id, "budget/all", "60", "49")
    assert (limit.meter, limit.scale, limit.period, limit.enforcement) == (None, 9, NOVEMBER, "HARD")
    assert [(each.meter.aggregation, each.per_unit, each.per_event) for each in limit.prices] == [
        ("COUNT", "0.0333", "0"),
        ("SUM", "0.01", "0"),
    ]
    (grant,) = (await agent.sync({(limit.id, NOVEMBER): PLENTY})).grants
    assert grant.limit_units == 10_990_000_000  # less half a cent for the rounding of each of two lines


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", seeds(1, 20))
@pytest.mark.parametrize(
    "charges", [(BASE, TOKENS, CALLS), (PACKAGES,), (PACKAGES, CALLS)], ids=["two meters", "packages", "both"]
)
async def test_the_bill_never_exceeds_the_budget_in_whatever_order_agents_spend_send_and_settle(
    shop: Shop, seed: int, charges: tuple[ChargeSpec, ...]
) -> None:
    amount = Decimal("60.00")
    made = await budget(shop, "60", *charges)
    agents = [await spender(shop, made, f"agent-{index}") for index in range(3)]
    chance = random.Random(seed)
    for _ in range(15):
        chosen = chance.sample(agents, 2)
        await asyncio.gather(chosen[0].hear(chance.choice([PLENTY, 10**9])), chosen[1].send())
        for each in chosen:
            for _ in range(chance.randrange(6)):
                each.consume(chance.choice([1, 40, 250, 900]))
        assert await spent(shop) <= amount
    async for _ in spend_all(agents, (40, 1), rounds=20):
        assert await spent(shop) <= amount
    if charges == (PACKAGES,):
        assert await spent(shop) == amount  # six packages, none of them half used for nothing
    elif PACKAGES not in charges:
        assert await spent(shop) >= amount - Decimal("0.50")


async def split_by_team(shop: Shop) -> None:
    async with shop.database.read() as conn:
        known = await meters.get(conn, ["tokens", "calls"])
    for meter in known.values():
        await update_meter(shop.database, replace(meter, dimensions=(Dimension("team", "team"),)))
    while await fill_once(shop.database, shop.clock):
        pass


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", seeds(1, 10))
@pytest.mark.parametrize("charges", [(BASE, TOKENS, CALLS), (PACKAGES,)], ids=["two meters", "packages"])
async def test_what_a_slice_costs_never_exceeds_its_budget_whatever_others_use(
    shop: Shop, seed: int, charges: tuple[ChargeSpec, ...]
) -> None:
    await split_by_team(shop)
    acme = await shop.customer("acme", subjects=("a", "b"))
    await shop.sell(acme, *charges)
    hard = {"customer": "acme", "enforcement": Enforcement.HARD, "period": ResetPeriod.BILLING_PERIOD}
    amounts = {"x": Decimal("20.00"), "y": Decimal("30.00")}
    made = {
        team: await set_budget(
            shop.database, shop.clock, BudgetSpec(key=team, amount=amount, slice={"team": team}, **hard)
        )
        for team, amount in amounts.items()
    }
    agents = [await spender(shop, made[team], f"agent-{index}") for index, team in enumerate("xyxy")]
    for each, team in zip(agents, "xyxy", strict=True):
        each.more = f', "team": "{team}"'

    async def spent_by_team() -> dict[str, Decimal]:
        async with shop.database.read() as conn:
            return {each.budget.key: each.spent for each in await spending(conn, acme, shop.clock.now_us())}

    chance = random.Random(seed)
    for _ in range(10):
        one, other = chance.sample(agents, 2)
        await asyncio.gather(one.hear(chance.choice([PLENTY, 10**9])), other.send())
        for _ in range(chance.randrange(6)):
            one.consume(chance.choice([1, 40, 250, 900]))
        await shop.use("b", "2026-11-20", "900")  # of no team
        assert all(spent <= amounts[team] for team, spent in (await spent_by_team()).items())
    async for _ in spend_all(agents, (40, 1), rounds=20):
        assert all(spent <= amounts[team] for team, spent in (await spent_by_team()).items())
    least = Decimal(0) if charges == (PACKAGES,) else Decimal("0.50")
    assert {team: amount - least <= (await spent_by_team())[team] for team, amount in amounts.items()} == {
        "x": True,
        "y": True,
    }


async def test_agents_are_told_which_events_a_slice_debits(shop: Shop) -> None:
    await split_by_team(shop)
    await budget(shop, "60", BASE, TOKENS, CALLS, slice={"team": "x"})
    (limit,) = await told(await Lessee(shop).hello())
    assert (limit.limit, limit.used, limit.meter) == ("60", "0", None)
    live = ("mode", None, ("test",))
    assert [[(each.property, each.is_in, each.not_in) for each in cap.meter.filters] for cap in limit.prices] == [
        [live, ("team", ("x",), None)],
        [("team", ("x",), None)],
    ]


async def test_a_slice_is_capped_by_the_charges_whose_meter_has_its_dimensions_alone(shop: Shop) -> None:
    await split_by_team(shop)
    async with shop.database.write() as conn:
        await meters.add(conn, new_meter("peak", "llm", Aggregation.MAX, value_property="tokens", now_us=0))
    peak = ChargeSpec(key="peak", meter="peak", model=PricingModel.PER_UNIT, unit_price=Decimal(1))
    await budget(shop, "60", CALLS, peak, slice={"team": "x"})
    (limit,) = await told(await Lessee(shop).hello())
    assert [each.per_unit for each in limit.prices] == ["0.0333"]
    with pytest.raises(
        InvalidInput, match="enforcement: must be SOFT: charge 'settled' of plan 'top' is settled by outcomes"
    ):
        await sold_also(shop, "top", SETTLED, slice={"team": "x"})


async def test_a_meter_keeps_the_dimension_by_which_money_is_sliced(shop: Shop) -> None:
    await split_by_team(shop)
    await budget(shop, "60", CALLS, slice={"team": "x"})
    async with shop.database.read() as conn:
        calls = (await meters.get(conn, ["calls"]))["calls"]
    with pytest.raises(Conflict, match="budget 'all' caps what is priced of a slice by the dimension it would lose"):
        await update_meter(shop.database, replace(calls, dimensions=()))


async def test_all_packages_that_a_budget_is_enough_for_can_be_used_whole(shop: Shop) -> None:
    made = await budget(shop, "29.99", PACKAGES)
    one = await spender(shop, made)
    await one.hear()
    assert [one.consume(each) for each in (1000, 999, 2, 1)] == [True, True, False, True]
    await one.send()
    await one.hear()
    await one.hear()
    assert not one.consume(1)
    assert await spent(shop) == 20


async def test_a_minimum_spend_is_filled_up_before_usage_adds_to_it(shop: Shop) -> None:
    acme = await shop.customer("acme", subjects=("a", "b"))
    spec = PlanSpec(key="pro", currency="USD", charges=(CALLS,), minimum_spend=Decimal(20))
    await publish_plan(shop.database, shop.clock, spec)
    await subscribe(shop.database, shop.clock, SubscribeSpec(customer=acme.key, plan="pro", start_at_us=NOVEMBER))
    hard = BudgetSpec(
        key="all",
        customer="acme",
        amount=Decimal(20),
        enforcement=Enforcement.HARD,
        period=ResetPeriod.BILLING_PERIOD,
    )
    one = await spender(shop, await set_budget(shop.database, shop.clock, hard))
    await one.hear()
    while one.consume(0):
        pass
    assert one.allowed * Decimal("0.0333") <= 20 < (one.allowed + 1) * Decimal("0.0333")


async def test_an_agent_that_knows_no_price_caps_is_told_that_whatever_costs_something_is_beyond_the_limit(
    shop: Shop,
) -> None:
    made = await budget(shop, "60", BASE, TOKENS, CALLS)
    found = await told(await Lessee(shop).hello(), knows_prices=False)
    assert [(each.limit, each.used, each.scale, each.prices, each.enforcement) for each in found] == [
        ("0", "1", None, (), "HARD"),
        ("0", "1", None, (), "HARD"),
    ]
    assert [each.meter and each.meter.aggregation for each in found] == ["COUNT", "SUM"]
    assert len({each.id for each in found} | {made.limit_id}) == len({each.feature for each in found}) + 1 == 3
    without = await Lessee(shop, "older").hello()
    assert await told(without, knows_prices=False, hello_id=None, leases=()) == found


async def test_a_price_that_has_no_cap_is_refused_by_name_and_reason(shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="enforcement: must be SOFT: charge 'share' of plan 'pro' has free events"):
        await budget(shop, "60", SHARE)


async def test_a_meter_whose_events_add_what_is_known_only_later_is_refused_by_name(shop: Shop) -> None:
    await budget(shop, "60", CALLS)
    async with shop.database.write() as conn:
        await meters.add(conn, new_meter("peak", "llm", Aggregation.MAX, value_property="tokens", now_us=0))
    peak = ChargeSpec(key="peak", meter="peak", model=PricingModel.PER_UNIT, unit_price=Decimal(1))
    with pytest.raises(InvalidInput, match="charge 'peak' of plan 'top' prices a MAX meter"):
        await sold_also(shop, "top", peak)


async def sold_also(shop: Shop, plan: str, *charges: ChargeSpec, **changes: Any) -> Budget:
    spec = PlanSpec(key=plan, currency="USD", charges=charges)
    await publish_plan(shop.database, shop.clock, spec)
    await subscribe(shop.database, shop.clock, SubscribeSpec(customer="acme", plan=plan, start_at_us=NOVEMBER))
    hard = BudgetSpec(key="more", customer="acme", amount=Decimal(90), enforcement=Enforcement.HARD, **changes)
    return await set_budget(shop.database, shop.clock, hard)


async def test_a_plan_without_caps_that_comes_later_leaves_nothing_to_use(shop: Shop) -> None:
    made = await budget(shop, "60", CALLS)
    with pytest.raises(InvalidInput):
        await sold_also(shop, "other", SHARE)
    agent = await Lessee(shop).hello()
    (limit,) = await told(agent)
    assert [each.per_event for each in limit.prices] == ["1", "1"]
    (grant,) = (await agent.sync({(made.limit_id, NOVEMBER): PLENTY})).grants
    assert (grant.granted, grant.mode, grant.limit_units) == (0, "closed", 1)  # 1, so that it goes on asking


async def test_of_two_plans_at_a_time_the_caps_add_up_and_of_one_after_another_the_dearer_counts(shop: Shop) -> None:
    await budget(shop, "60", CALLS)
    dearer = msgspec.structs.replace(CALLS, unit_price=Decimal("0.05"))
    spec = PlanSpec(key="other", currency="USD", charges=(dearer,))
    await publish_plan(shop.database, shop.clock, spec)
    other = await subscribe(
        shop.database, shop.clock, SubscribeSpec(customer="acme", plan="other", start_at_us=NOVEMBER)
    )
    agent = await Lessee(shop).hello()
    (limit,) = await told(agent)
    assert [each.per_unit for each in limit.prices] == ["0.0833"]
    cheaper = PlanSpec(
        key="cheap", currency="USD", charges=(msgspec.structs.replace(CALLS, unit_price=Decimal("0.01")),)
    )
    await publish_plan(shop.database, shop.clock, cheaper)
    await change_plan(shop.database, shop.clock, other.id, plan="cheap", at=ChangeAt.NOW)
    (then,) = await told(agent)
    assert [each.per_unit for each in then.prices] == ["0.0833"]
    assert (then.id, then.policy_version > limit.policy_version) == (limit.id, True)


async def test_what_comes_without_an_agent_takes_from_it_and_what_is_voided_comes_back(shop: Shop) -> None:
    made = await budget(shop, "60", CALLS)
    agent = await Lessee(shop).hello()
    key = (made.limit_id, NOVEMBER)

    async def left() -> int:
        return (await agent.sync({key: 1})).grants[0].limit_units

    before = await left()
    await shop.use("b", "2026-11-20", "5")
    assert before - await left() == 33_300_000
    await void_event(shop.database, "shop", "e0", "a mistake", by="operator", now_us=shop.clock.now_us())
    assert await left() == before


async def test_an_older_copy_of_the_database_grants_nothing_of_what_was_settled_since(shop: Shop) -> None:
    made = await budget(shop, "60", CALLS)
    one = await spender(shop, made)
    await one.hear(10**9)
    settled = 40 * 10**9
    async with shop.database.write() as conn:  # the copy knows neither the usage nor the leases it was debited from
        await holders.begin(conn, one.agent.seen.generation if one.agent.seen else "", 1, shop.clock.now_us())
    one.counts.granted += settled
    one.counts.used = one.counts.returned = one.counts.refunded = settled
    await one.hear()
    await one.hear()
    assert one.counts.free <= 20 * 10**9
    async with shop.database.read() as conn:
        pool = (await leases.pools(conn, [("acme", made.limit_name, NOVEMBER)]))["acme", made.limit_name, NOVEMBER]
    assert pool.outside == settled


@pytest.mark.parametrize(("amount", "left"), [("1000", True), ("40", False)], ids=["raised", "cut"])
async def test_a_budget_that_is_changed_while_an_agent_is_away_is_the_same_limit(
    shop: Shop, amount: str, left: bool
) -> None:
    made = await budget(shop, "60", CALLS)
    one, other = await spender(shop, made), await spender(shop, made, "agent-2")
    await one.hear(50 * 10**9)
    spec = BudgetSpec(
        key="all",
        customer="acme",
        amount=Decimal(amount),
        enforcement=Enforcement.HARD,
        period=ResetPeriod.BILLING_PERIOD,
    )
    assert (await set_budget(shop.database, shop.clock, spec)).limit_id == made.limit_id
    held = one.counts.granted
    await other.hear()
    assert (other.counts.granted > 0) is left or held < 40 * 10**9
    assert other.counts.granted + held <= max(Decimal(amount), held.real * Decimal("1e-9")) * 10**9
