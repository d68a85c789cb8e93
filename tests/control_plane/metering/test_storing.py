"""An event that our own counting cannot cope with becomes a dead letter, and every other event counts."""

import hashlib
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import pytest
from fakes import ManualClock
from naive import OneByOne
from planes import caller, open_database

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import build
from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.metering import usage
from sidemeter_control.metering.batches import NO_DIGEST, Batch, BatchStatus
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import BadEvent, Event, read_array
from sidemeter_control.metering.ingest import Hello, Ingest, Recorded
from sidemeter_control.metering.meters import UNGROUPED, Aggregation, Meter, Reading, new_meter
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.settings import Settings
from sidemeter_control.store import dead_letters
from sidemeter_control.store.database import Database
from sidemeter_control.store.dead_letters import StoredDeadLetter

NOW_US = 1_767_225_600_000_000
TOKENS = new_meter("tokens", "call", Aggregation.SUM, value_property="n", now_us=0)


class Unaddable(int):
    """A number that is fine until it is written."""

    def __divmod__(self, other: int) -> tuple[int, int]:
        raise OverflowError("no text for this")

    def __add__(self, other: int) -> "Unaddable":
        return self

    __radd__ = __add__


class Stumbling(OneByOne):
    """A meter with a mistake in it: events whose id begins with "poison" make it fail as nobody foresaw.

    One whose id begins with "late" reads well, and what it reads cannot be added up.
    """

    def read(self, data: Mapping[str, object], time_us: int, source: str, id_: str) -> tuple[str, Reading] | None:
        if id_.startswith("late"):
            return UNGROUPED, Unaddable()
        if id_.startswith("poison"):
            raise ZeroDivisionError(id_)
        if id_.startswith("away"):
            raise StoreUnavailable("the disk went away")
        return super().read(data, time_us, source, id_)


class Plane:
    """Ingest with one meter that stumbles."""

    def __init__(self, database: Database, meter: Meter) -> None:
        self.database = database
        self.meter = meter
        self.ingest = Ingest(database, ManualClock(NOW_US), reader=Stumbling)

    async def used(self) -> int:
        async with self.database.read() as conn:
            return int((await usage.quantity(conn, self.meter, ["acme"], 0, NOW_US + DAY_US)).value or 0)

    async def letters(self) -> list[StoredDeadLetter]:
        async with self.database.read() as conn:
            return await dead_letters.page(conn, 10_000)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with open_database(tmp_path) as database:
        yield Plane(database, await create_meter(database, TOKENS))


def event(id_: str) -> Event:
    return Event(id_, "chat", "call", "acme", NOW_US, '{"n":1}')


def sealed(number: int, ids: list[str], prev: bytes = NO_DIGEST) -> Batch:
    body = msgspec.msgpack.encode([event(each) for each in ids])
    return Batch("agent", 1, number, prev, hashlib.sha256(prev + body).digest(), body)


def ids(count: int, *poisoned: int) -> list[str]:
    return [f"poison-{n}" if n in poisoned else f"e{n}" for n in range(count)]


POISONED = {
    "the only one": (1, {0}),
    "the first": (9, {0}),
    "the last": (9, {8}),
    "one in the middle": (100, {49}),
    "two neighbours": (10, {4, 5}),
    "every other one": (16, set(range(0, 16, 2))),
    "all": (7, set(range(7))),
    "one of a full batch": (5_000, {3_333}),
    "all of a full batch": (5_000, set(range(5_000))),
}


@pytest.mark.parametrize("name", POISONED)
async def test_a_batch_with_events_that_make_counting_fail_is_counted_but_for_those(plane: Plane, name: str) -> None:
    count, poisoned = POISONED[name]
    await plane.ingest.hello(Hello("agent", "h", "boot", "chat", "1"))
    batch = sealed(1, ids(count, *poisoned))
    answer = await plane.ingest.batch(batch)
    assert answer.status is BatchStatus.OK
    assert answer.recorded == Recorded(count - len(poisoned), 0, len(poisoned))
    assert await plane.used() == count - len(poisoned)
    letters = await plane.letters()
    assert {msgspec.json.decode(letter.raw)["id"] for letter in letters} == {f"poison-{n}" for n in poisoned}
    assert {(each.code, each.agent_id, each.epoch, each.batch_no) for each in letters} == {("internal", "agent", 1, 1)}
    again = await plane.ingest.batch(batch)
    assert (again.status, await plane.used()) == (BatchStatus.DUPLICATE, count - len(poisoned))


