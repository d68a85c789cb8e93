"""Every event is counted exactly once, whatever is repeated, reordered, forked or broken."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from fakes import ManualClock
from planes import open_database

from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.metering import usage
from sidemeter_control.metering.batches import NO_DIGEST, Batch, BatchStatus
from sidemeter_control.metering.catalogue import archive_meter, create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import BatchAnswer, Hello, Ingest, Recorded
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.metering.rollups import DAY_US
from sidemeter_control.store import agents, dead_letters, events
from sidemeter_control.store.database import Database
from sidemeter_control.store.dead_letters import StoredDeadLetter

pytestmark = [pytest.mark.both_databases, pytest.mark.spread]

NOW_US = 1_767_225_600_000_000
CALLS = new_meter("calls", "call", Aggregation.COUNT, now_us=0)
TOKENS = new_meter("tokens", "call", Aggregation.SUM, value_property="n", now_us=0)


class Plane:
    """A control plane's ingest with two meters, and an agent that seals batches."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database = database
        self.clock = clock
        self.ingest = Ingest(database, clock)

    async def hello(self, hello_id: str = "h1") -> tuple[int, int]:
        begun = await self.ingest.hello(Hello("agent", hello_id, "boot", "chat", "1"))
        return begun.cursor.epoch, begun.cursor.next_batch_no

    async def used(self) -> tuple[int, int]:
        """Counted calls and tokens of everybody."""
        async with self.database.read() as conn:
            found = await usage.quantities(conn, self.meters, ["acme", "other"], 0, NOW_US + 400 * DAY_US)
        return tuple(int(each.value or 0) for each in found)  # type: ignore[return-value]

    async def letters(self) -> list[StoredDeadLetter]:
        async with self.database.read() as conn:
            return await dead_letters.page(conn, 100)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with open_database(tmp_path) as database:
        made = Plane(database, ManualClock(NOW_US))
        made.meters = [await create_meter(database, meter) for meter in (CALLS, TOKENS)]  # type: ignore[attr-defined]
        yield made


def rows(*numbers: int, **changed: object) -> list[object]:
    base = {"source": "chat", "type": "call", "subject": "acme", "time_us": NOW_US} | changed
    return [
        [f"e{n}", base["source"], base["type"], base["subject"], base["time_us"], changed.get("data", f'{{"n":{n}}}')]
        for n in numbers
    ]


def sealed(number: int, elements: object, prev: bytes = NO_DIGEST, epoch: int = 1) -> Batch:
    body = msgspec.msgpack.encode(elements)
    return Batch("agent", epoch, number, prev, hashlib.sha256(prev + body).digest(), body)


def ok(number: int, accepted: int = 0, duplicates: int = 0, dead: int = 0) -> BatchAnswer:
    return BatchAnswer(BatchStatus.OK, number + 1, None, Recorded(accepted, duplicates, dead))


async def test_batches_in_order_are_counted_and_a_repeat_is_answered_from_the_stored_digest(plane: Plane) -> None:
    assert await plane.hello() == (1, 1)
    first = sealed(1, rows(1, 2))
    second = sealed(2, rows(3), first.digest)
    assert await plane.ingest.batch(first) == ok(1, 2)
    assert await plane.ingest.batch(second, backlog=7, oldest_pending_us=5) == ok(2, 1)
    assert await plane.ingest.batch(first) == BatchAnswer(BatchStatus.DUPLICATE, 3)
    assert await plane.used() == (3, 6)
    async with plane.database.read() as conn:
        (known,) = await agents.list_all(conn)
    assert (known.backlog, known.oldest_pending_us, known.epoch) == (7, 5, 1)


async def test_a_hello_sent_again_gets_its_epoch_and_where_it_stands(plane: Plane) -> None:
    assert await plane.hello("h1") == (1, 1)
    await plane.ingest.batch(sealed(1, rows(1)))
    assert await plane.hello("h1") == (1, 2)
    assert await plane.hello("h2") == (2, 1)
    assert await plane.hello("h1") == (1, 2)
    assert await plane.hello("h3") == (3, 1)


async def test_batches_of_an_older_epoch_go_on_at_its_own_cursor_and_count_nothing_twice(plane: Plane) -> None:
    await plane.hello("h1")
    first = sealed(1, rows(1, 2))
    await plane.ingest.batch(first)
    await plane.hello("h2")
    assert await plane.ingest.batch(sealed(1, rows(1, 2, 3), epoch=2)) == ok(1, 1, 2)
    assert await plane.ingest.batch(sealed(2, rows(3, 4), first.digest)) == ok(2, 1, 1)
    assert await plane.used() == (4, 10)


