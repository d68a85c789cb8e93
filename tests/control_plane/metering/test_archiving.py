"""Events of old months go into files and stay explainable: each once, whatever ends the process that moves them."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from archives import archive_all, files_of, path_of
from fakes import ManualClock
from shop import us
from sqlalchemy import text

from sidemeter_control.errors import ArchiveUnavailable, Conflict, InvalidInput, StoreUnavailable
from sidemeter_control.metering import archiving, months
from sidemeter_control.metering.archiving import Archiving, archive, survey
from sidemeter_control.metering.events import LAST_US, Event
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.unarchived import Sizes
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store import archive_files, archived, audit, events
from sidemeter_control.store.archived import Place
from sidemeter_control.store.database import Database

NOW_US = us("2026-11-21")
AUGUST, SEPTEMBER, NOVEMBER = us("2026-08-01"), us("2026-09-01"), us("2026-11-01")

pytestmark = pytest.mark.both_databases


def event_of(number: int, time_us: int, data: object = None, subject: str = "acme") -> Event:
    said = None if data is None else json.dumps(data)
    return Event(f"e{number}", "s", "call", subject, time_us, said)


def some(count: int = 30) -> list[Event]:
    """Events of August, September and November, a third each; every fifth has no data."""
    begins = (AUGUST, SEPTEMBER, NOVEMBER)
    return [
        event_of(n, begins[n % 3] + n * 3_600_000_000, None if n % 5 == 4 else {"n": f"{n}.50"}, "acmeöß"[: 1 + n % 6])
        for n in range(count)
    ]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


async def send(database: Database, clock: ManualClock, wanted: Sequence[Event]) -> int:
    return (await Ingest(database, clock).record(wanted)).accepted


async def stored(database: Database) -> dict[str, str | None]:
    """What the table itself says of each event."""
    async with database.read() as conn:
        rows = (await conn.execute(text("SELECT id, data FROM events"))).all()
    return {row.id: row.data for row in rows}


async def said(database: Database) -> list[Event]:
    """Every event as it is read, whatever it is asked by, which is the same by every way."""
    async with database.read() as conn:
        pages = await events.page(conn, 1000)
        everything = Interval(0, LAST_US)
        within = [event async for part in events.within(conn, everything, ["call"], None) for event in part]
        subjects = sorted({event.subject for event in pages})
        by_subject = await events.page(conn, 1000, subjects=subjects)
        in_order = await events.in_order(conn, everything, "call", subjects, limit=1000)
        after = await events.in_order(conn, everything, "call", subjects, limit=1000, after=in_order[0])
        numbered = await events.of_type(conn, "call", 0, 10_000, 1000)
        found = [each for of in pages for each in await events.find(conn, of.source, of.id)]
    async with database.snapshot() as snapshot:
        asked = await snapshot.ask(lambda conn: events.page(conn, 1000))
    assert by_subject == pages == found == asked
    as_events = by_id(Event(e.id, e.source, e.type, e.subject, e.time_us, e.data) for e in pages)
    assert by_id(within) == by_id(in_order) == as_events == by_id(event for _, event in numbered)
    assert after == in_order[1:]
    return as_events


def by_id(them: Iterable[Event]) -> list[Event]:
    return sorted(them, key=lambda event: event.id)


def in_files(database: Database, files: Sequence[archived.ArchiveFile]) -> list[tuple[str, str | None]]:
    """The id and the data of every row of those files, read by somebody else's means."""
    rows = []
    for file in files:
        table = pq.read_table(path_of(database, file))
        assert table.num_rows == file.events
        rows += zip(table.column("id").to_pylist(), table.column("data").to_pylist(), strict=True)
    return rows


async def test_what_is_over_is_in_files_and_everything_still_reads_it(database: Database, clock: ManualClock) -> None:
    sent = some()
    await send(database, clock, sent)
    before = await said(database)

    done = await archive_all(database, clock)

    assert (done.files, done.events, done.expected) == (2, 20, 20)
    assert await said(database) == before == by_id(sent)
    old = {event.id: event.data for event in sent if event.time_us < NOVEMBER}
    table = await stored(database)
    assert {id_ for id_, data in table.items() if archived.is_archived(data)} == set(old)
    assert all(data == "@" for id_, data in table.items() if id_ in old and old[id_] is None)
    files = await files_of(database)
    rows = in_files(database, files)
    assert dict(rows) == old
    assert len(rows) == len(old)
    assert [months.name(file.month_us) for file in files] == ["2026-08", "2026-09"]
    assert sum(file.data_bytes for file in files) == sum(len(data) for data in old.values() if data)
    for file in files:
        assert path_of(database, file).stat().st_size == file.size_bytes
        assert path_of(database, file).stat().st_mode & 0o777 == 0o600
        assert file.detached_at_us == NOW_US


