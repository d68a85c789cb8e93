"""What a customer's credits stand at: burned by real usage and real cost, period by period."""

from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from shop import BASE, CALLS, TOKENS, Shop, open_shop, us
from sqlalchemy import event

from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.limits.catalogue import create_feature
from sidemeter_control.limits.features import new_feature
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.pricing.charges import ChargeSpec, PricingModel
from sidemeter_control.pricing.cost import cost
from sidemeter_control.pricing.credits.balances import (
    CreditBalance,
    Credited,
    FeatureCredits,
    balance,
    credited,
    feature_credits,
)
from sidemeter_control.pricing.credits.granting import grant_credits, reset_credits, void_credits
from sidemeter_control.pricing.credits.grants import (
    MONEY,
    CreditGrant,
    CreditReset,
    CreditUnit,
    Denomination,
    GrantSpec,
)
from sidemeter_control.pricing.credits.instants import State
from sidemeter_control.pricing.credits.owed import owed_between, owed_lines
from sidemeter_control.pricing.credits.topping_up import settle_once
from sidemeter_control.pricing.customers import Customer, new_customer
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.store import credits
from sidemeter_control.store.credits import Snapshot

UNITS = Denomination(CreditUnit.FEATURE, "tokens")
AHEAD = msgspec.structs.replace(BASE, in_advance=True)
PENNY = ChargeSpec(key="tokens", meter="tokens", model=PricingModel.PER_UNIT, unit_price=Decimal("0.01"))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def give(shop: Shop, amount: object, at: str = "2026-11-01", **fields: Any) -> CreditGrant:
    spec = GrantSpec(customer="acme", amount=Decimal(str(amount)), effective_at_us=us(at), **fields)
    return await grant_credits(shop.database, shop.clock, spec)


async def stands(shop: Shop, customer: Customer, of: Denomination, at: str) -> CreditBalance:
    now_us = shop.clock.now_us()
    async with shop.database.read() as conn:
        return await balance(conn, customer, of, us(at), owed_between(conn, customer, now_us))


async def paid(shop: Shop, customer: Customer, start: str, end: str) -> Credited:
    now_us = shop.clock.now_us()
    async with shop.database.read() as conn:
        between = owed_between(conn, customer, now_us)
        return await credited(conn, customer, us(start), us(end), now_us, between)


def amounts(found: CreditBalance) -> tuple[int, int, int]:
    return int(found.balance), int(found.overage), int(found.used)


async def test_units_are_burned_by_the_use_of_their_feature(shop: Shop) -> None:
    acme = await shop.customer("acme", subjects=("a", "b"))
    first = await give(shop, 100, denomination=UNITS, priority=1)
    second = await give(shop, 100, denomination=UNITS)
    await shop.use("a", "2026-11-02T00:00:00", "90")
    await shop.use("b", "2026-11-03T00:00:00", "30.5")
    await shop.use("someone", "2026-11-03T00:00:00", "1000")
    found = await stands(shop, acme, UNITS, "2026-11-04")
    assert [(each.grant.id, each.balance, each.burned) for each in found.holdings] == [
        (first.id, 0, 100),
        (second.id, Decimal("79.5"), Decimal("20.5")),
    ]
    assert (found.balance, found.overage, found.used) == (Decimal("79.5"), 0, Decimal("120.5"))
    assert [(each.grant, each.amount) for each in found.allocations] == [(first.id, 100), (second.id, Decimal("20.5"))]
    async with shop.database.read() as conn:
        assert await feature_credits(conn, acme, "tokens", 0, us("2026-11-03")) == FeatureCredits(
            Decimal(110), Decimal(90), Decimal(90)
        )
        assert await feature_credits(conn, acme, "calls", 0, us("2026-11-03")) == FeatureCredits(
            Decimal(0), Decimal(0), Decimal(0)
        )


