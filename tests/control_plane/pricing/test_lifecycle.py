"""Changes of subscriptions on a real database: to another plan, to an end, into a pause, and back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec
import pytest
from shop import BASE, CALLS, TOKENS, Shop, open_shop, us

from sidemeter_control.errors import Conflict, ControlError, InvalidInput, NotFound
from sidemeter_control.limits.quotas import quotas
from sidemeter_control.pricing.catalogue import publish_plan, subscribe, subscribed
from sidemeter_control.pricing.changes import MAX_PAUSES, ChangeAt, Life, paused
from sidemeter_control.pricing.cost import cost
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.lifecycle import cancel, change_plan, pause, resume
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, PlanSpec
from sidemeter_control.pricing.subscriptions import Pause, SubscribeSpec, Subscription

NOW, PERIOD_END = ChangeAt.NOW, ChangeAt.PERIOD_END
AHEAD = msgspec.structs.replace(BASE, in_advance=True, amount=Decimal(30))
DEARER = msgspec.structs.replace(AHEAD, amount=Decimal(60))
PREMIUM = PlanSpec(key="premium", currency="USD", charges=(DEARER, CALLS))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, now="2026-11-16") as opened:
        yield opened


async def publish(shop: Shop, spec: PlanSpec = PREMIUM) -> None:
    await publish_plan(shop.database, shop.clock, spec)


async def change(shop: Shop, own: Subscription, plan: str = "premium", at: ChangeAt = NOW) -> Subscription:
    return await change_plan(shop.database, shop.clock, own.id, plan=plan, at=at)


async def stored(shop: Shop, customer: Customer) -> list[Subscription]:
    async with shop.database.read() as conn:
        return [each.subscription for each in (await subscribed(conn, [customer]))[customer.key]]


async def owed(shop: Shop, customer: Customer) -> list[tuple[str, str]]:
    async with shop.database.read() as conn:
        found = await cost(conn, customer, shop.clock.now_us())
    return [(line.text, str(line.amount.rounded)) for line in found.lines]


async def statuses(shop: Shop, customer: Customer) -> list[str]:
    return [each.status_at(shop.clock.now_us()).value for each in await stored(shop, customer)]


async def test_a_change_now_ends_the_one_and_begins_the_other_at_that_instant(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD, CALLS)
    await publish(shop)
    following = await change(shop, own)
    old, new = await stored(shop, acme)
    assert (old.end_at_us, new.start_at_us, new.end_at_us) == (us("2026-11-16"), us("2026-11-16"), None)
    assert (new, new.replaces, new.anchor_us) == (following, old.id, old.anchor_us)
    assert await statuses(shop, acme) == ["ENDED", "ACTIVE"]


async def test_the_current_period_shows_both_sides_of_a_change(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD, CALLS)
    await publish(shop)
    await shop.use("acme", "2026-11-05T00:00:00", "1")
    await change(shop, own)
    await shop.use("acme", "2026-11-16T00:00:00", "1")
    assert await owed(shop, acme) == [
        ("Base fee, 2026-11-01 to 2026-11-15", "15.00"),
        ("calls, 2026-11-01 to 2026-11-15", "0.03"),
        ("Base fee, 2026-11-16 to 2026-11-30", "30.00"),
        ("calls, 2026-11-16 to 2026-11-30", "0.03"),
    ]


async def test_a_change_at_the_periods_end_waits_for_it(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD)
    await publish(shop)
    await change(shop, own, at=PERIOD_END)
    assert await statuses(shop, acme) == ["ACTIVE", "SCHEDULED"]
    assert await owed(shop, acme) == [("Base fee", "30.00")]
    shop.clock.set_wall(us("2026-12-01"))
    assert await statuses(shop, acme) == ["ENDED", "ACTIVE"]
    assert await owed(shop, acme) == [("Base fee", "60.00"), ("calls", "0.00")]


async def test_a_scheduled_change_is_taken_back_by_cancelling_what_would_begin(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD)
    await publish(shop)
    following = await change(shop, own, at=PERIOD_END)
    with pytest.raises(Conflict, match=f"is replaced by '{following.id}': cancel that one first"):
        await cancel(shop.database, shop.clock, own.id, NOW)
    await cancel(shop.database, shop.clock, following.id, PERIOD_END)
    assert (await stored(shop, acme))[0] == own
    assert await statuses(shop, acme) == ["ACTIVE", "ENDED"]
    again = await change(shop, own, at=PERIOD_END)
    assert await statuses(shop, acme) == ["ACTIVE", "ENDED", "SCHEDULED"]
    assert again.replaces == own.id


async def test_periods_of_another_length_begin_with_the_change(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD)
    await publish(shop, msgspec.structs.replace(PREMIUM, interval=Interval.YEAR))
    assert (await change(shop, own)).anchor_us == us("2026-11-16")


async def test_a_trial_goes_on_through_a_change_and_no_new_one_begins(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD, start="2026-11-10", trial_days=10)
    await publish(shop, msgspec.structs.replace(PREMIUM, trial_days=30))
    assert (await change(shop, own)).trial_end_us == us("2026-11-20")
    shop.clock.set_wall(us("2026-11-21"))
    await publish(shop, msgspec.structs.replace(PREMIUM, key="other", trial_days=30))
    (_, on_premium) = await stored(shop, acme)
    assert (await change(shop, on_premium, "other")).trial_end_us is None


async def test_overrides_stay_for_the_charges_that_the_new_plan_has(shop: Shop) -> None:
    acme = await shop.customer("acme")
    await publish(shop, msgspec.structs.replace(PREMIUM, key="pro", charges=(AHEAD, CALLS, TOKENS)))
    cheaper = msgspec.structs.replace(CALLS, unit_price=Decimal("0.01"))
    spec = SubscribeSpec(customer=acme.key, plan="pro", overrides=(cheaper, TOKENS))
    own = await subscribe(shop.database, shop.clock, spec)
    await publish(shop)
    assert (await change(shop, own)).overrides == (cheaper,)


async def test_an_end_can_be_now_or_at_the_periods_end_and_that_one_can_be_taken_back(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD)
    assert (await cancel(shop.database, shop.clock, own.id, PERIOD_END)).end_at_us == us("2026-12-01")
    assert await resume(shop.database, shop.clock, own.id) == own
    await cancel(shop.database, shop.clock, own.id, PERIOD_END)
    assert (await cancel(shop.database, shop.clock, own.id, NOW)).end_at_us == us("2026-11-16")
    assert await statuses(shop, acme) == ["ENDED"]


async def test_a_trial_that_is_cancelled_ends_with_itself(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD, start="2026-11-10", trial_days=10)
    assert (await cancel(shop.database, shop.clock, own.id, PERIOD_END)).end_at_us == us("2026-11-20")


async def test_a_paused_subscription_owes_and_grants_nothing_until_it_is_resumed(shop: Shop) -> None:
    acme = await shop.customer("acme")
    sso = EntitlementSpec(feature="sso", kind=EntitlementKind.BOOLEAN)
    own = await shop.sell(acme, AHEAD, CALLS, entitlements=(sso,))
    await pause(shop.database, shop.clock, own.id, None)
    shop.clock.set_wall(us("2026-11-22"))
    await shop.use("acme", "2026-11-20T00:00:00", "1")
    assert await statuses(shop, acme) == ["PAUSED"]
    assert await owed(shop, acme) == [("Base fee", "15.00"), ("calls", "0.00")]
    async with shop.database.read() as conn:
        assert await quotas(conn, acme, shop.clock.now_us()) == []
    await resume(shop.database, shop.clock, own.id)
    assert await statuses(shop, acme) == ["ACTIVE"]
    assert [amount for _, amount in await owed(shop, acme)] == ["15.00", "0.00", "9.00", "0.00"]
    assert (await stored(shop, acme))[0].pauses == (Pause(us("2026-11-16"), us("2026-11-22")),)


async def test_a_pause_until_an_instant_ends_by_itself(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD)
    await pause(shop.database, shop.clock, own.id, us("2026-11-20"))
    shop.clock.set_wall(us("2026-11-20"))
    assert await statuses(shop, acme) == ["ACTIVE"]


async def test_a_pause_that_is_resumed_at_once_was_none(shop: Shop) -> None:
    acme = await shop.customer("acme")
    own = await shop.sell(acme, AHEAD)
    await pause(shop.database, shop.clock, own.id, None)
    assert await resume(shop.database, shop.clock, own.id) == own


@pytest.mark.parametrize(
    ("state", "verb", "error", "message"),
    [
        ("none", "change", NotFound, "there is no subscription 'nobody'"),
        ("scheduled", "change", Conflict, "has not begun: cancel it, and subscribe anew"),
        ("scheduled", "pause", Conflict, "has not begun: cancel it, and subscribe anew"),
        ("ended", "change", Conflict, "has ended"),
        ("ended", "cancel", Conflict, "has ended"),
        ("ended", "pause", Conflict, "has ended"),
        ("ended", "resume", Conflict, "has ended"),
        ("cancelled", "change", Conflict, "is cancelled: resume it first"),
        ("paused", "change", Conflict, "is paused: resume it first"),
        ("paused", "pause", Conflict, "is paused already"),
        ("active", "resume", Conflict, "is neither paused nor cancelled"),
        ("active", "stay", Conflict, "is on version 1 of plan 'pro' already"),
        ("active", "euro", Conflict, "is in USD, plan 'euro' is in EUR"),
        ("active", "nope", NotFound, "there is no plan 'nope'"),
        ("active", "past", InvalidInput, "until: must be in the future"),
    ],
)
async def test_what_the_state_of_a_subscription_forbids_is_refused(
    shop: Shop, state: str, verb: str, error: type[ControlError], message: str
) -> None:
    acme, base, clock = await shop.customer("acme"), shop.database, shop.clock
    await publish(shop)
    await publish(shop, msgspec.structs.replace(PREMIUM, key="euro", currency="EUR"))
    id_ = (await shop.sell(acme, AHEAD, start="2026-12-24" if state == "scheduled" else "2026-11-01")).id
    if state in {"ended", "cancelled"}:
        await cancel(base, clock, id_, NOW if state == "ended" else PERIOD_END)
    if state == "paused":
        await pause(base, clock, id_, None)
    if state == "none":
        id_ = "nobody"
    plans = {"change": "premium", "stay": "pro", "euro": "euro", "nope": "nope"}
    verbs = {
        "cancel": lambda: cancel(base, clock, id_, NOW),
        "resume": lambda: resume(base, clock, id_),
        "pause": lambda: pause(base, clock, id_, None),
        "past": lambda: pause(base, clock, id_, us("2026-11-16")),
        **{key: partial(change_plan, base, clock, id_, plan=plan, at=NOW) for key, plan in plans.items()},
    }
    with pytest.raises(error, match=message):
        await verbs[verb]()


@pytest.mark.parametrize("more", [-1, 0])
async def test_a_subscription_pauses_so_often_and_not_more(shop: Shop, more: int) -> None:
    acme = await shop.customer("acme")
    await shop.sell(acme, AHEAD)
    async with shop.database.read() as conn:
        (own,) = (await subscribed(conn, [acme]))["acme"]
    pauses = tuple(Pause(at_us, at_us + 1) for at_us in range(MAX_PAUSES + more))
    life = Life(replace(own, subscription=replace(own.subscription, pauses=pauses)), (), us("2026-11-16"))
    if more < 0:
        assert len(paused(life, None).pauses) == MAX_PAUSES
    else:
        with pytest.raises(Conflict, match="has been paused 500 times"):
            paused(life, None)


async def test_the_time_zone_of_a_customer_moves_no_period_of_a_subscription_there_is(shop: Shop) -> None:
    acme = await shop.customer("acme", time_zone="Europe/Berlin")
    await shop.sell(acme, AHEAD)
    await shop.customer("acme", time_zone="Asia/Tokyo")
    (own,) = await stored(shop, acme)
    assert own.time_zone == "Europe/Berlin"