async def test_a_file_is_sorted_packed_and_has_every_column(database: Database, clock: ManualClock) -> None:
    await send(database, clock, some())
    await archive_all(database, clock)
    file = (await files_of(database))[0]
    parquet = pq.ParquetFile(path_of(database, file))
    assert parquet.schema_arrow.names == ["seq", "source", "id", "type", "subject", "time", "received_at", "data"]
    assert str(parquet.schema_arrow.field("time").type) == "timestamp[us, tz=UTC]"
    group = parquet.metadata.row_group(0)
    assert {group.column(place).compression for place in range(8)} == {"ZSTD"}
    assert group.column(4).statistics.min == "a"
    rows = parquet.read().to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["subject"].encode(), row["time"], row["seq"]))
    assert [column.column_index for column in group.sorting_columns] == [4, 5, 0]


async def test_an_archived_event_is_known_for_ever(database: Database, clock: ManualClock) -> None:
    sent = some()
    assert await send(database, clock, sent) == len(sent)
    await archive_all(database, clock)
    clock.advance(20 * 365 * 86_400)
    assert await send(database, clock, [*sent, *some()]) == 0
    assert await said(database) == by_id(sent)


async def test_what_comes_late_goes_into_a_later_file(database: Database, clock: ManualClock) -> None:
    sent = some()
    await send(database, clock, sent)
    await archive_all(database, clock)
    late = [event_of(100, AUGUST + 5, {"n": "1"}), event_of(101, NOVEMBER, {"n": "2"}), event_of(102, us("2026-07-04"))]
    await send(database, clock, late)
    assert (await archive_all(database, clock)).events == 2
    assert (await archive_all(database, clock)).files == 0
    files = await files_of(database)
    assert [months.name(file.month_us) for file in files] == ["2026-08", "2026-09", "2026-07", "2026-08"]
    rows = in_files(database, files)
    assert len(rows) == len(dict(rows)) == 22
    assert await said(database) == by_id([*sent, *late])


async def test_a_month_is_cut_into_files_of_bounded_size(database: Database, clock: ManualClock) -> None:
    sent = [event_of(n, AUGUST + n % 3, {"n": str(n)}) for n in range(11)]
    await send(database, clock, sent)
    await archive_all(database, clock, sizes=Sizes(file_events=4, read=2))
    files = await files_of(database)
    assert [file.events for file in files] == [4, 4, 3]
    assert len(dict(in_files(database, files))) == 11
    assert await said(database) == by_id(sent)


async def test_a_file_ends_where_its_data_is_enough(database: Database, clock: ManualClock) -> None:
    sent = [event_of(n, AUGUST + n, {"n": "x" * 7}) for n in range(5)]  # 16 bytes each
    await send(database, clock, sent)
    await archive_all(database, clock, sizes=Sizes(file_bytes=30, read=1))
    assert [file.data_bytes for file in await files_of(database)] == [32, 32, 16]
    assert await said(database) == by_id(sent)


@pytest.mark.parametrize("step", [0, 1, 3, 5])
async def test_whatever_step_was_the_last_the_next_run_ends_it(
    database: Database, clock: ManualClock, step: int
) -> None:
    sent = some()
    await send(database, clock, sent)
    steps = archive(database, clock, NOVEMBER, "key_1", sizes=Sizes(detached=4))
    async with aclosing(steps):
        for _ in range(step):
            if await anext(steps, None) is None:
                break
    assert await said(database) == by_id(sent)
    await send(database, clock, [event_of(200, AUGUST, {"n": "late"})])
    await archive_all(database, clock)
    rows = in_files(database, await files_of(database))
    assert len(rows) == len(dict(rows)) == 21
    assert await said(database) == by_id([*sent, event_of(200, AUGUST, {"n": "late"})])
    assert not list(database.archive.directory.glob("*.part"))


class Killed(BaseException):
    """Stands for a process that ends there."""


