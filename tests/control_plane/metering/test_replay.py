"""A dead letter is counted after all, exactly, once, and says so; one that still cannot be counted stays."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from fakes import ManualClock
from hypothesis import given
from hypothesis import strategies as st
from naive import OneByOne
from planes import open_database

from sidemeter_control.errors import InvalidInput, StoreUnavailable
from sidemeter_control.metering import usage
from sidemeter_control.metering.batches import NO_DIGEST, Batch
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import FIRST_US, LAST_US, Event, json_of
from sidemeter_control.metering.formats import Form, read_events
from sidemeter_control.metering.ingest import Hello, Ingest, Recorded
from sidemeter_control.metering.meters import Aggregation, Meter, Reader, Reading, new_meter
from sidemeter_control.metering.replay import MAX_REPLAYED
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.store import dead_letters, events
from sidemeter_control.store.database import Database
from sidemeter_control.store.dead_letters import StoredDeadLetter

NOW_US = 1_767_225_600_000_000
HOUR_US = 3_600_000_000
METERS = [
    new_meter("calls", "call", Aggregation.COUNT, now_us=0),
    new_meter("tokens", "call", Aggregation.SUM, value_property="n", now_us=0),
    new_meter("latest", "call", Aggregation.LATEST, value_property="n", now_us=0),
]


class Older(OneByOne):
    """How a version with a mistake reads: events called "poison" break it, and texts are no numbers to it."""

    def read(self, data: Mapping[str, object], time_us: int, source: str, id_: str) -> tuple[str, Reading] | None:
        if id_.startswith("poison"):
            raise ZeroDivisionError
        return super().read(data if not isinstance(data.get("n"), str) else {"n": None}, time_us, source, id_)


class Away(OneByOne):
    """A reader for which the database goes away."""

    def read(self, data: Mapping[str, object], time_us: int, source: str, id_: str) -> tuple[str, Reading] | None:
        raise StoreUnavailable("the disk went away")


class Plane:
    """A control plane whose program is replaced by another version under the test's hands."""

    def __init__(self, database: Database, meters: list[Meter]) -> None:
        self.database = database
        self.clock = ManualClock(NOW_US)
        self.meters = meters
        self.run(Reader)

    def run(self, reader: Callable[[Meter], Reader]) -> None:
        self.ingest = Ingest(self.database, self.clock, reader=reader)

    async def letters(self, *, replayed: bool = False) -> list[StoredDeadLetter]:
        """Oldest first."""
        async with self.database.read() as conn:
            return (await dead_letters.page(conn, 10_000, replayed=replayed))[::-1]

    async def replay(self, *ids: int) -> dict[int, str]:
        """Replay those letters, or all that wait; the codes of those refused, by place."""
        asked = ids or [each.id for each in await self.letters()]
        return {place: why.code for place, why in (await self.ingest.replay(asked, "key_1")).items()}

    async def totals(self) -> list[str | None]:
        async with self.database.read() as conn:
            found = await usage.quantities(conn, self.meters, ["acme"], 0, NOW_US + 400 * DAY_US)
        return [None if each.value is None else str(each.value) for each in found]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with open_database(tmp_path) as database:
        yield Plane(database, [await create_meter(database, meter) for meter in METERS])


def event(id_: str, n: str = "1", *, ahead_us: int = 0) -> Event:
    return Event(id_, "chat", "call", "acme", NOW_US + ahead_us, f'{{"n":{n}}}')


async def test_an_event_of_the_future_is_counted_once_its_time_has_come(plane: Plane) -> None:
    exact = "123456789012345678.123456789"
    await plane.ingest.record([event("a", exact, ahead_us=2 * HOUR_US)])
    assert await plane.replay() == {0: "time_in_future"}
    assert await plane.totals() == ["0", "0", None]
    plane.clock.advance(2 * 3600)
    assert await plane.replay() == {}
    assert await plane.totals() == ["1", exact, exact]
    assert await plane.letters() == []
    (letter,) = await plane.letters(replayed=True)
    assert (letter.replayed_at_us, letter.replayed_by) == (NOW_US + 2 * HOUR_US, "key_1")


async def test_what_an_older_version_failed_for_is_counted_by_the_next(plane: Plane) -> None:
    plane.run(Older)
    await plane.ingest.hello(Hello("agent", "h", "boot", "chat", "1"))
    body = msgspec.msgpack.encode([event("a"), event("poison", "0.10"), event("text", '"2.5"')])
    digest = hashlib.sha256(NO_DIGEST + body).digest()
    answer = await plane.ingest.batch(Batch("agent", 1, 1, NO_DIGEST, digest, body))
    assert answer.recorded == Recorded(2, 0, 1)
    assert await plane.totals() == ["2", "1", "1"]
    waiting = {(letter.code, letter.meter_key) for letter in await plane.letters()}
    assert waiting == {("internal", None), ("value_missing", "tokens"), ("value_missing", "latest")}
    assert set((await plane.replay()).values()) == {"internal", "value_missing"}
    plane.run(Reader)
    assert await plane.replay() == {}
    assert await plane.totals() == ["3", "3.6", "2.5"]
    assert await plane.letters() == []


