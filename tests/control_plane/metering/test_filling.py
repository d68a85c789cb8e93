"""Meters that come later count what was stored before them: in chunks, each event once, while new ones count at once."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest
from fakes import ManualClock
from planes import older_database
from sqlalchemy import text

from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.metering import usage
from sidemeter_control.metering.catalogue import archive_meter, create_meter, update_meter
from sidemeter_control.metering.correcting import correct_event, void_event
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.filling import MAX_DELETED, MAX_FILLED, MAX_PASSED, fill, fill_once
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Meter, new_meter
from sidemeter_control.store import dead_letters, meters
from sidemeter_control.store.database import Database

NOW_US = 1_767_225_600_000_000


def units(**changed: object) -> Meter:
    fields = {"event_type": "call", "aggregation": Aggregation.SUM, "value_property": "n", "now_us": NOW_US} | changed
    return new_meter("units", **fields)  # type: ignore[arg-type]


class Plane:
    """A control plane with ten events of 1 to 10 units, of which the even ones are of another type."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock(NOW_US)
        self.ingest = Ingest(database, self.clock)

    async def send(self, *numbers: int, data: str | None = None) -> None:
        await self.ingest.record(
            [
                Event(str(n), "s", "call" if n % 2 else "mail", "acme", NOW_US - n, data or f'{{"n":{n},"m":{n * 10}}}')
                for n in numbers
            ]
        )

    async def meter(self) -> Meter:
        async with self.database.read() as conn:
            return (await meters.get(conn, ["units"]))["units"]

    async def used(self) -> str:
        async with self.database.read() as conn:
            meter = (await meters.get(conn, ["units"]))["units"]
            return str((await usage.quantity(conn, meter, ["acme"], 0, NOW_US + 1)).value)

    async def fill(self, most: int = 2) -> bool:
        return await fill_once(self.database, self.clock, most)

    async def fill_all(self) -> None:
        while await self.fill():
            pass

    async def rollups(self) -> Mapping[int, int]:
        """How many there are of each meter's number."""
        async with self.database.read() as conn:
            rows = await conn.execute(text("SELECT meter_id, count(*) FROM rollups GROUP BY 1"))
            return {row[0]: row[1] for row in rows}

    async def letters(self) -> list[tuple[str | None, str]]:
        async with self.database.read() as conn:
            return [(each.meter_key, each.code) for each in await dead_letters.page(conn, 100)]


@pytest.fixture
async def plane(database: Database) -> Plane:
    made = Plane(database)
    await made.send(*range(1, 11))
    return made


async def test_a_few_events_are_counted_before_the_meter_is_answered(plane: Plane) -> None:
    made = await create_meter(plane.database, units())
    assert made.progress.done
    assert await plane.used() == str(1 + 3 + 5 + 7 + 9)
    assert await plane.fill() is False


async def test_more_are_counted_chunk_by_chunk_and_the_meter_says_how_far_it_is(plane: Plane) -> None:
    made = await create_meter(plane.database, units(), at_once=2)
    assert not made.progress.done
    assert 10 * made.progress.filled_seq == 3 * made.progress.watermark_seq
    seen = [await plane.used()]
    while await plane.fill(most=1):
        seen.append(await plane.used())
    assert seen == ["4", "9", "16", "25", "25"]
    assert (await plane.meter()).progress.done


async def test_new_events_count_at_once_while_old_ones_are_filled_in(plane: Plane) -> None:
    await create_meter(plane.database, units(), at_once=1)
    await plane.send(11, 12, 13)
    assert await plane.used() == str(1 + 11 + 13)
    await plane.fill_all()
    assert await plane.used() == str(25 + 11 + 13)


async def test_a_chunk_that_does_not_reach_its_commit_is_counted_by_the_next(plane: Plane) -> None:
    made = await create_meter(plane.database, units(), at_once=1)

    async def cut_short() -> None:
        async with plane.database.write() as conn:
            await fill(conn, made, NOW_US, plane.clock.new_id, 2)
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await cut_short()
        assert await plane.used() == "1"
    await plane.fill_all()
    assert await plane.used() == "25"


async def test_what_is_corrected_before_it_is_reached_is_counted_as_it_is_then(plane: Plane) -> None:
    await create_meter(plane.database, units(), at_once=2)
    await void_event(plane.database, "s", "1", "reached already", by="key_1", now_us=NOW_US)
    await void_event(plane.database, "s", "9", "not reached yet", by="key_1", now_us=NOW_US)
    await correct_event(plane.database, "s", "7", '{"n":100}', "not reached yet", by="key_1", now_us=NOW_US)
    assert await plane.used() == "3"
    await plane.fill_all()
    assert await plane.used() == str(3 + 5 + 100)


@pytest.mark.parametrize("aggregation", [Aggregation.MAX, Aggregation.LATEST])
async def test_an_extreme_that_goes_leaves_what_is_counted_and_not_what_is_not_reached_yet(
    plane: Plane, aggregation: Aggregation
) -> None:
    highest = "3" if aggregation is Aggregation.MAX else "1"  # of the first two; the last one by time has the number 1
    meter = await create_meter(plane.database, units(aggregation=aggregation), at_once=2)
    await void_event(plane.database, "s", highest, "wrong", by="key_1", now_us=NOW_US)
    async with plane.database.read() as conn:
        left = await usage.quantity(conn, meter, ["acme"], 0, NOW_US)
    assert left == usage.Quantity(Decimal(4 - int(highest)), 1)
    await plane.fill_all()
    async with plane.database.read() as conn:
        found = await usage.quantity(conn, meter, ["acme"], 0, NOW_US)
    assert found == usage.Quantity(Decimal(9 if aggregation is Aggregation.MAX else 3), 4)


