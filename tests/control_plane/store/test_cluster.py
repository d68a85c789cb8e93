"""A database that is spread over shards: how it becomes one, and that the product is right on it."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from citus import CLUSTER, FAKE, Cluster
from fakes import ManualClock
from lessees import Lessee
from planes import control
from postgres import Server, in_use
from shop import BASE, CALLS, TOKENS, Shop, open_shop, us

from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.metering import usage
from sidemeter_control.metering.correcting import correct_event, void_event
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.windows import Interval
from sidemeter_control.pricing.closing import close_once
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import closed_periods, dead_letters, events, late_days, leases, meters, state
from sidemeter_control.store.database import ONE_FILE, Database
from sidemeter_control.store.shards import NO_CITUS
from sidemeter_control.store.tables import metadata
from sidemeter_control.store.tables.spread import spread_of

LIMIT = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(100), enforcement=Enforcement.HARD)
NOVEMBER = us("2026-11-01")
SPREAD = sum(bool(on.by or on.everywhere) for on in map(spread_of, metadata.sorted_tables))
KEYS = """
SELECT conrelid::regclass::text AS of, contype::text AS kind, array_agg(a.attname::text ORDER BY place) AS columns
FROM pg_constraint AS c, unnest(c.conkey) WITH ORDINALITY AS k (attnum, place), pg_attribute AS a
WHERE a.attrelid = c.conrelid AND a.attnum = k.attnum AND contype IN ('p', 'u', 'f') AND connamespace = 'public'::regnamespace
GROUP BY c.oid
"""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


def event(id_: str, subject: str, tokens: object, at: str = "2026-11-05T10:20:00") -> Event:
    return Event(id_, "shop", "llm", subject, us(at), f'{{"tokens": {tokens}, "mode": "live"}}')


async def arrives(shop: Shop, *some: Event) -> int:
    """How many of them are new."""
    return (await Ingest(shop.database, shop.clock, max_future_s=10**9).record(list(some))).accepted


async def used(shop: Shop, *subjects: str) -> int:
    async with shop.database.read() as conn:
        tokens = [each for each in await meters.counting(conn) if each.key == "tokens"]
        (found,) = await usage.quantities(conn, tokens, subjects, NOVEMBER, us("2026-12-01"))
    return int(found.value or 0)


async def keys(url: str) -> dict[str, set[tuple[str, ...]]]:
    conn = await asyncpg.connect(url)
    try:
        found: dict[str, set[tuple[str, ...]]] = {}
        for table, kind, columns in await conn.fetch(KEYS):
            found.setdefault(table, set()).add((kind, *columns))
        return found
    finally:
        await conn.close()


@pytest.fixture
async def unspread(server: Server) -> AsyncIterator[str]:
    """A database that could be spread, and has no table yet."""
    async with server.empty() as url:
        conn = await asyncpg.connect(url)
        for statement in FAKE:
            await conn.execute(statement)
        await conn.close()
        yield url


@pytest.mark.postgres
async def test_every_key_of_a_spread_table_is_led_by_what_it_is_spread_by(unspread: str, tmp_path: Path) -> None:
    database = await Database.open(unspread, witness=str(tmp_path / "w"))
    steps: list[tuple[int, int]] = []
    await database.migrate()
    before = await keys(unspread)
    assert ("u", "source", "id") in before["events"]
    spread = await database.distribute(lambda _, done, of: steps.append((done, of)))
    assert spread == SPREAD
    assert (steps[0], steps[-1]) == ((0, spread), (spread, spread))
    after = await keys(unspread)
    assert {("p", "subject", "seq"), ("u", "subject", "source", "id")} == after["events"]
    assert ("f", "customer_key", "subscription_id") in after["closed_periods"]
    for table in metadata.sorted_tables:
        if (by := spread_of(table).by) is not None:
            assert all(by in key for key in after[table.name] if key[0] in "pu"), table.name
        else:
            assert after[table.name] == before[table.name]
        assert len(after[table.name]) == len(before[table.name])
    assert await database.distribute(lambda *_: None) == 0
    assert await keys(unspread) == after
    await database.close()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE events ADD UNIQUE (id)",
        "CREATE UNIQUE INDEX ON rollups (meter_id)",
        "ALTER TABLE corrections ADD FOREIGN KEY (event_seq) REFERENCES state (id)",
        "ALTER TABLE closed_periods ADD FOREIGN KEY (subscription_id, customer_key) REFERENCES subscriptions (customer_key, id)",
        "ALTER TABLE customers ADD FOREIGN KEY (key) REFERENCES agents (agent_id)",
        "SELECT create_distributed_table('agents', 'service')",
        "SELECT create_distributed_table('loss_declarations', 'agent_id')",
        "SELECT create_reference_table('events')",
    ],
)
async def test_what_stands_in_for_a_cluster_refuses_what_a_cluster_refuses(spread: Server, statement: str) -> None:
    async with spread.migrated() as url:
        conn = await asyncpg.connect(url)
        with pytest.raises(asyncpg.PostgresError):
            await conn.execute(statement)
        await conn.close()


@pytest.mark.postgres
def test_the_command_spreads_a_database_once_and_a_server_without_citus_is_told_what_to_do(
    server: Server, tmp_path: Path
) -> None:
    url = server.new()
    own = {"SIDEMETER_DATABASE": url, "SIDEMETER_WITNESS": str(tmp_path / "holders")}
    before = asyncio.run(keys(url))
    assert NO_CITUS in control("migrate", "--distribute", exit_code=1, **own)
    assert asyncio.run(keys(url)) == before
    asyncio.run(server.execute(*FAKE, database=urlsplit(url).path[1:]))
    assert f"up to date, and {SPREAD} tables more are spread by subject" in control("migrate", "--distribute", **own)
    assert "up to date, and 0 tables more are spread by subject" in control("migrate", "--distribute", **own)


def test_a_file_is_not_spread_nor_made(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    assert ONE_FILE in control("migrate", "--distribute", "--database", f"sqlite:///{path}", exit_code=2)
    assert not path.exists()


async def test_a_file_that_is_open_is_not_spread(shop: Shop) -> None:
    with pytest.raises(Conflict, match="move it to a PostgreSQL"):
        await shop.database.distribute(lambda *_: None)


@pytest.mark.postgres
async def test_what_was_counted_before_is_a_duplicate_afterwards(unspread: str, tmp_path: Path) -> None:
    database = await Database.open(unspread, witness=str(tmp_path / "w"))
    await database.migrate()
    shop = Shop(database, ManualClock(us("2026-11-21")))
    await shop.stock()
    assert await arrives(shop, event("1", "a", 10)) == 1
    await database.distribute(lambda *_: None)
    assert await arrives(shop, event("1", "a", 10), event("2", "a", 5)) == 1
    assert await used(shop, "a") == 15
    await database.close()


@pytest.mark.both_databases
@pytest.mark.spread
async def test_one_id_of_two_subjects_is_one_event_and_two_where_it_is_spread(shop: Shop, kind: str) -> None:
    both = [event("1", "a", 10), event("1", "b", 100)]
    new = 2 if kind == "spread" else 1
    assert await arrives(shop, *both) == new
    assert await arrives(shop, *both) == 0
    assert await used(shop, "a", "b") == (110 if new == 2 else 10)
    async with shop.database.read() as conn:
        assert len(await events.known(conn, both)) == new


@pytest.mark.both_databases
@pytest.mark.spread
async def test_events_are_asked_for_by_interval_and_page_whatever_their_ids(shop: Shop, kind: str) -> None:
    new = 2 if kind == "spread" else 1
    await arrives(shop, event("1", "a", 10), event("1", "b", 100), event("2", "b", 1, at="2026-11-06"))
    day = Interval(us("2026-11-05"), us("2026-11-06"))
    other = Interval(us("2026-11-07"), us("2026-11-08"))
    async with shop.database.read() as conn:
        assert await events.any_within(conn, [other, day, other], None) == [False, True, False]
        assert await events.any_within(conn, [day, other], ["b", "c"]) == [new == 2, False]
        first = await events.in_order(conn, day, "llm", ["a", "b"], limit=1)
        then = await events.in_order(conn, day, "llm", ["a", "b"], limit=1, after=first[0])
    assert [each.subject for each in [*first, *then]] == ["a", "b"][:new]


@pytest.mark.postgres
async def test_of_one_id_of_two_subjects_each_is_voided_and_corrected_by_itself(spread: Server, tmp_path: Path) -> None:
    with in_use(spread):
        async with open_shop(tmp_path) as shop:
            await arrives(shop, event("1", "a", 10), event("1", "b", 100))
            now = {"by": "key_1", "now_us": shop.clock.now_us()}
            with pytest.raises(Conflict, match="name the subject"):
                await void_event(shop.database, "shop", "1", "wrong", **now)
            with pytest.raises(NotFound):
                await void_event(shop.database, "shop", "1", "wrong", subject="c", **now)
            await void_event(shop.database, "shop", "1", "wrong", subject="b", **now)
            assert (await used(shop, "a"), await used(shop, "b")) == (10, 0)
            await correct_event(shop.database, "shop", "1", '{"tokens": 7}', "less", subject="a", **now)
            assert (await used(shop, "a"), await used(shop, "b")) == (7, 0)


@pytest.mark.postgres
async def test_a_dead_letter_and_a_late_day_are_of_one_subject(spread: Server, tmp_path: Path) -> None:
    with in_use(spread):
        async with open_shop(tmp_path) as shop:
            async with shop.database.write() as conn:
                await state.closed_until(conn, us("2026-11-05"))
            await arrives(shop, event("1", "a", '"no number"', at="2026-11-04"), event("1", "b", 100))
            async with shop.database.read() as conn:
                assert await late_days.of(conn, ["a"]) == [us("2026-11-04")]
                assert await late_days.of(conn, ["b"]) == []
            await void_event(shop.database, "shop", "1", "wrong", subject="b", by="key_1", now_us=shop.clock.now_us())
            assert await used(shop, "b") == 0
            async with shop.database.read() as conn:
                assert len(await dead_letters.page(conn, 9)) == 1


async def a_month(shop: Shop) -> None:
    """Ingest, duplicates, corrections, usage, leases, a bill, and what comes after it."""
    acme = await shop.customer("acme", subjects=("a", "b"))
    await shop.sell(acme, BASE, TOKENS, CALLS, entitlements=(LIMIT,))
    some = [event(str(n), "ab"[n % 2], 100 + n) for n in range(40)]
    assert await arrives(shop, *some) == 40
    assert await arrives(shop, *some) == 0
    assert await used(shop, "a", "b") == 4_780
    now = {"by": "key_1", "now_us": shop.clock.now_us()}
    await void_event(shop.database, "shop", "1", "wrong", **now)
    await correct_event(shop.database, "shop", "2", '{"tokens": 2, "mode": "live"}', "less", **now)
    assert (await used(shop, "a"), await used(shop, "b")) == (2_280, 2_299)
    one, other = [await Lessee(shop, f"agent-{n}").hello() for n in (1, 2)]
    wanted = ("acme/calls", NOVEMBER)
    for each in (one, other, one, other):
        await each.sync({wanted: 100})
    granted = [each.leases[wanted].granted for each in (one, other)]
    assert 0 < sum(granted) <= 100 - 39
    async with shop.database.read() as conn:
        assert (await leases.figures(conn, 0)).held == sum(each > 0 for each in granted)
    shop.clock.set_wall(us("2026-12-02"))
    assert await close_once(shop.database, shop.clock, 3600) == 1
    assert await arrives(shop, event("late", "a", 50)) == 1
    async with shop.database.read() as conn:
        (closed,) = await closed_periods.ending_after(conn, "acme", 0)
        assert await late_days.of(conn, ["a", "b"]) == [us("2026-11-05")]
    assert closed.total == Decimal(49) + Decimal("24.32") + Decimal("1.30")


@pytest.mark.both_databases
@pytest.mark.spread
async def test_a_month_of_a_customer(shop: Shop) -> None:
    await a_month(shop)


@pytest.mark.skipif(CLUSTER is None, reason="SIDEMETER_TEST_CITUS does not name a database with the extension citus")
async def test_a_month_of_a_customer_on_a_cluster(tmp_path: Path) -> None:
    with in_use(Cluster(CLUSTER or "", tmp_path)):
        async with open_shop(tmp_path) as shop:
            await a_month(shop)