async def test_the_letter_names_an_incident_that_the_log_explains(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        await plane.ingest.record([event(each) for each in ids(20, 3, 4, 17)])
    (line,) = [record for record in caplog.records if record.name.endswith("storing")]
    assert line.exc_info
    assert isinstance(line.exc_info[1], ZeroDivisionError)
    incident = line.getMessage().split(":")[0]
    assert incident.startswith("err_")
    assert {letter.reason for letter in await plane.letters()} == {
        f"counting it failed on our side (ZeroDivisionError); its id is {incident}"
    }


@pytest.mark.parametrize("poisoned", [{0}, {7}, {3, 4}, set(range(8))])
async def test_one_that_fails_only_when_it_is_written_is_found_by_halves(plane: Plane, poisoned: set[int]) -> None:
    given = [event(f"late-{n}" if n in poisoned else f"e{n}") for n in range(8)]
    assert await plane.ingest.record(given) == Recorded(8 - len(poisoned), 0, len(poisoned))
    assert await plane.used() == 8 - len(poisoned)
    assert {msgspec.json.decode(letter.raw)["id"] for letter in await plane.letters()} == {
        f"late-{n}" for n in poisoned
    }


async def test_a_poisoned_event_that_is_stored_already_is_a_duplicate(plane: Plane) -> None:
    await Ingest(plane.database, ManualClock(NOW_US)).record([event("poison")])
    assert await plane.ingest.record([event("a"), event("poison")]) == Recorded(1, 1, 0)
    assert (await plane.used(), await plane.letters()) == (2, [])


async def test_an_id_repeated_beside_a_poisoned_event_still_counts_once(plane: Plane) -> None:
    given = [event(each) for each in ("a", "b", "poison", "a", "b", "c")]
    assert await plane.ingest.record(given) == Recorded(3, 2, 1)
    assert await plane.ingest.record(given[:2]) == Recorded(0, 2, 0)
    assert await plane.used() == 3


async def test_a_database_that_gives_no_answer_makes_no_dead_letter_and_stores_nothing(plane: Plane) -> None:
    with pytest.raises(StoreUnavailable):
        await plane.ingest.record([event(each) for each in ("a", "poison", "away", "b")])
    assert (await plane.used(), await plane.letters()) == (0, [])
    assert await plane.ingest.record([event("a")]) == Recorded(1, 0, 0)


async def test_the_callers_without_an_agent_hear_that_a_poisoned_event_is_kept(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        clock = ManualClock(NOW_US)
        gate = Gate(database, clock)
        app = await build(database, gate, Settings(), clock, reader=Stumbling)
        meter = await create_meter(database, TOKENS)
        plane = Plane(database, meter)
        async with caller(app, Authorization=f"Bearer {await gate.first_key(None)}") as http:
            body = [{"id": each, "type": "call", "subject": "acme", "data": {"n": 1}} for each in ids(10, 5)]
            answer = (await http.post("/v1/events", json=body)).json()
            assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (10, 0, [])
            mutation = "mutation($e: [EventInput!]!) { ingest(events: $e) { accepted duplicates rejected { code } } }"
            asked = {"query": mutation, "variables": {"e": [each | {"source": "other"} for each in body]}}
            data = (await http.post("/graphql", json=asked)).json()["data"]
            assert data == {"ingest": {"accepted": 10, "duplicates": 0, "rejected": []}}
        assert await plane.used() == 18
        assert [msgspec.json.decode(each.raw)["source"] for each in await plane.letters()] == ["other", "http"]


def test_whatever_bytes_arrive_are_events_unreadable_ones_or_no_array() -> None:
    good = msgspec.msgpack.encode([event("a"), event("b")])
    for place in range(len(good)):
        for byte in range(0, 256, 5):
            broken = good[:place] + bytes([byte]) + good[place + 1 :]
            try:
                read_array(broken)
            except BadEvent:
                continue