async def test_what_cannot_be_counted_later_is_a_dead_letter_of_that_meter_alone(plane: Plane) -> None:
    await plane.send(11, data='{"n":"many"}')
    await create_meter(plane.database, units(), at_once=1)
    await plane.fill_all()
    assert (await plane.used(), await plane.letters()) == ("25", [("units", "value_not_a_number")])


async def test_the_old_definition_answers_until_the_new_one_is_filled_and_then_its_rollups_go(plane: Plane) -> None:
    old = await create_meter(plane.database, units())
    await update_meter(plane.database, units(value_property="m"), at_once=1)
    await plane.send(11)
    assert (await plane.used(), (await plane.meter()).value_property) == (str(25 + 11), "n")
    assert [await plane.fill() for _ in range(3)] == [True] * 3
    assert (await plane.used(), (await plane.meter()).value_property) == (str(250 + 110), "m")
    assert set(await plane.rollups()) == {old.id, (await plane.meter()).id}
    await plane.fill_all()
    assert set(await plane.rollups()) == {(await plane.meter()).id}


async def test_a_meter_may_count_other_events_from_now_on(plane: Plane) -> None:
    await create_meter(plane.database, units())
    made = await update_meter(plane.database, units(event_type="mail"))
    assert (made.event_type, await plane.used()) == ("mail", str(2 + 4 + 6 + 8 + 10))
    await plane.send(11, 12)
    assert await plane.used() == str(30 + 12)


async def test_a_change_that_is_not_filled_gives_way_to_the_next_one(plane: Plane) -> None:
    await create_meter(plane.database, units())
    await update_meter(plane.database, units(value_property="m"), at_once=1)
    await update_meter(plane.database, units(aggregation=Aggregation.MAX), at_once=1)
    await plane.fill_all()
    assert (await plane.used(), set(await plane.rollups())) == ("9", {(await plane.meter()).id})
    await update_meter(plane.database, units(value_property="m"), at_once=1)
    await update_meter(plane.database, units(aggregation=Aggregation.MAX), at_once=1)
    await plane.fill_all()
    assert await plane.used() == "9"


async def test_what_only_the_old_definition_could_not_count_waits_no_more(plane: Plane) -> None:
    await plane.send(11, data='{"m":1}')
    await create_meter(plane.database, units())
    assert await plane.letters() == [("units", "value_missing")]
    await update_meter(plane.database, units(value_property="m"))
    assert (await plane.used(), await plane.letters()) == ("251", [])


async def test_a_name_or_a_unit_changes_without_counting_anew(plane: Plane) -> None:
    made = await create_meter(plane.database, units())
    changed = await update_meter(plane.database, units(name="Units", unit="MB"))
    assert (changed.id, changed.name, changed.unit, changed.created_at_us) == (made.id, "Units", "MB", NOW_US)
    assert (await plane.used(), await plane.fill()) == ("25", False)


async def test_a_meter_that_is_not_there_or_archived_is_not_changed(plane: Plane) -> None:
    with pytest.raises(NotFound):
        await update_meter(plane.database, units())
    await create_meter(plane.database, units(), at_once=1)
    await archive_meter(plane.database, "units", NOW_US)
    with pytest.raises(Conflict, match="archived"):
        await update_meter(plane.database, units(value_property="m"))
    await plane.send(11)
    await plane.fill_all()
    assert await plane.used() == str(25 + 11)


def test_one_transaction_does_so_much_and_no_more() -> None:
    assert (MAX_FILLED, MAX_PASSED, MAX_DELETED) == (5_000, 50_000, 2_000)


async def test_distinct_values_of_an_older_database_are_counted_anew_while_they_answer(tmp_path: Path) -> None:
    async with older_database(tmp_path, "0003", *OLDER) as database:
        plane = Plane(database)
        assert await plane.used() == "1"
        await plane.fill_all()
        assert await plane.used() == "1"
        await void_event(database, "s", "1", "a test", by="key_1", now_us=NOW_US)
        assert await plane.used() == "1"
        await void_event(database, "s", "2", "a test", by="key_1", now_us=NOW_US)
        assert await plane.used() == "0"
        assert await plane.letters() == [("units", "value_missing")]
        async with database.read() as conn:
            assert await dead_letters.waiting_of(conn, "acme", "s", "3") == {2: (await plane.meter()).id}


LETTER = '{"id":"3","source":"s","type":"call","subject":"acme","time":"1970-01-01T00:00:00Z","data":{}}'
OLDER = [
    """INSERT INTO meters (id, key, event_type, aggregation, value_property, dimensions, filters, created_at_us)
    VALUES (1, 'units', 'call', 'UNIQUE_COUNT', 'n', '[]', '[]', 0)""",
    """INSERT INTO events (seq, source, id, type, subject, time_us, received_at_us, data)
    SELECT value, 's', CAST(value AS TEXT), 'call', 'acme', 1000, 1000, iif(value = 3, '{}', '{"n":1}')
    FROM json_each('[1, 2, 3]')""",
    """INSERT INTO rollups (subject, meter_id, grain_s, bucket_us, dimensions, events)
    SELECT 'acme', 1, value, 0, '[]', 2 FROM json_each('[3600, 86400]')""",
    """INSERT INTO rollup_values (subject, meter_id, grain_s, bucket_us, dimensions, value)
    SELECT 'acme', 1, value, 0, '[]', '1' FROM json_each('[3600, 86400]')""",
    f"""INSERT INTO dead_letters (id, code, reason, raw, received_at_us, meter_key)
    VALUES (1, 'value_missing', 'is missing', CAST('{LETTER}' AS BLOB), 0, 'units')""",
]
