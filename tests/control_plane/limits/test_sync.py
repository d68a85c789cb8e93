"""What an agent learns: limits and totals of one snapshot, and exactly which of its batches they contain."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from shop import BASE, Shop, open_shop, us

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.add_ons import AddOnSpec
from sidemeter_control.limits.budgeting import set_budget
from sidemeter_control.limits.budgets import Budget, BudgetSpec, BudgetUnit
from sidemeter_control.limits.given import grant_add_on, revoke_add_on, set_entitlement
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.sync import Seen, SyncAnswer, SyncQuestion, sync
from sidemeter_control.metering.batches import NO_DIGEST, Batch, digest
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.identity import SyncStatus, next_nonce
from sidemeter_control.metering.ingest import Hello, Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, PropertyFilter, new_meter
from sidemeter_control.metering.rollbacks import Rollbacks
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import agents

CALLS = EntitlementSpec(
    feature="calls", kind=EntitlementKind.METERED, limit=Decimal("1000.50"), enforcement=Enforcement.HARD
)
SSO = EntitlementSpec(feature="sso", kind=EntitlementKind.BOOLEAN)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        acme = await opened.customer("acme", subjects=("a", "b"))
        await opened.customer("idle")
        await opened.sell(acme, BASE, entitlements=(CALLS, SSO))
        yield opened


async def hello(shop: Shop, hello_id: str = "h1") -> int:
    begun = await Ingest(shop.database, shop.clock).hello(Hello("agent-1", hello_id, "boot", "chat", "0.1.0"))
    return begun.cursor.epoch


async def ask(shop: Shop, *subjects: str, epoch: int = 1, backlog: int = 0, nonce: bytes | None = None) -> SyncAnswer:
    question = SyncQuestion("agent-1", epoch, subjects, backlog, nonce, us("2026-11-20") if backlog else None)
    return await put(shop, question)


async def put(shop: Shop, question: SyncQuestion) -> SyncAnswer:
    return await sync(shop.database, Rollbacks(shop.clock, shop.database.witness), question, shop.clock.now_us(), 1000)


async def test_an_agent_learns_the_limits_of_each_subject_it_asks_for(shop: Shop) -> None:
    await hello(shop)
    await shop.use("b", "2026-11-20T00:00:00", "1")
    answer = await ask(shop, "a", "idle", "stranger", nonce=b"n")
    assert (answer.status, answer.nonce, answer.next_sync_ms) == (SyncStatus.OK, b"n", 1000)
    assert answer.as_of_us == shop.clock.now_us()
    assert answer.subjects == {"a": ["acme/calls", "acme/sso"], "idle": [], "stranger": []}
    version = answer.state_version
    assert msgspec.to_builtins(answer.limits) == [
        {
            "id": "acme/calls",
            "customer": "acme",
            "feature": "calls",
            "kind": "METERED",
            "enforcement": "HARD",
            "value": None,
            "limit": "1000.5",
            "used": "1",
            "meter": {
                "event_type": "llm",
                "aggregation": "COUNT",
                "value_property": None,
                "filters": [{"property": "mode", "in": None, "not_in": ("test",)}],
            },
            "period_start_us": us("2026-11-01"),
            "resets_at_us": us("2026-12-01"),
            "policy_version": version,
            "period": us("2026-11-01"),
            "scale": 0,
        },
        {
            "id": "acme/sso",
            "customer": "acme",
            "feature": "sso",
            "kind": "BOOLEAN",
            "enforcement": "SOFT",
            "value": "true",
            "limit": None,
            "used": None,
            "meter": None,
            "period_start_us": None,
            "resets_at_us": None,
            "policy_version": version,
            "period": 0,
            "scale": None,
        },
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"overage_up_to": Decimal("4.5")}, "14.5"),
        ({"grace_days": 30}, None),
        ({"grace_days": 3}, "10"),
        ({"grace_days": 30, "overage_up_to": Decimal("4.5")}, "14.5"),
        ({"rollover_max": Decimal(3)}, "13"),
        ({"enforcement": Enforcement.SOFT}, "10"),
    ],
    ids=["overage", "in grace", "after the grace", "both", "rollover", "a soft limit as it is"],
)
async def test_an_agent_is_told_where_usage_stops(shop: Shop, more: dict[str, Any], told: str | None) -> None:
    await hello(shop)
    tokens = EntitlementSpec(
        feature="tokens", kind=EntitlementKind.METERED, limit=Decimal(10), enforcement=Enforcement.HARD
    )
    buyer = await shop.customer("buyer")
    spec = msgspec.structs.replace(tokens, **more)
    await shop.sell(buyer, BASE, entitlements=(spec,), plan="other", start="2026-10-01")
    await shop.use("buyer", "2026-11-10T00:00:00", "12")
    (limit,) = (await ask(shop, "buyer")).limits
    assert (limit.limit, limit.used) == (told, "12")


async def test_an_agent_learns_of_add_ons_and_overrides_by_a_new_version(shop: Shop) -> None:
    await hello(shop)
    before = await ask(shop, "a")
    more = AddOnSpec(customer="acme", feature="calls", quantity=Decimal("0.5"))
    add_on = await grant_add_on(shop.database, shop.clock, more)
    added = await ask(shop, "a")
    assert (added.limits[0].limit, added.state_version > before.state_version) == ("1001", True)
    await revoke_add_on(shop.database, shop.clock, add_on.id, "refunded")
    own = OverrideSpec(customer="acme", entitlement=msgspec.structs.replace(CALLS, limit=Decimal(7)))
    await set_entitlement(shop.database, shop.clock, own)
    agreed = await ask(shop, "a")
    assert (agreed.limits[0].limit, agreed.state_version > added.state_version) == ("7", True)
    assert agreed.limits[0].policy_version == agreed.state_version


async def test_a_hard_budget_is_a_limit_of_what_its_slice_counts_and_a_soft_one_is_none(shop: Shop) -> None:
    await hello(shop)
    split = (Dimension("team", "org.team"),)
    own = PropertyFilter("mode", not_in=("test",))
    meter = new_meter("llm", "llm", Aggregation.SUM, value_property="tokens", dimensions=split, filters=[own], now_us=0)
    await create_meter(shop.database, meter)
    made: dict[str, Budget] = {}
    for key, enforcement in (("acme", Enforcement.HARD), ("soft", Enforcement.SOFT)):
        spec = BudgetSpec(
            key=key,
            customer="acme",
            unit=BudgetUnit.METER,
            meter="llm",
            amount=Decimal("5.50"),
            slice={"team": "a"},
            enforcement=enforcement,
        )
        made[key] = await set_budget(shop.database, shop.clock, spec)
    event = Event("e1", "s", "llm", "b", us("2026-11-20"), '{"tokens": 2, "org": {"team": "a"}}')
    await Ingest(shop.database, shop.clock).record([event])
    answer = await ask(shop, "a", "idle")
    assert answer.subjects == {"a": ["acme/calls", "acme/sso", made["acme"].limit_id], "idle": []}
    assert msgspec.to_builtins(answer.limits[2]) == {
        "id": made["acme"].limit_id,
        "customer": "acme",
        "feature": "budget/acme",
        "kind": "METERED",
        "enforcement": "HARD",
        "value": None,
        "limit": "5.5",
        "used": "2",
        "meter": {
            "event_type": "llm",
            "aggregation": "SUM",
            "value_property": "tokens",
            "filters": [
                {"property": "mode", "in": None, "not_in": ("test",)},
                {"property": "org.team", "in": ("a",), "not_in": None},
            ],
        },
        "period_start_us": us("2026-11-01"),
        "resets_at_us": us("2026-12-01"),
        "policy_version": answer.state_version,
        "period": us("2026-11-01"),
        "scale": 9,
    }


async def test_two_subjects_of_a_customer_share_its_limits(shop: Shop) -> None:
    await hello(shop)
    answer = await ask(shop, "a", "b")
    assert answer.subjects["a"] == answer.subjects["b"]
    assert len(answer.limits) == 2


async def test_the_totals_contain_the_agents_batches_up_to_the_one_that_is_named(shop: Shop) -> None:
    epoch = await hello(shop)
    assert (await ask(shop, "a")).counted_batch_no == 0
    body = msgspec.msgpack.encode([["e1", "chat", "llm", "a", us("2026-11-20"), '{"tokens":1}']])
    batch = Batch("agent-1", epoch, 1, NO_DIGEST, digest(NO_DIGEST, body), body)
    await Ingest(shop.database, shop.clock).batch(batch)
    answer = await ask(shop, "a")
    assert (answer.counted_batch_no, answer.limits[0].used) == (1, "1")


async def test_an_epoch_that_was_never_given_learns_nothing(shop: Shop) -> None:
    answer = await ask(shop, "a", epoch=7)
    assert (answer.status, answer.subjects, answer.limits) == (SyncStatus.UNKNOWN_EPOCH, {}, ())


async def test_an_older_epoch_is_fenced_and_no_longer_speaks_for_the_agent(shop: Shop) -> None:
    await hello(shop)
    await hello(shop, "h2")
    answer = await ask(shop, "a", epoch=1, backlog=9)
    assert (answer.status, answer.limits) == (SyncStatus.FENCED, ())
    async with shop.database.read() as conn:
        known = await agents.get(conn, "agent-1")
    assert known is not None
    assert known.backlog == 0


async def test_what_waits_with_the_agent_is_noted(shop: Shop) -> None:
    await hello(shop)
    shop.clock.advance(5)
    await ask(shop, backlog=12)
    async with shop.database.read() as conn:
        known = await agents.get(conn, "agent-1")
    assert known is not None
    assert (known.backlog, known.oldest_pending_us) == (12, us("2026-11-20"))
    assert known.last_seen_us == shop.clock.now_us()


async def test_too_many_subjects_are_refused(shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="subjects: must be at most 1000"):
        await ask(shop, *map(str, range(1001)))


async def nonce_of(shop: Shop, nonce: bytes | None, sync_id: str, seen: Seen | None = None) -> SyncAnswer:
    return await put(shop, SyncQuestion("agent-1", 1, (), 0, nonce, None, seen, sync_id))


async def test_each_sync_brings_back_the_nonce_of_the_last_answer_or_the_one_before_if_that_was_lost(
    shop: Shop,
) -> None:
    await hello(shop)
    first = await nonce_of(shop, None, "s1")
    assert (await nonce_of(shop, first.nonce, "s2")).status is SyncStatus.OK  # whose answer is lost
    second = await nonce_of(shop, first.nonce, "s3")
    assert second.status is SyncStatus.OK
    assert (await nonce_of(shop, second.nonce, "s4")).status is SyncStatus.OK
    assert len({first.nonce, second.nonce}) == 2


async def test_the_second_of_two_processes_with_one_identity_is_fenced(shop: Shop) -> None:
    await hello(shop)
    both = await nonce_of(shop, None, "s1")
    one = await nonce_of(shop, both.nonce, "one-1")
    other = await nonce_of(shop, both.nonce, "other-1")
    answers = [await nonce_of(shop, one.nonce, "one-2"), await nonce_of(shop, other.nonce, "other-2")]
    assert [each.status for each in answers] == [SyncStatus.FENCED, SyncStatus.OK]


async def test_an_agent_that_heard_more_than_the_database_remembers_makes_it_take_a_new_generation(shop: Shop) -> None:
    await hello(shop)
    answer = await nonce_of(shop, None, "s1")
    later = next_nonce(answer.nonce, "s2")
    noticed = await nonce_of(shop, later, "s3", Seen(answer.generation, answer.state_version))
    assert noticed.status is SyncStatus.OK
    assert noticed.generation != answer.generation
    again = await nonce_of(shop, noticed.nonce, "s4", Seen(answer.generation, answer.state_version + 1))
    assert again.generation == noticed.generation
