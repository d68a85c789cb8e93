"""Usage that no holder of leases speaks for takes from what is shared: once, rounded up, and only where it counts."""

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from lessees import Lessee
from naive import OneByOne
from planes import older_database
from shop import BASE, Shop, open_shop, us

from sidemeter_control.limits.budgeting import remove_budget, set_budget
from sidemeter_control.limits.budgets import BudgetSpec, BudgetUnit
from sidemeter_control.metering.batches import NO_DIGEST, Batch, digest
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, Reading, Uncountable, new_meter
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, ResetPeriod
from sidemeter_control.store import dead_letters, leases
from sidemeter_control.store.leases import StoredPool

NOVEMBER = us("2026-11-01")
TOKENS = EntitlementSpec(
    feature="tokens",
    kind=EntitlementKind.METERED,
    limit=Decimal(10) ** 12,
    enforcement=Enforcement.HARD,
    reset=ResetPeriod.NEVER,
)
CALLS = msgspec.structs.replace(TOKENS, feature="calls", limit=Decimal(100), reset=ResetPeriod.BILLING_PERIOD)
TOKENS_EVER, CALLS_NOW = ("acme/tokens", 0), ("acme/calls", NOVEMBER)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        await opened.sell(await opened.customer("acme"), BASE, entitlements=(CALLS, TOKENS))
        await (await Lessee(opened).hello()).sync({TOKENS_EVER: 1, CALLS_NOW: 1})
        yield opened


async def outside(shop: Shop) -> tuple[int, int]:
    """Thousandths of tokens, and calls."""
    pools = [("acme", "tokens", 0), ("acme", "calls", NOVEMBER)]
    async with shop.database.read() as conn:
        found = await leases.pools(conn, pools)
    assert [found[each].scale for each in pools] == [3, 0]
    return found[pools[0]].outside, found[pools[1]].outside


async def record(shop: Shop, id_: str, data: str, at: str = "2026-11-20") -> Ingest:
    ingest = Ingest(shop.database, shop.clock, max_future_s=10**9)
    await ingest.record([Event(id_, "shop", "llm", "acme", us(at), data)])
    return ingest


@pytest.mark.parametrize(
    ("data", "at", "units"),
    [
        ('{"tokens":2}', "2026-11-20", (2000, 1)),
        ('{"tokens":0.0001}', "2026-11-20", (1, 1)),
        ('{"tokens":-5}', "2026-11-20", (0, 1)),
        ('{"tokens":2,"mode":"test"}', "2026-11-20", (2000, 0)),
        ('{"tokens":2}', "2026-10-31", (2000, 0)),
        ('{"tokens":2}', "2026-12-01", (2000, 0)),
        ('{"tokens":"many"}', "2026-11-20", (0, 1)),
    ],
    ids=["both", "rounded up", "less than nothing", "filtered", "before", "after", "one cannot count it"],
)
async def test_an_event_adds_what_it_counts_to_the_periods_it_is_in(
    shop: Shop, data: str, at: str, units: tuple[int, int]
) -> None:
    await record(shop, "e", data, at)
    assert await outside(shop) == units


async def test_each_event_is_rounded_up_by_itself_as_agents_do(shop: Shop) -> None:
    for id_ in ("e", "f", "e"):
        await record(shop, id_, '{"tokens":0.0001}')
    assert await outside(shop) == (2, 2)


class Older(OneByOne):
    """How a version reads that knows no fractions."""

    def read(self, data: Mapping[str, object], time_us: int, source: str, id_: str) -> tuple[str, Reading] | None:
        if self.meter.key == "tokens" and not isinstance(data.get("tokens"), int):
            raise Uncountable("value_not_a_number", "must be whole")
        return super().read(data, time_us, source, id_)


async def letters(shop: Shop) -> list[int]:
    async with shop.database.read() as conn:
        return [each.id for each in await dead_letters.page(conn, 10, replayed=False)]


