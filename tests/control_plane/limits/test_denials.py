"""What agents refuse is counted by reason, however often they tell it; what they refuse at a hard limit is an alert."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from shop import BASE, Shop, open_shop, us

from sidemeter_control.limits.alerts import Alert, AlertKind
from sidemeter_control.limits.budgeting import set_budget
from sidemeter_control.limits.budgets import Budget, BudgetSpec, BudgetUnit
from sidemeter_control.limits.denials import MAX_TELLERS, Denials
from sidemeter_control.limits.denying import raise_denied
from sidemeter_control.limits.given import set_entitlement
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.sync_messages import MAX_REASONS, Denied, SyncQuestion
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.store import alerts

NOVEMBER = us("2026-11-01")
CALLS = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(100), enforcement=Enforcement.HARD)
SSO = EntitlementSpec(feature="sso", kind=EntitlementKind.BOOLEAN)
SOFT = msgspec.structs.replace(CALLS, feature="tokens", enforcement=Enforcement.SOFT)
AT_100 = Denied("acme/calls", NOVEMBER, "100")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        acme = await opened.customer("acme", subjects=("a", "b"))
        await opened.sell(acme, BASE, entitlements=(CALLS, SOFT, SSO))
        yield opened


async def raised(shop: Shop, *denied: Denied) -> list[Alert]:
    return await raise_denied(shop.database, shop.clock, denied)


async def allow(shop: Shop, limit: int) -> None:
    spec = msgspec.structs.replace(CALLS, limit=Decimal(limit))
    await set_entitlement(shop.database, shop.clock, OverrideSpec(customer="acme", entitlement=spec))


async def test_a_refusal_is_told_once_in_a_period_however_many_agents_tell_it(shop: Shop) -> None:
    await shop.use("a", "2026-11-20", "1")
    (alert,) = await raised(shop, AT_100, AT_100)
    assert (alert.kind, alert.what, alert.threshold) == (AlertKind.LIMIT_DENIED, "quota:calls", None)
    assert (alert.used, alert.amount, alert.period_start_us) == (1, 100, NOVEMBER)
    assert alert.text == "Something was refused, because calls allows no more: 1 calls of 100 calls are used"
    assert await raised(shop, AT_100) == []
    async with shop.database.read() as conn:
        assert await alerts.page(conn, "acme", 10) == [alert]


async def test_who_raises_a_limit_is_told_when_that_is_reached_and_not_of_what_was_refused_before(shop: Shop) -> None:
    await raised(shop, AT_100)
    await allow(shop, 200)
    assert await raised(shop, AT_100) == []  # an agent that was cut off tells it late
    (again,) = await raised(shop, msgspec.structs.replace(AT_100, amount="200"))
    assert again.amount == 200
    await allow(shop, 100)
    assert await raised(shop, AT_100) == []


async def test_a_new_period_tells_it_anew_and_one_that_is_over_is_no_news(shop: Shop) -> None:
    await raised(shop, AT_100)
    december = us("2026-12-01")
    shop.clock.advance((december - shop.clock.now_us()) // 1_000_000)
    assert await raised(shop, AT_100) == []
    (alert,) = await raised(shop, Denied("acme/calls", december, "100"))
    assert alert.period_start_us == december


async def test_what_never_resets_tells_it_once(shop: Shop) -> None:
    spec = msgspec.structs.replace(CALLS, reset=ResetPeriod.NEVER)
    await set_entitlement(shop.database, shop.clock, OverrideSpec(customer="acme", entitlement=spec))
    (alert,) = await raised(shop, Denied("acme/calls", 0, "100"))
    assert alert.period_start_us is None
    shop.clock.advance(400 * 86_400)
    assert await raised(shop, Denied("acme/calls", 0, "100")) == []


async def test_a_hard_budget_tells_it_by_its_key(shop: Shop) -> None:
    of: dict[str, Any] = {"unit": BudgetUnit.METER, "meter": "calls", "enforcement": Enforcement.HARD}
    made: Budget = await set_budget(
        shop.database, shop.clock, BudgetSpec(key="team", customer="acme", amount=Decimal(5), **of)
    )
    (alert,) = await raised(shop, Denied(made.limit_id or "", NOVEMBER, "5"))
    assert (alert.what, alert.amount) == ("budget:team", 5)


@pytest.mark.parametrize(
    "denied",
    [
        Denied("acme/sso", NOVEMBER, "1"),
        Denied("acme/tokens", NOVEMBER, "100"),
        Denied("acme/none", NOVEMBER, "1"),
        Denied("nobody/calls", NOVEMBER, "1"),
        Denied("acme/@gone:0123456789ab", NOVEMBER, "1"),
        Denied("x", 0, "1"),
    ],
    ids=["no number", "soft", "no feature", "no customer", "no budget", "no limit"],
)
async def test_what_is_no_hard_limit_is_nothing(shop: Shop, denied: Denied) -> None:
    assert await raised(shop, denied) == []


@pytest.mark.parametrize("count", [MAX_REASONS - 1, MAX_REASONS, MAX_REASONS + 1])
def test_the_reasons_of_a_sync_are_bounded(count: int) -> None:
    reasons = {f"{'a' * (1 + number)}"[:64] + "_" * (number > 63): 1 for number in range(count)}
    body = {"agent_id": "a", "epoch": 1, "subjects": [], "backlog": 0, "denials": reasons}

    def read() -> SyncQuestion:
        return msgspec.convert(body, SyncQuestion)

    if count <= MAX_REASONS:
        assert read().denials == reasons
        return
    with pytest.raises(msgspec.ValidationError):
        read()


def test_what_agents_tell_is_added_up_from_where_they_were() -> None:
    denials = Denials()
    for agent_id, counts in (
        ("a", {"limit_reached": 5}),  # of before this process
        ("b", {}),
        ("a", {"limit_reached": 7, "lease_short": 1}),
        ("a", {"limit_reached": 7, "lease_short": 1}),  # told twice
        ("b", {"limit_reached": 10}),
        ("a", {"limit_reached": 1}),  # began anew
        ("a", {"limit_reached": 2}),
    ):
        denials.tell(agent_id, counts)
    assert denials.by_reason == {"limit_reached": 2 + 10 + 1 + 1, "lease_short": 1}


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_only_so_many_agents_are_remembered(more: int) -> None:
    assert MAX_TELLERS == 10_000
    denials = Denials(most=3)
    for number in range(3 + more):
        denials.tell(str(number), {})
    denials.tell("0", {"limit_reached": 1})
    assert denials.by_reason["limit_reached"] == (0 if more > 0 else 1)


def test_reasons_without_end_are_counted_as_others() -> None:
    denials = Denials()
    denials.tell("a", {})
    for number in range(100):
        denials.tell("a", {f"r{number}": 1} | {f"r{each}": 1 for each in range(number)})
    assert len(denials.by_reason) == 65
    assert denials.by_reason["other"] == 36