async def test_use_before_the_first_grant_of_a_customer_without_a_subscription_is_not_its_to_pay(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.use("acme", "2026-10-31T00:00:00", "1000")
    await give(shop, 100, denomination=UNITS)
    assert amounts(await stands(shop, acme, UNITS, "2026-11-02")) == (100, 0, 0)
    assert amounts(await stands(shop, acme, UNITS, "2026-10-02")) == (0, 0, 0)


async def test_a_grant_pays_what_its_billing_period_used_before_it_and_no_earlier_one(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, start="2026-09-01")
    await shop.use("acme", "2026-10-31T00:00:00", "1000")
    await shop.use("acme", "2026-11-05T00:00:00", "30")
    await give(shop, 100, at="2026-11-10", denomination=UNITS)
    assert amounts(await stands(shop, acme, UNITS, "2026-11-09")) == (0, 30, 30)
    assert amounts(await stands(shop, acme, UNITS, "2026-11-10")) == (70, 0, 30)


async def test_the_end_of_a_billing_period_resets_units_and_drops_what_nobody_paid(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, start="2026-09-01")
    await give(shop, 100, at="2026-09-01", denomination=UNITS)
    await give(shop, 50, at="2026-09-01", denomination=UNITS, purchased=True)
    await give(shop, 70, at="2026-09-01", denomination=UNITS, priority=1, rollover_max=Decimal(20))
    await shop.use("acme", "2026-09-10T00:00:00", "40")
    assert amounts(await stands(shop, acme, UNITS, "2026-09-30")) == (180, 0, 40)
    assert amounts(await stands(shop, acme, UNITS, "2026-10-01")) == (70, 0, 0)
    await shop.use("acme", "2026-10-10T00:00:00", "90")
    assert amounts(await stands(shop, acme, UNITS, "2026-10-31")) == (0, 20, 90)
    assert amounts(await stands(shop, acme, UNITS, "2026-11-01")) == (0, 0, 0)


async def test_the_periods_of_the_oldest_subscription_count_where_several_overlap(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, start="2026-09-01")
    await shop.sell(acme, CALLS, plan="addon", start="2026-09-15")
    await give(shop, 100, at="2026-09-10", denomination=UNITS)
    assert amounts(await stands(shop, acme, UNITS, "2026-09-20")) == (100, 0, 0)
    assert amounts(await stands(shop, acme, UNITS, "2026-10-01")) == (0, 0, 0)


async def test_a_reset_that_was_asked_for_begins_the_measuring_anew(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.use("acme", "2026-11-02T00:00:00", "30")
    await give(shop, 20, at="2026-11-03", denomination=UNITS, recurrence=Interval.MONTH)
    await reset_credits(shop.database, shop.clock, CreditReset("acme", UNITS, us("2026-11-01")))
    assert amounts(await stands(shop, acme, UNITS, "2026-11-03")) == (0, 10, 30)
    await reset_credits(shop.database, shop.clock, CreditReset("acme", UNITS, us("2026-11-04"), preserve_overage=True))
    assert amounts(await stands(shop, acme, UNITS, "2026-11-04")) == (0, 10, 0)
    await reset_credits(shop.database, shop.clock, CreditReset("acme", UNITS, us("2026-11-04")))
    assert amounts(await stands(shop, acme, UNITS, "2026-12-03")) == (20, 0, 0)


async def test_a_voided_grant_pays_no_more_and_what_it_paid_stays_paid(shop: Shop) -> None:
    acme = await shop.customer("acme")
    made = await give(shop, 100, denomination=UNITS)
    await shop.use("acme", "2026-11-02T00:00:00", "30")
    voided = await void_credits(shop.database, shop.clock, made.id, "given twice")
    assert (voided.voided_at_us, voided.void_reason) == (us("2026-11-21"), "given twice")
    shop.clock.advance(5)
    assert await void_credits(shop.database, shop.clock, made.id, "again") == voided
    found = await stands(shop, acme, UNITS, "2026-11-21")
    assert (found.balance, [each.burned for each in found.holdings]) == (0, [30])
    assert (await stands(shop, acme, UNITS, "2026-11-20")).balance == 70
    with pytest.raises(NotFound, match="there is no credit grant 'nothing'"):
        await void_credits(shop.database, shop.clock, "nothing", "x")
    with pytest.raises(InvalidInput, match="reason: must be 1 to 256 characters"):
        await void_credits(shop.database, shop.clock, made.id, "")


async def test_money_pays_what_is_owed_fees_and_use_alike(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, AHEAD, TOKENS)
    await give(shop, 55, at="2026-11-01")
    await shop.use("acme", "2026-11-05T00:00:00", "700")
    assert amounts(await stands(shop, acme, MONEY, "2026-11-05")) == (6, 0, 49)
    assert amounts(await stands(shop, acme, MONEY, "2026-11-06")) == (0, 1, 56)


async def test_money_that_is_left_outlives_the_period_and_what_is_owed_does_not(shop: Shop) -> None:
    """What no credit paid is on the period's bill: later credits do not pay it again."""
    acme = await shop.customer("acme")
    await shop.sell(acme, PENNY, start="2026-09-01")
    await give(shop, 10, at="2026-09-01")
    for day, used in (("2026-09-05", "400"), ("2026-10-05", "900"), ("2026-11-05", "100")):
        await shop.use("acme", f"{day}T00:00:00", used)
    await give(shop, 20, at="2026-11-10")
    assert amounts(await stands(shop, acme, MONEY, "2026-10-01")) == (6, 0, 0)
    assert amounts(await stands(shop, acme, MONEY, "2026-10-31")) == (0, 3, 9)
    assert amounts(await stands(shop, acme, MONEY, "2026-11-09")) == (0, 1, 1)
    assert amounts(await stands(shop, acme, MONEY, "2026-11-10")) == (19, 0, 1)
    assert [(await paid(shop, acme, f"2026-{month}-01", f"2026-{month + 1}-01")).amount for month in (10, 11)] == [6, 1]


async def test_parts_of_an_interval_add_up_to_what_credits_pay_of_it(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, AHEAD, TOKENS, CALLS, start="2026-10-15")
    await give(shop, "20.50", at="2026-10-20", priority=1)
    await give(shop, 60, at="2026-10-15", expires_at_us=us("2026-12-01"))
    for day in range(16, 31, 3):
        await shop.use("acme", f"2026-10-{day}T06:30:00", "333.3")
        await shop.use("acme", f"2026-11-{day}T06:30:00", "77.7")
    cuts = ["2026-10-01", "2026-10-15", "2026-10-19", "2026-11-02", "2026-11-15", "2026-11-16", "2026-12-01"]
    parts = [(await paid(shop, acme, start, end)).amount for start, end in pairwise(cuts)]
    whole = await paid(shop, acme, cuts[0], cuts[-1])
    assert sum(parts) == whole.amount == sum(whole.by_grant.values()) == Decimal("80.50")


async def test_a_grant_that_begins_later_does_not_pay_yet_for_what_is_owed_now(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, PENNY)
    await shop.use("acme", "2026-11-05T00:00:00", "400")
    await give(shop, 10, at="2026-11-25")
    assert (await paid(shop, acme, "2026-11-01", "2026-12-01")).amount == 0
    shop.clock.set_wall(us("2026-11-25"))
    assert (await paid(shop, acme, "2026-11-01", "2026-12-01")).amount == 4


async def test_a_limited_grant_pays_only_its_charges(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, PENNY)
    limited = await give(shop, 10, at="2026-11-01", charges=("tokens",), priority=1)
    await give(shop, 5, at="2026-11-01")
    await shop.use("acme", "2026-11-05T00:00:00", "400")
    found = await paid(shop, acme, "2026-11-01", "2026-12-01")
    assert (found.amount, found.by_grant[limited.id]) == (9, 4)


async def test_a_trial_owes_nothing_that_credits_could_pay(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, AHEAD, PENNY, start="2026-11-01", trial_days=14)
    await give(shop, 100, at="2026-11-01")
    await shop.use("acme", "2026-11-05T00:00:00", "400")
    assert amounts(await stands(shop, acme, MONEY, "2026-11-14")) == (100, 0, 0)
    assert amounts(await stands(shop, acme, MONEY, "2026-11-16")) == (51, 0, 49)


async def test_what_is_owed_is_told_by_charge_and_adds_up_to_the_total(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, PENNY)
    await shop.use("acme", "2026-11-05T00:00:00", "400")
    async with shop.database.read() as conn:
        owed = await cost(conn, acme, shop.clock.now_us())
    assert [(line.amount, set(line.scope)) for line in owed_lines(owed)] == [(49, {"base"}), (4, {"tokens"})]


async def test_an_idempotency_key_answers_the_first_grant_and_refuses_another(shop: Shop) -> None:
    await shop.customer("acme")
    asked = GrantSpec(customer="acme", amount=Decimal(5), denomination=UNITS, idempotency_key="order-7")
    first = await grant_credits(shop.database, shop.clock, asked)
    shop.clock.advance(60)
    assert await grant_credits(shop.database, shop.clock, asked) == first
    with pytest.raises(Conflict, match="idempotency key 'order-7' was used for another grant"):
        await give(shop, 6, denomination=UNITS, idempotency_key="order-7")
    async with shop.database.read() as conn:
        assert await credits.count(conn, "acme") == 1


async def test_credits_are_given_only_of_what_can_be_counted(shop: Shop) -> None:
    await shop.customer("acme")
    await create_meter(shop.database, new_meter("peak", "llm", Aggregation.MAX, value_property="tokens", now_us=0))
    await create_feature(shop.database, new_feature("peak", meter_key="peak", now_us=0))
    for feature, kind, message in [
        ("nothing", NotFound, "there is no feature 'nothing'"),
        ("sso", InvalidInput, "feature: must have a meter: nothing says how much of it is used"),
        ("peak", InvalidInput, "feature: must have a meter that adds up: COUNT or SUM"),
    ]:
        with pytest.raises(kind) as caught:
            await give(shop, 5, denomination=Denomination(CreditUnit.FEATURE, feature))
        assert str(caught.value) == message
    with pytest.raises(NotFound, match="there is no customer 'nobody'"):
        await grant_credits(shop.database, shop.clock, GrantSpec(customer="nobody", amount=Decimal(1)))


async def test_money_is_in_the_customers_currency_and_holds_the_customer_to_it(shop: Shop) -> None:
    acme = await shop.customer("acme")
    with pytest.raises(InvalidInput, match="unit: must not be MONEY: the customer has no currency yet"):
        await give(shop, 5)
    await upsert_customer(shop.database, new_customer("acme", currency="EUR", now_us=0))
    assert (await give(shop, 5)).currency == "EUR"
    with pytest.raises(Conflict, match="customer 'acme' has credits, which are in EUR"):
        await upsert_customer(shop.database, new_customer("acme", currency="USD", now_us=0))
    await upsert_customer(shop.database, new_customer("acme", now_us=0))
    with pytest.raises(Conflict, match="pays in EUR, plan 'pro' is in USD"):
        await shop.sell(acme, BASE)


async def test_a_customer_without_credits_costs_no_statement_more(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, BASE, TOKENS)
    await statements(shop, acme, credits_too=False)
    plain = await statements(shop, acme, credits_too=False)
    assert await statements(shop, acme) == plain + 2, "read once: the grants, and the resets"
    assert await statements(shop, acme) == plain


async def statements(shop: Shop, customer: Customer, *, credits_too: bool = True) -> int:
    """How many statements a live cost takes."""
    seen: list[str] = []
    now_us = shop.clock.now_us()
    async with shop.database.read() as conn:
        assert conn.sync_connection is not None
        event.listen(conn.sync_connection, "before_cursor_execute", lambda *told: seen.append(told[2]))
        owed = await cost(conn, customer, now_us)
        if credits_too:
            between = owed_between(conn, customer, now_us)
            await credited(conn, customer, owed.from_us, owed.to_us, now_us, between)
    return len(seen)


async def test_what_stood_long_ago_is_kept_and_gone_on_from(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await give(shop, 100, at="2026-01-01", denomination=UNITS)
    await shop.use("acme", "2026-02-01T00:00:00", "30")
    assert (await settle_once(shop.database, shop.clock), await settle_once(shop.database, shop.clock)) == (1, 0)
    async with shop.database.read() as conn:
        kept = await credits.snapshot_before(conn, "acme", UNITS, shop.clock.now_us())
    assert kept is not None
    assert (kept.state.at_us, kept.state.balance, kept.counted) == (us("2026-10-17"), 70, 30)
    await shop.use("acme", "2026-11-01T00:00:00", "5")
    assert amounts(await stands(shop, acme, UNITS, "2026-11-21")) == (65, 0, 35)
    assert amounts(await stands(shop, acme, UNITS, "2026-03-01")) == (70, 0, 30)
    await keep_less(shop, UNITS, kept)
    assert amounts(await stands(shop, acme, UNITS, "2026-11-21")) == (64, 0, 35)
    assert amounts(await stands(shop, acme, UNITS, "2026-03-01")) == (70, 0, 30)


async def keep_less(shop: Shop, of: Denomination, kept: Snapshot) -> None:
    """Keep one unit less than there was, to see who goes on from it."""
    balances = {grant: amount - 1 for grant, amount in kept.state.balances.items()}
    changed = kept._replace(state=State(kept.state.at_us, balances, used=kept.state.used))
    async with shop.database.write() as conn:
        await credits.keep_snapshot(conn, "acme", of, changed)


async def test_what_is_counted_late_is_paid_after_what_was_kept(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await give(shop, 100, at="2026-01-01", denomination=UNITS)
    await give(shop, 50, at="2026-11-01", denomination=UNITS, priority=1)
    await settle_once(shop.database, shop.clock)
    await shop.use("acme", "2026-02-01T00:00:00", "30")
    found = await stands(shop, acme, UNITS, "2026-11-21")
    assert (amounts(found), [int(each.balance) for each in found.holdings]) == ((120, 0, 30), [50, 70])


@pytest.mark.parametrize("change", ["grant", "void", "reset", "subjects"])
async def test_what_was_kept_holds_only_for_the_terms_it_was_made_of(shop: Shop, change: str) -> None:
    acme = await shop.customer("acme")
    made = await give(shop, 100, at="2026-01-01", denomination=UNITS)
    await shop.use("acme", "2026-02-01T00:00:00", "30")
    await shop.use("other", "2026-02-01T00:00:00", "7")
    await settle_once(shop.database, shop.clock)
    expected = 70
    match change:
        case "grant":
            await give(shop, 50, at="2026-01-01", denomination=UNITS, expires_at_us=us("2026-12-01"))
            expected = 120
        case "void":
            shop.clock.set_wall(us("2026-06-01"))
            await void_credits(shop.database, shop.clock, made.id, "an error")
            shop.clock.set_wall(us("2026-11-21"))
            expected = 0
        case "reset":
            await reset_credits(shop.database, shop.clock, CreditReset("acme", UNITS, us("2026-03-01")))
            expected = 0
        case "subjects":
            acme = await shop.customer("acme", subjects=("acme", "other"))
            expected = 63
    assert (await stands(shop, acme, UNITS, "2026-11-21")).balance == expected


async def test_money_is_settled_at_the_end_of_a_period(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, PENNY, start="2026-06-15")
    await give(shop, 100, at="2026-06-15")
    await shop.use("acme", "2026-07-01T00:00:00", "1000")
    before = await stands(shop, acme, MONEY, "2026-11-21")
    assert await settle_once(shop.database, shop.clock) == 1
    async with shop.database.read() as conn:
        kept = await credits.snapshot_before(conn, "acme", MONEY, shop.clock.now_us())
    assert kept is not None
    assert (kept.state.at_us, kept.state.balance) == (us("2026-10-15"), 90)
    assert await stands(shop, acme, MONEY, "2026-11-21") == before
    await keep_less(shop, MONEY, kept)
    assert (await stands(shop, acme, MONEY, "2026-11-21")).balance == before.balance - 1
    await shop.use("acme", "2026-10-20T00:00:00", "9500")
    assert (await paid(shop, acme, "2026-10-15", "2026-11-15")).amount == 89
    assert (await paid(shop, acme, "2026-06-15", "2026-07-15")).amount == 10