async def test_what_the_cursor_does_not_expect_changes_nothing(plane: Plane) -> None:
    unknown = await plane.ingest.batch(sealed(1, rows(1)))
    assert (unknown.status, unknown.next_batch_no) == (BatchStatus.UNKNOWN_EPOCH, 1)
    await plane.hello()
    gap = await plane.ingest.batch(sealed(2, rows(1)))
    assert (gap.status, gap.next_batch_no) == (BatchStatus.GAP, 1)
    await plane.ingest.batch(sealed(1, rows(1)))
    assert (await plane.ingest.batch(sealed(1, rows(2)))).status is BatchStatus.FORK
    assert (await plane.ingest.batch(sealed(2, rows(2), bytes(31) + b"x"))).status is BatchStatus.FORK
    assert await plane.used() == (1, 1)


@pytest.mark.parametrize("elements", [None, 1, "x", {"a": 1}])
async def test_events_that_are_no_array_refuse_the_batch_and_leave_the_cursor(plane: Plane, elements: object) -> None:
    await plane.hello()
    assert (await plane.ingest.batch(sealed(1, elements))).status is BatchStatus.REFUSED
    assert await plane.ingest.batch(sealed(1, rows(1))) == ok(1, 1)


async def test_an_id_repeated_within_a_batch_counts_once_and_the_same_id_of_another_source_counts(plane: Plane) -> None:
    await plane.hello()
    assert await plane.ingest.batch(sealed(1, rows(1, 2, 1) + rows(1, source="mail"))) == ok(1, 3, 1)
    assert await plane.used() == (3, 4)


