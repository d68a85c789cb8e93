"""Credits as they are stored: every field comes back, digit for digit, and only what was asked for."""

from dataclasses import replace
from decimal import Decimal

import pytest

from sidemeter_control.pricing.credits.grants import (
    MONEY,
    CreditGrant,
    CreditReset,
    CreditUnit,
    Denomination,
    TopUp,
)
from sidemeter_control.pricing.credits.instants import Line, State
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.store import credits, customers, top_ups
from sidemeter_control.store.credits import Snapshot
from sidemeter_control.store.database import Database

pytestmark = [pytest.mark.both_databases, pytest.mark.spread]

UNITS = Denomination(CreditUnit.FEATURE, "tokens")
FULL = CreditGrant(
    id="g1",
    customer_key="acme",
    denomination=MONEY,
    amount=Decimal("10.50"),
    currency="EUR",
    priority=-3,
    effective_at_us=5,
    expires_at_us=9,
    purchased=True,
    recurrence=Interval.QUARTER,
    anchor_us=7,
    rollover_max=Decimal("1E+2"),
    rollover_min=Decimal("0.10"),
    charges=("api", "base"),
    automatic=True,
    idempotency_key="k",
    created_at_us=4,
)
BARE = replace(
    FULL,
    id="g2",
    denomination=UNITS,
    currency=None,
    priority=None,
    expires_at_us=None,
    purchased=False,
    recurrence=None,
    anchor_us=None,
    charges=None,
    automatic=False,
    idempotency_key=None,
    created_at_us=3,
)


@pytest.fixture(autouse=True)
async def known(database: Database) -> None:
    async with database.write() as conn:
        for key in ("acme", "globex"):
            await customers.put(conn, Customer(key))


async def test_a_grant_comes_back_as_it_was_written_and_is_voided_once(database: Database) -> None:
    async with database.write() as conn:
        for grant in (FULL, BARE, replace(FULL, id="g3", customer_key="globex")):
            await credits.add(conn, grant)
    async with database.write() as conn:
        assert await credits.of_customers(conn, ["acme"]) == [BARE, FULL]
        assert await credits.by_key(conn, "acme", "k") == FULL
        assert [await credits.currency(conn, key) for key in ("acme", "nobody")] == ["EUR", None]
        assert await credits.holders(conn, 1) == ["acme"]
        assert await credits.holders(conn, 5, "acme") == ["globex"]
        assert [await credits.count(conn, key) for key in ("acme", "globex", "nobody")] == [2, 1, 0]
        for at_us, reason in ((8, "first"), (9, "second")):
            await credits.void(conn, "g1", at_us, reason)
        assert await credits.get(conn, "g1") == replace(FULL, voided_at_us=8, void_reason="first")
        assert await credits.get(conn, "g9") is None


async def test_a_reset_replaces_the_one_at_its_instant(database: Database) -> None:
    first, second = CreditReset("acme", UNITS, 9), CreditReset("acme", MONEY, 5)
    async with database.write() as conn:
        for reset in (first, second, replace(first, preserve_overage=True)):
            await credits.add_reset(conn, reset)
        assert await credits.resets_of(conn, ["acme"]) == [second, replace(first, preserve_overage=True)]
        assert await credits.count_resets(conn, "acme") == 2


async def test_a_snapshot_takes_the_place_of_older_ones(database: Database) -> None:
    def snapshot(at_us: int) -> Snapshot:
        overage = (Line(Decimal("0.10"), frozenset(["api"])), Line(Decimal(-2)))
        return Snapshot("terms", Decimal("1.50"), State(at_us, {"g": Decimal("1.00")}, {}, {}, overage, Decimal(3)))

    async with database.write() as conn:
        for at_us in (5, 9):
            await credits.keep_snapshot(conn, "acme", UNITS, snapshot(at_us))
        assert await credits.snapshot_before(conn, "acme", UNITS, 8) is None
        assert await credits.snapshot_before(conn, "acme", UNITS, 9) == snapshot(9)
        assert await credits.snapshot_before(conn, "acme", MONEY, 9) is None


async def test_a_rule_counts_the_grants_it_made_and_no_others(database: Database) -> None:
    rule = TopUp("acme", MONEY, Decimal(1), Decimal(5), 3, 2, Decimal("-0.50"))
    async with database.write() as conn:
        await top_ups.put(conn, replace(rule, mark=None))
        await top_ups.mark(conn, rule)
        assert await top_ups.get(conn, "acme", MONEY) == rule
        assert await top_ups.get(conn, "acme", UNITS) is None
        for number, changed in enumerate([{}, {"automatic": False}, {"denomination": UNITS}, {"created_at_us": 9}]):
            await credits.add(conn, replace(FULL, id=f"n{number}", idempotency_key=None, **changed))  # type: ignore[arg-type]
        assert await top_ups.bought(conn, rule, 4, 9) == 1
