"""What an agent learns: limits and totals of one snapshot, and exactly which of its batches they contain."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from shop import BASE, Shop, open_shop, us

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.sync import SyncAnswer, SyncQuestion, SyncStatus, sync
from sidemeter_control.metering.batches import NO_DIGEST, Batch, digest
from sidemeter_control.metering.ingest import Hello, Ingest
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
    return await sync(shop.database, question, shop.clock.now_us(), 1000)


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
        },
    ]


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
