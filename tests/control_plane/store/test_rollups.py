"""What is added to stored rollups comes to what folding all of it at once comes to, on both databases."""

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from sidemeter_control.metering.meters import Aggregation, Meter, new_meter
from sidemeter_control.metering.rollups import EMPTY, Bucket, Rollup, fold, merge
from sidemeter_control.metering.windows import Span
from sidemeter_control.store import rollups
from sidemeter_control.store.database import Database

pytestmark = pytest.mark.both_databases

KINDS = list(Aggregation)


def reading(aggregation: Aggregation, chance: random.Random) -> object:
    """Of few values, so that extremes and last values meet their like; and of some that are long."""
    nano = chance.choice([-1, 0, 1, 5 * 10**8, 10**9, 123_456_789_012_345_678_900_000_001])
    match aggregation:
        case Aggregation.COUNT:
            return 0
        case Aggregation.UNIQUE_COUNT:
            return chance.choice(["a", "b", "ä", ""])
        case Aggregation.LATEST:
            return chance.randrange(3), chance.choice("Aaä"), chance.choice(["1", "10", "9", "é"]), nano
        case Aggregation.TIME_WEIGHTED:
            return nano, nano * 1_700_000_000_000_000
    return nano


def meter(number: int, kind: Aggregation) -> Meter:
    percentile = Decimal(50) if kind is Aggregation.PERCENTILE else None
    return replace(new_meter("m", "call", kind, value_property="n", percentile=percentile, now_us=0), id=number)


def part(chance: random.Random) -> dict[Bucket, Rollup]:
    """Of each aggregation one meter, whose number is its place; some subjects and groups, each with some events."""
    return {
        Bucket(subject, number, 3600, hour, group): fold(
            kind, [reading(kind, chance) for _ in range(chance.choice([1, 5]))]
        )
        for number, kind in enumerate(KINDS)
        for subject in ("acme", "zeta")
        for hour in (0, 3_600_000_000)
        for group in ("[]", '["eu"]')
        if chance.random() < 0.7
    }


@pytest.mark.parametrize("seed", range(5))
async def test_parts_added_one_by_one_are_what_they_merge_to(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    expected: dict[Bucket, Rollup] = {}
    for _ in range(4):
        some = part(chance)
        async with database.write() as conn:
            await rollups.add(conn, some)
        expected = {each: merge(expected.get(each, EMPTY), some.get(each, EMPTY)) for each in expected | some}
    meters = [meter(number, kind) for number, kind in enumerate(KINDS)]
    async with database.read() as conn:
        found = dict(await rollups.read(conn, meters, [Span(3600, 0, 7_200_000_000)], None))
    assert found == expected


async def test_nothing_added_is_no_rollup(database: Database) -> None:
    async with database.write() as conn:
        await rollups.add(conn, {})
        assert not await rollups.get(conn, [Bucket("acme", 0, 3600, 0, "[]")])


HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000


@pytest.mark.parametrize("apart", [1, 3, 40])
async def test_only_what_lies_in_one_of_the_spans_is_read_however_many_they_are(database: Database, apart: int) -> None:
    count = meter(0, Aggregation.COUNT)
    hours = {Bucket("acme", 0, 3600, n * HOUR_US, "[]"): Rollup(n + 1) for n in range(120)}
    days = {Bucket("acme", 0, 86400, n * DAY_US, "[]"): Rollup(1000 * (n + 1)) for n in range(5)}
    async with database.write() as conn:
        await rollups.add(conn, hours | days)
    spans = [Span(3600, n * HOUR_US, (n + 1) * HOUR_US) for n in range(0, 120, apart)] + [
        Span(86400, DAY_US, 3 * DAY_US)
    ]
    wanted = dict([*list(hours.items())[::apart], *list(days.items())[1:3]])
    async with database.read() as conn:
        for subjects in (None, ["acme", "zeta"]):
            assert dict(await rollups.read(conn, [count], spans, subjects)) == wanted
        (total,) = (await rollups.totals(conn, [count], spans, ["acme"])).values()
        assert total.events == sum(each.events for each in wanted.values())
        assert await rollups.totals(conn, [count], [], ["acme"]) == {}
        assert await rollups.read(conn, [count], spans, []) == []