def dying(work: Callable[..., object], after: bool) -> Callable[..., object]:
    def die(*args: object, **more: object) -> object:
        if after:
            work(*args, **more)
        raise Killed

    return die


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["write", "named", "_write_down"])
async def test_a_process_that_ends_around_a_files_name_leaves_nothing_in_the_way(
    database: Database, clock: ManualClock, where: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = some()
    await send(database, clock, sent)
    with monkeypatch.context() as changed:
        if where == "_write_down":
            original = archiving._Writing._write_down

            async def write_down(self: archiving._Writing, file: archived.ArchiveFile) -> None:
                if after:
                    await original(self, file)
                raise Killed

            changed.setattr(archiving._Writing, "_write_down", write_down)
        elif where == "write":
            changed.setattr(archive_files.Part, "write", dying(archive_files.Part.write, after))
        else:
            changed.setattr(archive_files, "named", dying(archive_files.named, after))
        with pytest.raises(Killed):
            await archive_all(database, clock)
    assert await said(database) == by_id(sent)
    await archive_all(database, clock)
    assert await said(database) == by_id(sent)
    files = await files_of(database)
    assert {path.name for path in database.archive.directory.iterdir()} == {file.name for file in files}
    assert len(dict(in_files(database, files))) == 20


async def test_two_that_archive_at_once_put_no_event_into_two_files(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(database, clock, some())
    original = archiving._Writing.file

    async def overtaken(self: archiving._Writing, *draft: Any) -> None:
        monkeypatch.setattr(archiving._Writing, "file", original)
        await archive_all(database, ManualClock(NOW_US + 1))
        await original(self, *draft)

    monkeypatch.setattr(archiving._Writing, "file", overtaken)
    with pytest.raises(Conflict, match="another process archives meanwhile"):
        await archive_all(database, clock)
    assert (await archive_all(database, clock)).files == 0
    rows = in_files(database, await files_of(database))
    assert len(rows) == len(dict(rows)) == 20
    assert await said(database) == by_id(some())


async def test_two_may_take_the_events_of_one_file_out_of_the_table(database: Database, clock: ManualClock) -> None:
    await send(database, clock, some())
    one, other = (archive(database, clock, NOVEMBER, by) for by in ("key_1", "key_2"))
    async with aclosing(one), aclosing(other):
        await anext(one)  # its first file is written, and no event has left
        await anext(other)
        await anext(one)
    await archive_all(database, clock)
    async with database.read() as conn:
        assert len(await audit.page(conn, 10)) == 2
    assert await said(database) == by_id(some())


async def test_an_event_that_is_not_in_the_file_to_the_letter_stays(database: Database, clock: ManualClock) -> None:
    await send(database, clock, some())
    steps = archive(database, clock, NOVEMBER, "key_1")
    async with aclosing(steps):
        await anext(steps)
    async with database.write() as conn:
        await conn.execute(text("UPDATE events SET data = '{\"n\": \"other\"}' WHERE id = 'e0'"))
    with pytest.raises(ArchiveUnavailable, match="says otherwise than the database of event s/e0"):
        await archive_all(database, clock)
    assert (await stored(database))["e0"] == '{"n": "other"}'


async def test_a_file_that_was_never_there_is_written_anew(database: Database, clock: ManualClock) -> None:
    """A copy of the database that was made in between, and a directory that was not."""
    await send(database, clock, some())
    steps = archive(database, clock, NOVEMBER, "key_1")
    async with aclosing(steps):
        await anext(steps)
    for path in database.archive.directory.iterdir():
        path.unlink()
    await archive_all(database, clock)
    rows = in_files(database, await files_of(database))
    assert len(rows) == len(dict(rows)) == 20


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def take_another(path: Path) -> None:
    other = next(each for each in path.parent.iterdir() if each != path)
    content = other.read_bytes()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (Path.unlink, "there is no such file, which holds 10 archived events"),
        (cut, "were written"),
        (flip, "is damaged, or another"),
        (take_another, "were written|is damaged, or another"),
    ],
    ids=["missing", "truncated", "damaged", "foreign"],
)
async def test_a_file_that_is_not_what_was_written_is_named_and_the_rest_goes_on(
    database: Database, clock: ManualClock, harm: Callable[[Path], None], why: str
) -> None:
    sent = some()
    await send(database, clock, sent)
    await archive_all(database, clock)
    path = path_of(database, (await files_of(database))[0])
    harm(path)
    august, later = Interval(AUGUST, SEPTEMBER), Interval(SEPTEMBER, LAST_US)
    async with database.read() as conn:
        with pytest.raises(ArchiveUnavailable, match=why) as refused:
            await events.page(conn, 100, from_us=august.from_us, to_us=august.to_us)
        assert str(path) in str(refused.value)
        assert refused.value.code == "ARCHIVE_UNAVAILABLE"
        assert len(await events.page(conn, 100, from_us=SEPTEMBER)) == 20
        assert await events.any_within(conn, [august, later], None) == [True, True]
    assert await send(database, clock, sent) == 0
    assert await send(database, clock, [event_of(300, AUGUST, {"n": "1"})]) == 1
    assert (await archive_all(database, clock)).events == 1