DEEP = '{"a":' * 17 + "1" + "}" * 17
BAD = {
    "not an array": (7, "invalid_input", "event"),
    "too short": (["x"], "invalid_input", "event"),
    "no text": ([1, "s", "call", "acme", 0, None], "invalid_input", "id"),
    "an empty subject": (["x", "s", "call", "", 0, None], "invalid_input", "subject"),
    "a long type": (["x", "s", "c" * 129, "acme", 0, None], "invalid_input", "type"),
    "NUL": (["x", "s\0", "call", "acme", 0, None], "invalid_input", "source"),
    "a time of the year 10000": (["x", "s", "call", "acme", 253_402_300_800_000_000, None], "invalid_input", "time_us"),
    "data that is no JSON": (["x", "s", "call", "acme", 0, "{"], "invalid_input", "data"),
    "data that is no object": (["x", "s", "call", "acme", 0, "[1]"], "invalid_input", "data"),
    "NaN": (["x", "s", "call", "acme", 0, '{"n":NaN}'], "invalid_input", "data"),
    "a lone surrogate": (["x", "s", "call", "acme", 0, '{"n":"\\ud800"}'], "invalid_input", "data"),
    "a number without end": (["x", "s", "call", "acme", 0, '{"n":' + "9" * 5000 + "}"], "invalid_input", "data"),
    "an exponent without end": (["x", "s", "call", "acme", 0, '{"n":1e99999999999999999999}'], "invalid_input", "data"),
    "too large": (["x", "s", "call", "acme", 0, '{"n":"' + "x" * 65536 + '"}'], "too_large", "data"),
    "too large in bytes": (["x", "s", "call", "acme", 0, '{"n":"' + "ü" * 32768 + '"}'], "too_large", "data"),
    "too deep": (["x", "s", "call", "acme", 0, DEEP], "too_deep", "data"),
    "much too deep": (["x", "s", "call", "acme", 0, '{"n":' + "[" * 5000 + "]" * 5000 + "}"], "too_deep", "data"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_event_becomes_a_dead_letter_with_its_bytes_and_the_others_count(plane: Plane, name: str) -> None:
    element, code, field = BAD[name]
    await plane.hello()
    assert await plane.ingest.batch(sealed(1, [*rows(1), element, *rows(2)])) == ok(1, 2, dead=1)
    assert await plane.used() == (2, 3)
    (letter,) = await plane.letters()
    assert (letter.code, letter.reason.split(":")[0], letter.meter_key) == (code, field, None)
    assert (letter.agent_id, letter.epoch, letter.batch_no) == ("agent", 1, 1)
    assert msgspec.msgpack.decode(letter.raw) == element


async def test_bytes_that_are_no_text_are_a_dead_letter_too(plane: Plane) -> None:
    await plane.hello()
    good = msgspec.msgpack.encode(rows(1)[0])
    body = b"\x92" + good + good.replace(b"\xa4acme", b"\xa4\xff\xfe\xfd\xfc").replace(b"\xa2e1", b"\xa2e2")
    batch = Batch("agent", 1, 1, NO_DIGEST, hashlib.sha256(NO_DIGEST + body).digest(), body)
    assert await plane.ingest.batch(batch) == ok(1, 1, dead=1)


async def test_a_value_one_meter_cannot_add_up_is_a_dead_letter_for_that_meter_only(plane: Plane) -> None:
    await plane.hello()
    lines = [rows(n, data=data)[0] for n, data in enumerate(['{"n":1e400}', '{"n":"x"}', "{}", None, '{"n":"2"}'])]
    assert await plane.ingest.batch(sealed(1, lines)) == ok(1, 5)
    assert await plane.used() == (5, 2)
    letters = await plane.letters()
    assert {letter.meter_key for letter in letters} == {"tokens"}
    assert sorted(letter.code for letter in letters) == [
        "value_missing",
        "value_missing",
        "value_not_a_number",
        "value_out_of_range",
    ]
    assert json.loads(letters[-1].raw) == {
        "id": "e0",
        "source": "chat",
        "type": "call",
        "subject": "acme",
        "time": "2026-01-01T00:00:00+00:00",
        "data": {"n": float("inf")},
    }


async def test_an_event_of_the_far_future_is_kept_as_a_dead_letter_and_one_of_the_past_counts(plane: Plane) -> None:
    hour_us = 3_600_000_000
    answer = await plane.ingest.record(
        [
            Event("1", "s", "call", "acme", NOW_US + hour_us, '{"n":1}'),
            Event("2", "s", "call", "acme", NOW_US + hour_us + 1, '{"n":2}'),
            Event("3", "s", "call", "acme", 0, '{"n":4}'),
        ]
    )
    assert answer == Recorded(2, 0, 1)
    assert await plane.used() == (2, 5)
    assert [letter.code for letter in await plane.letters()] == ["time_in_future"]


async def test_a_new_meter_is_filled_from_stored_events_and_counts_new_ones(plane: Plane) -> None:
    await plane.ingest.record(
        [Event(str(n), "s", "call", "acme", NOW_US - n * DAY_US, f'{{"n":{n}}}') for n in range(9)]
    )
    meter = await create_meter(
        plane.database, new_meter("most", "call", Aggregation.MAX, value_property="n", now_us=NOW_US)
    )
    await plane.ingest.record([Event("new", "s", "call", "acme", NOW_US, '{"n":50}')])
    async with plane.database.read() as conn:
        assert (await usage.quantity(conn, meter, ["acme"], 0, NOW_US)).value == 8
        assert (await usage.quantity(conn, meter, ["acme"], 0, NOW_US + 1)).value == 50


async def test_a_key_is_given_once_and_an_archived_meter_goes_on_counting(plane: Plane) -> None:
    with pytest.raises(Conflict, match="calls"):
        await create_meter(plane.database, CALLS)
    archived = await archive_meter(plane.database, "calls", NOW_US)
    assert (await archive_meter(plane.database, "calls", NOW_US + 5)) == archived
    assert archived.archived_at_us == NOW_US
    with pytest.raises(NotFound):
        await archive_meter(plane.database, "none", NOW_US)
    await plane.ingest.record([Event("1", "s", "call", "acme", NOW_US, '{"n":1}')])
    assert await plane.used() == (1, 1)


async def test_pages_of_events_and_dead_letters_are_newest_first_without_gap_or_repeat(plane: Plane) -> None:
    made = [Event(f"e{n}", "s", "call", "ab"[n % 2], NOW_US - n // 3, "{}") for n in range(20)]
    await plane.ingest.record(made)
    async with plane.database.read() as conn:
        for subjects in (None, ["a", "b"], ["a"]):
            seen: list[str] = []
            after = None
            while page := await events.page(conn, 3, after=after, subjects=subjects, from_us=NOW_US - 5, to_us=NOW_US):
                seen += [event.id for event in page]
                after = page[-1].position
            wanted = [e for e in made if NOW_US - 5 <= e.time_us < NOW_US and e.subject in (subjects or "ab")]
            assert sorted(seen) == sorted(event.id for event in wanted)
            times = {event.id: event.time_us for event in made}
            assert [times[each] for each in seen] == sorted((times[each] for each in seen), reverse=True)
        first = await dead_letters.page(conn, 5)
        assert [each.id for each in await dead_letters.page(conn, 99, before=first[-1].id)] == [
            each.id for each in await dead_letters.page(conn, 99)
        ][5:]
        assert await events.page(conn, 3, type="none") == []