async def test_a_dead_letter_takes_from_it_once_it_is_replayed(shop: Shop) -> None:
    older = Ingest(shop.database, shop.clock, reader=Older)
    await older.record([Event("e", "shop", "llm", "acme", us("2026-11-20"), '{"tokens":0.5}')])
    assert await outside(shop) == (0, 1)
    ingest, waiting = Ingest(shop.database, shop.clock), await letters(shop)
    assert await ingest.replay(waiting, "k") == {}
    assert await outside(shop) == (500, 1)
    assert len(await ingest.replay(waiting, "k")) == 1
    assert await outside(shop) == (500, 1)


async def test_a_letter_of_an_agent_is_its_own_to_speak_for(shop: Shop) -> None:
    ingest = Ingest(shop.database, shop.clock)
    early = shop.clock.now_us() + 3_700_000_000
    body = msgspec.msgpack.encode([["e", "chat", "llm", "acme", early, '{"tokens":1}']])
    for agent_id, epoch in (("agent-1", 1), ("agent-2", (await Lessee(shop, "agent-2").hello()).epoch)):
        named = body.replace(b"chat", agent_id[-1:].encode() * 4)
        done = await ingest.batch(Batch(agent_id, epoch, 1, NO_DIGEST, digest(NO_DIGEST, named), named))
        assert done.recorded.dead_letters == 1
    shop.clock.advance(3_600)
    assert await ingest.replay(await letters(shop), "k") == {}
    assert await outside(shop) == (1000, 1)


async def test_a_slice_takes_what_its_dimensions_count_whatever_becomes_of_its_budget(shop: Shop) -> None:
    split = (Dimension("team", "org.team"), Dimension("model", "model"))
    meter = new_meter("split", "llm", Aggregation.SUM, value_property="tokens", dimensions=split, now_us=0)
    await create_meter(shop.database, meter)
    both = {"team": "a", "model": "7"}
    pools = []
    for key, sliced in (("all", {}), ("team", {"team": "a"}), ("both", both)):
        spec = BudgetSpec(
            key=key,
            customer="acme",
            unit=BudgetUnit.METER,
            meter="split",
            amount=Decimal(10),
            slice=sliced,
            enforcement=Enforcement.HARD,
        )
        budget = await set_budget(shop.database, shop.clock, spec)
        await (await Lessee(shop, key).hello()).sync({(budget.limit_id, NOVEMBER): 1})
        pools.append(("acme", budget.limit_name, NOVEMBER))
    await remove_budget(shop.database, shop.clock, "both")
    for number, (team, model) in enumerate((("a", '"7"'), ("a", "7.0"), ("a", '"8"'), ("b", "7"), ("", "7"))):
        await record(shop, f"e{number}", f'{{"tokens":1,"org":{{"team":"{team}"}},"model":{model}}}')
    await record(shop, "e", '{"tokens":1,"model":7}')
    async with shop.database.read() as conn:
        found = await leases.pools(conn, pools)
    assert [found[each].outside // 10**9 for each in pools] == [6, 3, 2]


async def test_a_pool_of_an_older_database_counts_what_the_meter_of_its_feature_does(tmp_path: Path) -> None:
    async with older_database(tmp_path, "0013", *OLDER) as database, database.read() as conn:
        assert await leases.pools(conn, [("acme", "chats", 0)]) == {
            ("acme", "chats", 0): StoredPool(("acme", "chats", 0), "calls", (), None, 0, 7)
        }


OLDER = [
    """INSERT INTO meters (id, key, event_type, aggregation, dimensions, filters, created_at_us)
    VALUES (1, 'calls', 'llm', 'COUNT', '[]', '[]', 0)""",
    "INSERT INTO features (key, meter_key, created_at_us) VALUES ('chats', 'calls', 0)",
    """INSERT INTO lease_pools (customer_key, feature_key, period, scale, outside, turn)
    VALUES ('acme', 'chats', 0, 0, 7, 0)""",
]
