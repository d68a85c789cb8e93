"""Grace: the instant at which a limit was reached is found to the microsecond, whatever the meter and the period."""

import random
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from shop import Shop, open_shop, us

from sidemeter_control.limits.grace import Threshold, reached_at, was_reached_by
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.store import meters

NOVEMBER = Period(us("2026-11-01"), us("2026-12-01"))
ANCHORED = Period(us("2026-11-03T07:31:11"), us("2026-12-03T07:31:11"))
HOUR = Period(us("2026-11-10T10:20:00"), us("2026-11-10T10:50:00"))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def used(shop: Shop, period: Period, count: int) -> list[Event]:
    """That many events in the first days of the period, some of them together, by time."""
    chance = random.Random(count)
    span_us = min(period.end_us - period.start_us, 9 * 86_400_000_000)
    first_us = max(period.start_us, us("2026-11-01"))
    times = [first_us + chance.randrange(span_us) for _ in range(count // 2)]
    made = [
        Event(f"e{number}", "s", "llm", chance.choice("ab"), at_us, f'{{"tokens": {chance.randint(1, 9)}}}')
        for number, at_us in enumerate(times * 2)
    ]
    await Ingest(shop.database, shop.clock, max_future_s=10**9).record(made)
    return sorted(made, key=lambda event: event.time_us)


@pytest.mark.parametrize("meter_key", ["tokens", "calls"])
@pytest.mark.parametrize("period", [NOVEMBER, ANCHORED, HOUR, EVER], ids=["month", "anchored", "half an hour", "ever"])
async def test_the_instant_is_that_of_the_event_which_reached_the_limit(
    shop: Shop, period: Period, meter_key: str
) -> None:
    events = await used(shop, period, 60)
    amounts = [Decimal(1) if meter_key == "calls" else Decimal(str(each.data)[11:-1]) for each in events]
    async with shop.database.read() as conn:
        meter = (await meters.get(conn, [meter_key]))[meter_key]
        for limit in (Decimal("0.5"), sum(amounts) / 3, Decimal(sum(amounts))):
            total, expected = Decimal(0), 0
            for event, amount in zip(events, amounts, strict=True):
                total += amount
                if total >= limit:
                    expected = event.time_us
                    break
            threshold = Threshold(meter, ["a", "b"], period, limit)
            assert await reached_at(conn, threshold) == expected
            by_then = [
                await was_reached_by(conn, threshold, at_us) for at_us in (period.start_us - 1, expected - 1, expected)
            ]
            assert by_then == [False, False, True]


async def test_a_limit_of_nothing_is_reached_where_the_period_begins(shop: Shop) -> None:
    async with shop.database.read() as conn:
        meter = (await meters.get(conn, ["tokens"]))["tokens"]
        threshold = Threshold(meter, ["a"], NOVEMBER, Decimal(0))
        assert await reached_at(conn, threshold) == NOVEMBER.start_us
        assert await was_reached_by(conn, threshold, NOVEMBER.start_us) is True
        assert await was_reached_by(conn, threshold, NOVEMBER.start_us - 1) is False
