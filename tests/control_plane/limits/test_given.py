"""Add-ons and overrides: granted once, ended at once, bounded, and refused by field and rule."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from shop import Shop, open_shop, us
from sqlalchemy import insert, select

from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.limits import given as verbs
from sidemeter_control.limits.add_ons import (
    MAX_ADD_ONS,
    MAX_IDEMPOTENCY_KEY_CHARS,
    MAX_REASON_CHARS,
    AddOn,
    AddOnSpec,
    check_reason,
    new_add_on,
)
from sidemeter_control.limits.entitlements import Given
from sidemeter_control.limits.features import new_feature
from sidemeter_control.limits.overrides import MAX_OVERRIDES, MAX_PAST_OVERRIDES, Override, OverrideSpec
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.store import add_ons, features, overrides, state
from sidemeter_control.store.tables import past_overrides

MORE = AddOnSpec(
    customer="acme", feature="tokens", quantity=Decimal("0.10"), expires_at_us=us("2027-01-01"), idempotency_key="k"
)
AGREED = EntitlementSpec(
    feature="tokens",
    kind=EntitlementKind.METERED,
    limit=Decimal("7.50"),
    enforcement=Enforcement.HARD,
    reset=ResetPeriod.DAY,
    overage_up_to=Decimal(1),
    grace_days=2,
    rollover_max=Decimal(3),
    rollover_min=Decimal(1),
)
OVERRIDE = OverrideSpec(customer="acme", entitlement=AGREED)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await opened.customer("acme")
        yield opened


async def grant(shop: Shop, spec: AddOnSpec = MORE) -> AddOn:
    return await verbs.grant_add_on(shop.database, shop.clock, spec)


async def agree(shop: Shop, spec: OverrideSpec = OVERRIDE) -> Override:
    return await verbs.set_entitlement(shop.database, shop.clock, spec)


async def of_acme(shop: Shop) -> Given:
    async with shop.database.read() as conn:
        return (await verbs.given(conn, ["acme"], shop.clock.now_us()))["acme"]


async def version(shop: Shop) -> int:
    async with shop.database.read() as conn:
        return (await state.get(conn)).config_version


async def test_what_is_given_comes_back_digit_for_digit(shop: Shop) -> None:
    add_on, override = await grant(shop), await agree(shop)
    assert str(add_on.quantity) == "0.10"
    assert (add_on.effective_at_us, override.effective_at_us) == (shop.clock.now_us(),) * 2
    assert await of_acme(shop) == Given((add_on,), (override,))


async def test_an_idempotency_key_grants_once(shop: Shop) -> None:
    first = await grant(shop)
    before = await version(shop)
    shop.clock.advance(60)
    assert await grant(shop) == first
    assert await version(shop) == before
    for other in (replace(MORE, quantity=Decimal(9)), replace(MORE, expires_at_us=None)):
        with pytest.raises(Conflict, match="was used for another add-on"):
            await grant(shop, other)
    assert (await of_acme(shop)).add_ons == (first,)
    await grant(shop, replace(MORE, idempotency_key=None))
    await grant(shop, replace(MORE, idempotency_key=None))
    assert len((await of_acme(shop)).add_ons) == 3


async def test_a_call_that_is_repeated_when_the_add_on_has_ended_is_answered_as_the_first_was(shop: Shop) -> None:
    ending = replace(MORE, expires_at_us=shop.clock.now_us() + 60_000_000)
    first = await grant(shop, ending)
    shop.clock.advance(3600)
    assert await grant(shop, ending) == first


async def test_an_idempotency_key_is_the_customers_own(shop: Shop) -> None:
    await shop.customer("globex")
    assert (await grant(shop)).id != (await grant(shop, replace(MORE, customer="globex"))).id


async def test_a_revoked_add_on_is_gone_at_once_and_says_why(shop: Shop) -> None:
    add_on = await grant(shop)
    shop.clock.advance(60)
    ended = await verbs.revoke_add_on(shop.database, shop.clock, add_on.id, "refunded")
    assert (ended.revoked_at_us, ended.revoke_reason) == (shop.clock.now_us(), "refunded")
    assert await of_acme(shop) == Given()
    shop.clock.advance(60)
    assert await verbs.revoke_add_on(shop.database, shop.clock, add_on.id, "again") == ended
    assert await grant(shop) == ended  # the key has been used


async def test_an_add_on_that_has_ended_is_not_read_any_more(shop: Shop) -> None:
    await grant(shop)
    await grant(shop, replace(MORE, idempotency_key=None, expires_at_us=shop.clock.now_us() + 60_000_000))
    shop.clock.advance(60)
    assert len((await of_acme(shop)).add_ons) == 1


async def test_an_override_replaces_the_one_before_until_it_is_removed(shop: Shop) -> None:
    await agree(shop)
    second = await agree(shop, replace(OVERRIDE, entitlement=msgspec.structs.replace(AGREED, limit=Decimal(9))))
    assert (await of_acme(shop)).overrides == (second,)
    assert await verbs.remove_entitlement(shop.database, shop.clock, "acme", "tokens") is True
    assert await verbs.remove_entitlement(shop.database, shop.clock, "acme", "tokens") is False
    assert await of_acme(shop) == Given()


async def ever(shop: Shop) -> Given:
    async with shop.database.read() as conn:
        return await verbs.ever_given(conn, "acme", "tokens")


async def test_what_was_replaced_or_removed_stays_known_for_the_time_until_then(shop: Shop) -> None:
    begun_us = shop.clock.now_us()
    first = await agree(shop, replace(OVERRIDE, effective_at_us=begun_us - 5))
    shop.clock.advance(60)
    second = await agree(shop, replace(OVERRIDE, expires_at_us=begun_us + 90_000_000))
    shop.clock.advance(60)
    third = await agree(shop)
    await agree(shop, replace(OVERRIDE, effective_at_us=begun_us + 10**9))  # takes the place of one of no time at all
    await verbs.remove_entitlement(shop.database, shop.clock, "acme", "tokens")
    assert (await ever(shop)).overrides == (replace(first, expires_at_us=begun_us + 60_000_000), second)
    last = await agree(shop)
    assert (await ever(shop)).overrides[2:] == (last,) == (third,)
    assert [each.is_active_at(begun_us) for each in (await ever(shop)).overrides] == [True, False, False]


@pytest.mark.parametrize("before", [MAX_PAST_OVERRIDES - 2, MAX_PAST_OVERRIDES - 1, MAX_PAST_OVERRIDES])
async def test_of_what_was_agreed_before_the_oldest_is_forgotten(shop: Shop, before: int) -> None:
    """MAX_PAST_OVERRIDES, beside the one that holds."""
    ends_us = shop.clock.now_us()
    async with shop.database.write() as conn:
        first = Override("acme", AGREED, ends_us - before, None, 0)
        await overrides.add(conn, first)
        await overrides.remove(conn, "acme", "tokens", ends_us)
        row = dict((await conn.execute(select(past_overrides))).mappings().one())
        rows = [row | {"seq": row["seq"] + number, "set_at_us": number} for number in range(1, before)]
        await conn.execute(insert(past_overrides), rows)
    await agree(shop)
    shop.clock.advance(1)
    last = await agree(shop)
    found = (await ever(shop)).overrides
    assert len(found) == min(before + 2, MAX_PAST_OVERRIDES + 1)
    assert (found[0].set_at_us, found[-1]) == (max(0, before + 1 - MAX_PAST_OVERRIDES), last)


async def test_an_add_on_that_has_ended_was_in_force_until_then(shop: Shop) -> None:
    begun_us = shop.clock.now_us()
    revoked = await grant(shop)
    expired = await grant(shop, replace(MORE, idempotency_key=None, expires_at_us=begun_us + 1))
    shop.clock.advance(60)
    await verbs.revoke_add_on(shop.database, shop.clock, revoked.id, "refunded")
    found = {each.id: each for each in (await ever(shop)).add_ons}
    assert [found[revoked.id].is_active_at(begun_us + at) for at in (-1, 0, 59_999_999, 60_000_000)] == [
        False,
        True,
        True,
        False,
    ]
    assert [found[expired.id].is_active_at(begun_us + at) for at in (0, 1)] == [True, False]


async def test_agents_can_tell_every_change_by_the_version(shop: Shop) -> None:
    seen = [await version(shop)]
    add_on = await grant(shop)
    seen.append(await version(shop))
    await verbs.revoke_add_on(shop.database, shop.clock, add_on.id, "refunded")
    seen.append(await version(shop))
    await agree(shop)
    seen.append(await version(shop))
    await verbs.remove_entitlement(shop.database, shop.clock, "acme", "tokens")
    seen.append(await version(shop))
    assert seen == sorted(set(seen))


async def test_what_does_not_exist_is_named(shop: Shop) -> None:
    for missing, message in (
        (replace(MORE, customer="nobody"), "there is no customer 'nobody'"),
        (replace(MORE, feature="nothing"), "there is no feature 'nothing'"),
    ):
        with pytest.raises(NotFound, match=message):
            await grant(shop, missing)
    with pytest.raises(NotFound, match="there is no customer 'nobody'"):
        await agree(shop, replace(OVERRIDE, customer="nobody"))
    with pytest.raises(NotFound, match="there is no feature 'nothing'"):
        await verbs.remove_entitlement(shop.database, shop.clock, "acme", "nothing")
    with pytest.raises(NotFound, match="there is no add-on 'none'"):
        await verbs.revoke_add_on(shop.database, shop.clock, "none", "refunded")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantity": None}, "quantity: must be given: the feature has a meter"),
        ({"feature": "sso"}, "quantity: must be absent: the feature has no meter"),
        ({"quantity": Decimal(0)}, "quantity: must be more than zero"),
        ({"effective_at_us": us("2027-01-01")}, "expiresAt: must be after effectiveAt"),
        ({"effective_at_us": -1}, "effectiveAt: must lie between the years 1970 and 9000"),
        ({"expires_at_us": 253_402_300_000_000_000}, "expiresAt: must lie between the years 1970 and 9000"),
    ],
)
async def test_a_wrong_add_on_is_refused_by_field_and_rule(shop: Shop, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        await grant(shop, replace(MORE, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": "sso"}, "kind: must not be METERED: the feature has no meter"),
        ({"limit": Decimal(-1)}, "^limit: must not be negative"),
        ({"rollover_max": Decimal(0)}, "^rolloverMin: must be at most rolloverMax"),
    ],
)
async def test_a_wrong_override_is_refused_by_field_and_rule(shop: Shop, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        await agree(shop, replace(OVERRIDE, entitlement=msgspec.structs.replace(AGREED, **change)))


def a_key(count: int) -> None:
    new_add_on(replace(MORE, idempotency_key="k" * count), counted=True, add_on_id="a", now_us=0)


@pytest.mark.parametrize(
    ("rule", "most"),
    [(a_key, MAX_IDEMPOTENCY_KEY_CHARS), (lambda count: check_reason("r" * count), MAX_REASON_CHARS)],
    ids=["MAX_IDEMPOTENCY_KEY_CHARS", "MAX_REASON_CHARS"],
)
def test_a_text_has_at_least_one_character_and_at_most_its_number(rule: Callable[[int], None], most: int) -> None:
    for count in (1, most - 1, most):
        rule(count)
    for count in (0, most + 1):
        with pytest.raises(InvalidInput, match=f"must be 1 to {most} characters"):
            rule(count)


async def test_a_customer_has_at_most_so_many_add_ons_that_have_not_ended(shop: Shop) -> None:
    """MAX_ADD_ONS"""
    now_us = shop.clock.now_us()
    made = AddOn("", "acme", "tokens", Decimal(1), now_us, None, None, now_us)
    async with shop.database.write() as conn:
        for number in range(MAX_ADD_ONS - 1):
            await add_ons.add(conn, replace(made, id=str(number)))
        await add_ons.add(conn, replace(made, id="ended", expires_at_us=now_us))
    last = await grant(shop, replace(MORE, idempotency_key=None))
    with pytest.raises(Conflict, match=f"has {MAX_ADD_ONS} add-ons that have not ended"):
        await grant(shop, replace(MORE, idempotency_key=None))
    await verbs.revoke_add_on(shop.database, shop.clock, last.id, "refunded")
    await grant(shop, replace(MORE, idempotency_key=None))


async def test_a_customer_has_at_most_so_many_overrides(shop: Shop) -> None:
    """MAX_OVERRIDES"""
    made = Override("acme", EntitlementSpec(feature="", kind=EntitlementKind.BOOLEAN), 0, None, 0)
    async with shop.database.write() as conn:
        for number in range(MAX_OVERRIDES - 1):
            await features.add(conn, new_feature(f"f{number}", now_us=0))
            entitlement = msgspec.structs.replace(made.entitlement, feature=f"f{number}")
            await overrides.add(conn, replace(made, entitlement=entitlement))
    await agree(shop)
    await agree(shop)  # in place of the one before
    sso = OverrideSpec(customer="acme", entitlement=EntitlementSpec(feature="sso", kind=EntitlementKind.BOOLEAN))
    with pytest.raises(Conflict, match=f"has {MAX_OVERRIDES} entitlements of its own"):
        await agree(shop, sso)
    await verbs.remove_entitlement(shop.database, shop.clock, "acme", "tokens")
    await agree(shop, sso)
