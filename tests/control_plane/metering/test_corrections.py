"""Events that are voided and corrected: every total follows, exactly, in whatever order it all happens."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import naive
import pytest
from archives import archive_all
from fakes import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st
from planes import open_database
from sqlalchemy import text

from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.metering import usage
from sidemeter_control.metering.catalogue import create_meter, update_meter
from sidemeter_control.metering.correcting import correct_event, void_event
from sidemeter_control.metering.corrections import MAX_CORRECTIONS, MAX_REASON
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.explain import counted_events
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, Meter, PropertyFilter, new_meter
from sidemeter_control.metering.rollups import DAY_US, HOUR_US
from sidemeter_control.store import audit, corrections, dead_letters, events, meters, state
from sidemeter_control.store.database import Database

pytestmark = pytest.mark.spread

NOW_US = 1_767_225_600_000_000
START_US = NOW_US - 3 * DAY_US


def meter_of(aggregation: Aggregation, **changed: object) -> Meter:
    settings_ = {
        "value_property": None if aggregation is Aggregation.COUNT else "n",
        "percentile": Decimal(50) if aggregation is Aggregation.PERCENTILE else None,
        "dimensions": [Dimension("model", "model")],
        "filters": [PropertyFilter("mode", not_in=("test",))],
        "now_us": NOW_US,
    } | changed
    return new_meter(aggregation.value.lower(), "call", aggregation, **settings_)  # type: ignore[arg-type]


METERS = [meter_of(aggregation) for aggregation in Aggregation]

instants = st.builds(
    lambda hours, rest: START_US + hours * HOUR_US + rest,
    st.sampled_from([0, 1, 23, 24, 47]),
    st.sampled_from([0, 1, 1_800_000_000, HOUR_US - 1]),
)
contents = st.fixed_dictionaries(
    {"n": st.sampled_from(["1", "2", "2", "-3", "0.000000001", "123456789012345678.5"])},
    optional={"model": st.sampled_from(["small", "large"]), "mode": st.sampled_from(["test", "live"])},
)
places = st.integers(0, 100)
moves = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 6)),
    st.tuples(st.just("send"), st.integers(1, 6)),
    st.tuples(st.just("void"), places),
    st.tuples(st.just("correct"), places, contents),
    st.tuples(st.just("fill"), st.none()),
    st.tuples(st.just("archive"), st.none()),
    st.tuples(st.just("create"), places),
    st.tuples(st.just("change"), places),
)


@dataclass
class World:
    """A control plane, and beside it what its events say now."""

    database: Database
    waiting: list[Event]
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_US))
    sent: dict[str, Event] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    made: dict[str, Meter] = field(default_factory=dict)

    async def make(self, move: tuple[object, ...]) -> None:
        match move:
            case ("send", int(size)):
                some = self.waiting[:size]
                del self.waiting[:size]
                await Ingest(self.database, self.clock).record(some)
                self.sent |= {event.id: event for event in some}
            case ("void", int(place)) if self.sent:
                id_ = sorted(self.sent)[place % len(self.sent)]
                if id_ not in self.voided:
                    await void_event(self.database, "s", id_, f"r{place}", by="key_1", now_us=NOW_US)
                    self.voided.add(id_)
            case ("correct", int(place), dict(data)) if self.sent:
                id_ = sorted(self.sent)[place % len(self.sent)]
                await correct_event(self.database, "s", id_, json.dumps(data), "r", by="key_1", now_us=NOW_US)
                self.sent[id_] = msgspec.structs.replace(self.sent[id_], data=json.dumps(data))
                self.voided.discard(id_)
            case ("fill", _):
                await fill_once(self.database, self.clock, most=2)
            case ("archive", _):
                await archive_all(self.database, self.clock)
            case ("create", int(place)):
                await self.create(METERS[place % len(METERS)])
            case ("change", int(place)) if self.made:
                key = sorted(self.made)[place % len(self.made)]
                old = self.made[key]
                filters = () if old.filters else METERS[0].filters
                changed = meter_of(old.aggregation, filters=filters)
                self.made[key] = changed
                await update_meter(self.database, changed, at_once=1)

    async def create(self, meter: Meter) -> None:
        if meter.key not in self.made:
            self.made[meter.key] = meter
            await create_meter(self.database, meter, at_once=1)

    async def end(self) -> list[Meter]:
        """Everything sent, every meter made and filled."""
        for meter in METERS:
            await self.create(meter)
        await self.make(("send", len(self.waiting)))
        while await fill_once(self.database, self.clock, most=2):
            pass
        async with self.database.read() as conn:
            return await meters.list_all(conn)

    def counted(self, meter: Meter) -> list[Event]:
        events_ = [event for id_, event in self.sent.items() if id_ not in self.voided]
        return [event for event in events_ if not meter.filters or naive.data_of(event).get("mode") != "test"]


def event_of(number: int, subject: str, time_us: int, data: object) -> Event:
    return Event(f"e{number:02}", "s", "call", subject, time_us, json.dumps(data))


async def check(world: World, intervals: Sequence[tuple[int, int]]) -> None:
    """Every meter answers as a naive fold of the events as they are now."""
    for meter in await world.end():
        counted = world.counted(meter)
        async with world.database.read() as conn:
            for interval in intervals:
                rows = await usage.rows(
                    conn, meter, subjects=None, from_us=interval[0], to_us=interval[1], group_by=["model"]
                )
                assert {
                    (row.window_start_us, row.window_end_us, row.customer, tuple(row.dimensions.values())): (
                        row.value,
                        row.events,
                    )
                    for row in rows
                } == naive.rows(meter, counted, [interval], lambda event: (None, (naive.data_of(event).get("model"),)))
                inside = [event for event in counted if interval[0] <= event.time_us < interval[1]]
                before = [event for event in counted if event.time_us < interval[0]]
                quantity = await usage.quantity(conn, meter, ["a", "b"], *interval)
                assert quantity == usage.Quantity(naive.added_up(meter, inside, interval, before), len(inside))


intervals = st.builds(lambda start, length: (start, start + length), instants, st.integers(1, 3 * DAY_US))


@pytest.mark.no_cover
@settings(max_examples=15, deadline=None)
@given(
    given_=st.lists(st.tuples(st.sampled_from("ab"), instants, contents), min_size=1, max_size=16),
    sequence=st.lists(moves, max_size=24),
    asked=st.lists(intervals, min_size=1, max_size=2),
)
async def test_any_order_of_events_corrections_and_filling_comes_to_what_the_events_say_in_the_end(
    given_: list[tuple[str, int, object]], sequence: list[tuple[object, ...]], asked: list[tuple[int, int]]
) -> None:
    with TemporaryDirectory() as directory:
        async with open_database(Path(directory)) as database:
            world = World(database, [event_of(n, *each) for n, each in enumerate(given_)])
            for move in sequence:
                await world.make(move)
            await check(world, [*asked, (START_US - DAY_US, NOW_US)])


@settings(max_examples=10, deadline=None)
@given(
    given_=st.lists(st.tuples(st.sampled_from("ab"), instants, contents), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
)
async def test_of_events_that_are_all_void_nothing_is_left(given_: list[tuple[str, int, object]], seed: int) -> None:
    with TemporaryDirectory() as directory:
        async with open_database(Path(directory)) as database:
            world = World(database, [event_of(n, *each) for n, each in enumerate(given_)])
            made = await world.end()
            for id_ in random.Random(seed).sample(sorted(world.sent), len(world.sent)):
                await void_event(database, "s", id_, "all wrong", by="key_1", now_us=NOW_US)
            async with database.read() as conn:
                for table in ("rollups", "rollup_values"):
                    assert (await conn.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0
                for meter in made:
                    nothing = naive.added_up(meter, [], (START_US, NOW_US))
                    found = await usage.quantity(conn, meter, ["a", "b"], START_US, NOW_US)
                    assert found == usage.Quantity(nothing, 0)


class Plane:
    """Two meters and one event."""

    def __init__(self, database: Database, made: list[Meter]) -> None:
        self.database = database
        self.clock = ManualClock(NOW_US)
        self.ingest = Ingest(database, self.clock)
        self.meters = made

    async def send(self, id_: str = "1", data: str = '{"n":5}', time_us: int = START_US) -> None:
        await self.ingest.record([Event(id_, "s", "call", "a", time_us, data)])

    async def void(self, id_: str = "1", reason: str = "a test") -> events.StoredEvent:
        return await void_event(self.database, "s", id_, reason, by="key_1", now_us=NOW_US)

    async def correct(self, data: str, id_: str = "1", reason: str = "wrong") -> events.StoredEvent:
        return await correct_event(self.database, "s", id_, data, reason, by="key_1", now_us=NOW_US)

    async def used(self) -> list[str | None]:
        async with self.database.read() as conn:
            found = await usage.quantities(conn, self.meters, ["a"], 0, NOW_US)
        return [None if each.value is None else str(each.value) for each in found]

    async def letters(self, *, replayed: bool = False) -> list[dead_letters.StoredDeadLetter]:
        async with self.database.read() as conn:
            return await dead_letters.page(conn, 100, replayed=replayed)

    async def said(self, id_: str = "1") -> list[str]:
        async with self.database.read() as conn:
            (event,) = await events.find(conn, "s", id_)
            assert event is not None
            place = event.subject, event.seq
            return [each.kind.value for each in (await corrections.of(conn, [place])).get(place, [])]


@pytest.fixture
async def plane(database: Database) -> AsyncIterator[Plane]:
    made = [
        await create_meter(database, new_meter("calls", "call", Aggregation.COUNT, now_us=NOW_US)),
        await create_meter(database, new_meter("units", "call", Aggregation.SUM, value_property="n", now_us=NOW_US)),
    ]
    return Plane(database, made)


async def test_a_void_event_counts_nowhere_and_stays_to_be_seen(plane: Plane) -> None:
    await plane.send()
    assert await plane.used() == ["1", "5"]
    voided = await plane.void()
    assert (voided.voided, voided.data) == (True, '{"n":5}')
    assert await plane.used() == ["0", "0"]
    async with plane.database.read() as conn:
        assert await events.page(conn, 10) == [voided]
        assert await counted_events(conn, plane.meters[0], ["a"], 0, NOW_US, limit=10) == ([], None)


async def test_the_last_correction_counts_and_takes_a_void_back(plane: Plane) -> None:
    await plane.send()
    await plane.correct('{"n":7}')
    await plane.correct('{"n":0.25}', reason="wrong again")
    assert await plane.used() == ["1", "0.25"]
    await plane.void()
    assert await plane.used() == ["0", "0"]
    event = await plane.correct('{"n":8}')
    assert await plane.used() == ["1", "8"]
    assert await plane.said() == ["CORRECT", "CORRECT", "VOID", "CORRECT"]
    async with plane.database.read() as conn:
        (found,), _ = await counted_events(conn, plane.meters[1], ["a"], 0, NOW_US, limit=10)
    assert found == event


async def test_a_correction_sent_again_changes_nothing_and_is_answered_with_the_event_as_it_is(plane: Plane) -> None:
    await plane.send()
    assert await plane.correct('{"n":7}') == await plane.correct('{"n":7}')
    assert await plane.void() == await plane.void()
    assert await plane.said() == ["CORRECT", "VOID"]
    with pytest.raises(Conflict, match="voided already: a test"):
        await plane.void(reason="another reason")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"n":"many"}', "data.n: must be a number: meter 'units' could not count it"),
        ("{}", "data.n: is missing: meter 'units' could not count it"),
        ("[1]", "data: must be a JSON object"),
        ('{"n":1e30}', "data.n: must have up to 18 digits before and 9 after the point: meter"),
    ],
)
async def test_what_a_meter_cannot_count_is_refused_by_field_and_rule_and_nothing_has_changed(
    plane: Plane, data: str, said: str
) -> None:
    await plane.send()
    with pytest.raises(InvalidInput) as refused:
        await plane.correct(data)
    assert str(refused.value).startswith(said)
    assert (await plane.used(), await plane.said(), await plane.letters()) == (["1", "5"], [], [])


async def test_an_event_that_is_not_there_cannot_be_corrected(plane: Plane) -> None:
    with pytest.raises(NotFound, match="there is no event 's/1'"):
        await plane.void()
    with pytest.raises(NotFound):
        await plane.correct("{}")


@pytest.mark.parametrize("reason", ["", " ", "x" * (MAX_REASON + 1)])
async def test_a_correction_says_why(plane: Plane, reason: str) -> None:
    await plane.send()
    with pytest.raises(InvalidInput, match=r"^reason: must be 1 to"):
        await plane.void(reason=reason)
    await plane.void(reason="x" * MAX_REASON)


async def test_an_event_has_as_many_corrections_as_can_be_shown(plane: Plane) -> None:
    await plane.send()
    for number in range(MAX_CORRECTIONS):
        await plane.correct(f'{{"n":{number}}}')
    with pytest.raises(Conflict, match=f"has {MAX_CORRECTIONS} corrections"):
        await plane.correct('{"n":-1}')


async def test_a_correction_settles_the_dead_letter_of_the_meter_that_could_not_count_the_event(plane: Plane) -> None:
    await plane.send(data='{"n":"five"}')
    assert await plane.used() == ["1", "0"]
    (letter,) = await plane.letters()
    await plane.correct('{"n":5}')
    assert (await plane.used(), await plane.letters()) == (["1", "5"], [])
    (settled,) = await plane.letters(replayed=True)
    assert (settled.id, settled.replayed_at_us, settled.replayed_by) == (letter.id, NOW_US, "key_1")
    assert [why.code for why in (await plane.ingest.replay([letter.id], "key_1")).values()] == ["already_replayed"]
    assert await plane.used() == ["1", "5"]


async def test_the_dead_letter_of_a_void_event_cannot_be_replayed(plane: Plane) -> None:
    await plane.send(data='{"n":"five"}')
    await plane.void()
    assert (await plane.used(), await plane.letters()) == (["0", "0"], [])


async def test_who_corrected_what_and_why_is_in_the_audit_log(plane: Plane) -> None:
    await plane.send()
    await plane.correct('{"n":6}')
    await plane.void()
    await plane.void()
    async with plane.database.read() as conn:
        found = (await audit.page(conn, 10))[:3]
    assert [(each.actor, each.action, each.target, json.loads(each.detail).get("reason")) for each in found] == [
        ("key_1", "voidEvent", "event s/1", "a test"),
        ("key_1", "correctEvent", "event s/1", "wrong"),
        ("operator", "createMeter", "meter units", None),
    ]


async def late(database: Database) -> list[tuple[object, ...]]:
    async with database.read() as conn:
        found = await conn.execute(text("SELECT subject, day_us, first_seq FROM late_days ORDER BY 1, 2"))
        return [tuple(row) for row in found]


async def test_what_comes_after_its_day_was_closed_is_noted_once_with_its_first_event(plane: Plane) -> None:
    day_us = START_US - START_US % DAY_US
    await plane.send("early", time_us=day_us)
    await plane.void("early")
    async with plane.database.write() as conn:
        await state.closed_until(conn, day_us + HOUR_US)
    await plane.send("in time", time_us=day_us + HOUR_US)
    assert await late(plane.database) == []
    await plane.send("late", time_us=day_us + HOUR_US - 1)
    await plane.send("late", time_us=day_us + HOUR_US - 1)
    await plane.send("later", time_us=day_us)
    await plane.send("long before", time_us=-1)
    assert await late(plane.database) == [("a", -DAY_US, 5), ("a", day_us, 3)]


async def test_a_correction_after_the_close_is_late_too(plane: Plane) -> None:
    await plane.send()
    async with plane.database.write() as conn:
        await state.closed_until(conn, NOW_US)
    await plane.correct('{"n":6}')
    assert await late(plane.database) == [("a", START_US - START_US % DAY_US, 1)]