async def test_bytes_that_no_version_could_read_stay_and_those_this_one_can_read_are_counted(plane: Plane) -> None:
    await plane.ingest.hello(Hello("agent", "h", "boot", "chat", "1"))
    good = event("good", "0.30")
    body = msgspec.msgpack.encode([7, 123, ["x"], b"\xff", {"a": 1}, ["y", "s", "call", "", 0, None]])
    digest = hashlib.sha256(NO_DIGEST + body).digest()
    await plane.ingest.batch(Batch("agent", 1, 1, NO_DIGEST, digest, body))
    async with plane.database.write() as conn:  # as an older version would have kept it, that could not read it
        letter = dead_letters.DeadLetter.of("too_deep", "data: too deep", msgspec.msgpack.encode(good), NOW_US, None)
        await dead_letters.add(conn, [letter])
    before = await plane.letters()
    assert set((await plane.replay()).values()) == {"invalid_input"}
    assert await plane.totals() == ["1", "0.3", "0.3"]
    assert [(each.id, each.raw) for each in await plane.letters()] == [(each.id, each.raw) for each in before[:-1]]


async def test_replayed_twice_alone_or_together_it_counts_once(plane: Plane) -> None:
    plane.run(Older)
    await plane.ingest.record([event("poison"), event("text", '"5"')])
    plane.run(Reader)
    ids = [each.id for each in await plane.letters()]
    assert await plane.replay(*ids) == {}
    assert await plane.replay(*ids) == dict.fromkeys(range(len(ids)), "already_replayed")
    assert await plane.totals() == ["2", "6", "5"]
    with pytest.raises(InvalidInput, match="ids: must not name a letter twice"):
        await plane.replay(ids[0], ids[0])


async def test_an_event_that_came_again_and_was_counted_meanwhile_is_not_counted_twice(plane: Plane) -> None:
    plane.run(Older)
    await plane.ingest.record([event("poison")])
    await plane.ingest.record([event("poison")])
    plane.run(Reader)
    await plane.ingest.record([event("poison")])
    assert len(await plane.letters()) == 2
    assert await plane.replay() == {}
    assert (await plane.totals(), await plane.letters()) == (["1", "1", "1"], [])


async def test_what_there_is_not_is_named_and_the_others_are_counted(plane: Plane) -> None:
    await plane.ingest.record([event("a", ahead_us=2 * HOUR_US), event("b", ahead_us=5 * HOUR_US)])
    plane.clock.advance(3 * 3600)
    first, second = (each.id for each in await plane.letters())
    assert await plane.replay(999, first, second) == {0: "not_found", 2: "time_in_future"}
    assert (await plane.totals())[0] == "1"


async def test_the_reason_of_a_letter_that_stays_is_the_one_of_now(plane: Plane) -> None:
    plane.run(Older)
    await plane.ingest.record([event("text", '"x"')])
    (first, _) = await plane.letters()
    assert first.code == "value_missing"
    plane.run(Reader)
    assert await plane.replay(first.id) == {0: "value_not_a_number"}
    (letter, other) = await plane.letters()
    assert (letter.id, letter.code) == (first.id, "value_not_a_number")
    assert other.code == "value_missing"


async def test_a_database_that_gives_no_answer_leaves_every_letter_where_it_was(plane: Plane) -> None:
    plane.run(Older)
    await plane.ingest.record([event("poison"), event("text", '"5"')])
    before = await plane.letters()
    plane.run(Away)
    with pytest.raises(StoreUnavailable):
        await plane.replay()
    assert await plane.letters() == before
    async with plane.database.read() as conn:
        assert [each.id for each in await events.page(conn, 10)] == ["text"]


@pytest.mark.parametrize("count", [MAX_REPLAYED - 1, MAX_REPLAYED, MAX_REPLAYED + 1])
async def test_as_many_letters_as_allowed_are_replayed_in_one_call_and_not_one_more(plane: Plane, count: int) -> None:
    await plane.ingest.record([event(f"e{n}", ahead_us=2 * HOUR_US) for n in range(count)])
    plane.clock.advance(2 * 3600)
    if count > MAX_REPLAYED:
        with pytest.raises(InvalidInput, match=f"ids: must be at most {MAX_REPLAYED}"):
            await plane.replay()
        assert (await plane.totals())[0] == "0"
    else:
        assert await plane.replay() == {}
        assert (await plane.totals())[0] == str(count)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
DATA = st.none() | st.sampled_from(
    ["{}", '{"n": 0.10}', '{"n":1e400,"m":[1.50,"ü"]}', '{ "a" : 12345678901234567890.5 }']
)


@given(st.builds(Event, NAMES, NAMES, NAMES, NAMES, st.integers(FIRST_US, LAST_US), DATA))
def test_the_json_of_an_event_reads_back_as_that_event_digit_for_digit(kept: Event) -> None:
    found = read_events(Form.JSON, json_of(kept), lambda: "minted", 0)
    assert (found.events, found.rejected) == ([kept], [])