async def test_what_is_unpacked_in_memory_is_bounded(database: Database, clock: ManualClock) -> None:
    database.archive.max_groups = 2
    sent = some()
    sent += [event_of(400, us("2026-07-02"), {"n": "1"})]
    await send(database, clock, sent)
    await archive_all(database, clock)
    assert len(await files_of(database)) == 3
    assert await said(database) == by_id(sent)
    assert len(database.archive._groups) == 2


async def test_files_may_be_moved_to_the_directory_that_is_set(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    sent = some()
    await send(database, clock, sent)
    elsewhere = tmp_path / "elsewhere"
    async for _ in archive(database, clock, NOVEMBER, "key_1", directory=elsewhere):
        pass
    assert await said(database) == by_id(sent)
    assert not database.archive.directory.exists()
    elsewhere.rename(database.archive.directory)
    assert await said(database) == by_id(sent)


async def test_a_directory_that_cannot_be_written_is_said(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    await send(database, clock, some())
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        async for _ in archive(database, clock, NOVEMBER, "key_1", directory=tmp_path / "file" / "below"):
            pass


async def test_a_survey_says_what_it_would_come_to_and_writes_nothing(database: Database, clock: ManualClock) -> None:
    await send(database, clock, some())
    before = await stored(database)
    expected = [each async for each in survey(database, NOVEMBER)][-1]
    assert not database.archive.directory.exists()
    assert await stored(database) == before
    done = await archive_all(database, clock)
    assert (expected.files, expected.events, expected.data_bytes) == (done.files, done.events, done.data_bytes)
    # The name of the file stands in it, and a survey has none.
    assert abs(expected.file_bytes - done.file_bytes) < 200
    marks = sum(len(data) for data in (await stored(database)).values() if data and data.startswith("@"))
    assert marks <= expected.mark_bytes <= marks + 20 * 3


async def test_each_file_is_in_the_audit_log_with_its_digest(database: Database, clock: ManualClock) -> None:
    await send(database, clock, some())
    await archive_all(database, clock)
    async with database.read() as conn:
        entries = [each for each in await audit.page(conn, 10) if each.action == "archiveEvents"]
    files = await files_of(database)
    assert [(each.target, each.actor) for each in reversed(entries)] == [(f"file {f.name}", "key_1") for f in files]
    assert json.loads(entries[-1].detail) == {
        "events": 10,
        "bytes": files[0].size_bytes,
        "sha256": files[0].digest.hex(),
    }


async def test_a_loop_does_a_step_at_a_time_until_nothing_is_due(database: Database, clock: ManualClock) -> None:
    sent = some()
    await send(database, clock, sent)
    loop = Archiving(database, clock, lambda: months.due_before(clock.now_us(), 60))
    steps = 0
    while await loop.once():
        steps += 1
        assert await said(database) == by_id(sent)
    assert steps == 2  # August: a file, and its events; September has not been over for so long
    assert [months.name(file.month_us) for file in await files_of(database)] == ["2026-08"]
    clock.advance(10 * 86_400)
    assert await loop.once()
    await archive_all(database, clock)
    assert not await loop.once()


async def test_nothing_of_a_month_that_is_not_over_is_archived(database: Database, clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="before: must be a month that has begun, 2026-11 at most"):
        months.parse("2026-12", clock.now_us())
    for text_ in ("2026-13", "2026-00", "0000-01", "26-01", "2026-1", "2026-01-01", "٢٠٢٦-01", ""):
        with pytest.raises(InvalidInput, match="must be a month, YYYY-MM"):
            months.parse(text_, clock.now_us())
    await send(database, clock, [event_of(1, NOVEMBER), event_of(2, NOVEMBER - 1)])
    await archive_all(database, clock, before_us=months.parse("2026-11", clock.now_us()))
    assert {id_ for id_, data in (await stored(database)).items() if archived.is_archived(data)} == {"e2"}


async def test_marks_say_where_an_event_is() -> None:
    assert archived.place_of(archived.mark_of(3, 70_000, "{}")) == Place(3, 70_000)


async def test_events_of_any_time_go_into_files_of_their_months(database: Database) -> None:
    clock = ManualClock(us("2026-11-21"))
    sent = [event_of(1, -62_135_596_800_000_000, {"n": "1"}), event_of(2, -1, {"n": "2"}), event_of(3, 0, {"n": "3"})]
    await send(database, clock, sent)
    await archive_all(database, clock)
    assert [months.name(file.month_us) for file in await files_of(database)] == ["0001-01", "1969-12", "1970-01"]
    await send(database, clock, [event_of(4, -2)])
    await archive_all(database, clock)
    assert [months.name(file.month_us) for file in await files_of(database)][3:] == ["1969-12"]
