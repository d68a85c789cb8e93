"""The archive as people meet it: every question has the same answer, and the command, the doctor, a backup say what is where."""

import asyncio
import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from archives import archive_all, files_of, path_of
from fakes import ManualClock
from heavy import few
from hypothesis import given
from hypothesis import strategies as st
from planes import Plane, caller, control, open_database
from postgres import Kind
from shop import Shop, us

from sidemeter_control.api.auth import Gate
from sidemeter_control.app import build, loops
from sidemeter_control.errors import ArchiveUnavailable
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.correcting import correct_event, void_event
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.pricing.charges import ChargeSpec, OutcomeSpec, PricingModel
from sidemeter_control.settings import Settings
from sidemeter_control.store import archived, meters
from sidemeter_control.store.database import Database

NOW_US = us("2026-11-21")
METERS = {
    "paid": 'aggregation: SUM, valueProperty: "n"',
    "asked": "aggregation: COUNT",
    "middle": 'aggregation: PERCENTILE, valueProperty: "n", percentile: "50"',
    "last": 'aggregation: LATEST, valueProperty: "n"',
    "most": 'aggregation: MAX, valueProperty: "n"',
    "kinds": 'aggregation: UNIQUE_COUNT, valueProperty: "kind"',
    "held": 'aggregation: TIME_WEIGHTED, valueProperty: "n"',
}
BASE = ChargeSpec(key="base", model=PricingModel.FLAT, amount=Decimal(49))
FEES = ChargeSpec(
    key="fees",
    meter="paid",
    model=PricingModel.PERCENTAGE,
    percentage=Decimal("2.9"),
    fixed_per_event=Decimal("0.3"),
    free_events=2,
    free_amount=Decimal(5),
)
RULE = OutcomeSpec(confirm_type="kept", reverse_type="returned", window_hours=5, property="order")
OUTCOMES = ChargeSpec(key="outcomes", meter="asked", model=PricingModel.OUTCOME, unit_price=Decimal(2), outcome=RULE)
PERIOD = 'from: "2026-09-10T00:30:00.000001Z", to: "2026-10-20T03:45:00.5Z"'
"""Its edges are within hours: what is there is read from events."""
USAGE = " ".join(
    f'{key}: usage(meter: "{key}", {PERIOD}, customer: "acme") {{ value events }}'
    f' {key}ByDay: usage(meter: "{key}", {PERIOD}, window: DAY) {{ windowStart value events }}'
    for key in METERS
)
COST = "total { amount } lines { charge amount { amount } quantity parts { text amount { amount } }"
ASKED = f"""{{
  {USAGE}
  events(first: 100) {{ edges {{ node {{ source id type subject time data voided corrections {{ reason }} }} }} }}
  preview: meterPreview(meter: {{ key: "x", eventType: "use", aggregation: SUM, valueProperty: "n" }}, first: 100) {{
    value events {{ event {{ id }} gives }} }}
  customer(key: "acme") {{
    cost({PERIOD}) {{ {COST} explain(first: 50) {{ edges {{ node {{ id data }} }} }} }} }} }}
  simulate(plan: {{ key: "pro", currency: "USD", charges: [
      {{ key: "fees", meter: "paid", model: PERCENTAGE, percentage: "3", freeEvents: 1 }},
      {{ key: "outcomes", meter: "asked", model: OUTCOME, unitPrice: "2",
        outcome: {{ confirmType: "kept", reverseType: "returned", windowHours: 9, property: "order" }} }} ] }},
      {PERIOD}) {{ rows {{ current {{ amount }} simulated {{ amount }} }} }}
}}"""


def event_of(number: int, at_us: int, type_: str, data: dict[str, object], subject: str = "acme") -> Event:
    return Event(f"e{number:02}", "s", type_, subject, at_us, json.dumps(data))


instants = st.builds(
    lambda start, minutes, rest: us(start) + minutes * 60_000_000 + rest,
    st.sampled_from(["2026-09-10", "2026-09-30T22:00:00", "2026-10-20T03:00:00"]),
    st.integers(0, 150),
    st.sampled_from([0, 1, 30_000_000]),
)
contents = st.fixed_dictionaries(
    {
        "n": st.sampled_from(["1", "2.50", "-3", "0.000000001", "123456789012345678.5"]),
        "kind": st.sampled_from(["a", "b", "ö\u0000"]),
        "order": st.sampled_from(["o1", "o2"]),
    }
)
made = st.tuples(
    instants, st.sampled_from(["use", "use", "kept", "returned"]), contents, st.sampled_from(["acme", "b"])
)
moves = st.one_of(
    st.tuples(st.just("archive")),
    st.tuples(st.just("archive")),
    st.tuples(st.just("void"), st.integers(0, 100)),
    st.tuples(st.just("correct"), st.integers(0, 100), contents),
    st.tuples(st.just("send"), st.integers(1, 5)),
)


class World:
    """A control plane on a database, asked over GraphQL."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.sent: list[Event] = []

    async def stock(self, *meters: str, outcomes: bool = True) -> None:
        for key in meters:
            await self.plane.ask(
                f'mutation {{ createMeter(input: {{ key: "{key}", eventType: "use", {METERS[key]} }}) {{ key }} }}'
            )
        shop = Shop(self.plane.database, self.plane.clock)
        acme = await shop.customer("acme", subjects=("acme", "b"))
        await shop.sell(acme, BASE, FEES, *([OUTCOMES] if outcomes else []), start="2026-09-10T00:20:00")

    async def make(self, waiting: list[Event], move: tuple[Any, ...]) -> None:
        database, clock = self.plane.database, self.plane.clock
        match move:
            case ("archive",):
                await archive_all(database, clock)
            case ("send", int(count)):
                some = [waiting.pop() for _ in range(min(count, len(waiting)))]
                await Ingest(database, clock).record(some)
                self.sent += some
            case ("void", int(place)) if self.sent:
                id_ = self.sent[place % len(self.sent)].id
                await void_event(database, "s", id_, "wrong", by="key_1", now_us=NOW_US)
            case ("correct", int(place), dict(data)) if self.sent:
                id_ = self.sent[place % len(self.sent)].id
                await correct_event(database, "s", id_, json.dumps(data), "wrong", by="key_1", now_us=NOW_US)

    async def answers(self) -> dict[str, Any]:
        while await fill_once(self.plane.database, self.plane.clock, most=3):
            pass
        return await self.plane.ask(ASKED)


@contextlib.asynccontextmanager
async def a_world(directory: Path, clock: ManualClock) -> AsyncIterator[World]:
    async with open_database(directory) as database:
        gate = Gate(database, clock)
        app = await build(database, gate, Settings(requests_per_s=0), clock)
        async with caller(app, Authorization=f"Bearer {await gate.first_key(None)}") as http:
            yield World(Plane(database, gate, clock, http))


@pytest.mark.both_databases
@pytest.mark.no_cover
@few(3)
@given(given_=st.lists(made, min_size=4, max_size=14), sequence=st.lists(moves, max_size=8))
async def test_every_answer_is_the_same_before_and_after(
    given_: list[tuple[int, str, dict[str, object], str]], sequence: list[tuple[Any, ...]]
) -> None:
    """The same events and corrections, once with archiving in between and once without."""
    if Kind.server is not None:  # which holds no NUL in an event
        given_ = [(at, type_, data | {"kind": "ö"}, subject) for at, type_, data, subject in given_]
    events = [event_of(number, *each) for number, each in enumerate(given_)]
    found = []
    for archives in (True, False):
        with TemporaryDirectory() as directory:
            async with a_world(Path(directory), ManualClock(NOW_US)) as world:
                await world.stock("paid", "asked", "middle", "last", "most")
                waiting = list(events)
                await world.make(waiting, ("send", len(waiting) // 2))
                for move in sequence:
                    if archives or move != ("archive",):
                        await world.make(waiting, move)
                await world.make(waiting, ("send", len(waiting)))
                if archives:
                    await world.make(waiting, ("archive",))
                for key in ("kinds", "held"):  # meters that are filled from the archive
                    await world.plane.ask(
                        f'mutation {{ createMeter(input: {{ key: "{key}", eventType: "use", {METERS[key]} }}) {{ key }} }}'
                    )
                found.append(await world.answers())
                if archives:
                    async with world.plane.database.read() as conn:
                        assert (await archived.known(conn)).events == len(events)
    assert found[0] == found[1]


SENT = [
    event_of(0, us("2026-09-10T00:40:00"), "use", {"n": "10.5", "kind": "a", "order": "o1"}),
    event_of(1, us("2026-09-10T00:25:00"), "use", {"n": "7", "kind": "b", "order": "o2"}),
    event_of(2, us("2026-09-30T22:10:00"), "use", {"n": "3", "kind": "a", "order": "o2"}),
    event_of(3, us("2026-09-30T23:10:00"), "kept", {"order": "o2"}),
    event_of(4, us("2026-10-20T03:30:00"), "use", {"n": "1", "kind": "a", "order": "o3"}),
    event_of(5, us("2026-10-20T03:50:00"), "use", {"n": "2", "kind": "c", "order": "o3"}),
    event_of(6, NOW_US - 60_000_000, "use", {"n": "100", "kind": "d", "order": "o9"}),
]
READERS = {
    "the edge of an interval": f'{{ usage(meter: "paid", {PERIOD}) {{ value }} }}',
    "a percentile at an edge": f'{{ usage(meter: "middle", {PERIOD}) {{ value }} }}',
    "a free allowance, event by event": f'{{ customer(key: "acme") {{ cost({PERIOD}) {{ total {{ amount }} }} }} }}',
    "a page of events": "{ events(first: 50) { edges { node { data } } } }",
    "an event": '{ events(first: 5, from: "2026-09-30T22:10:00Z", to: "2026-09-30T22:11:00Z") { edges { node { data } } } }',
    "what is behind a line": f'{{ customer(key: "acme") {{ cost({PERIOD}) {{ lines {{ explain {{ edges {{ node {{ data }} }} }} }} }} }} }}',
    "a meter that is tried": '{ meterPreview(meter: { key: "x", eventType: "use", aggregation: SUM, valueProperty: "n" }) { value } }',
    "a simulation": ASKED[ASKED.index("  simulate(") :].join(("{", "")),
    "a void": 'mutation { voidEvent(source: "s", id: "e02", reason: "wrong") { id } }',
    "a correction": 'mutation { correctEvent(source: "s", id: "e02", data: { n: "1", kind: "a", order: "o2" }, reason: "wrong") { id } }',
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Events of three months in the archive, and of this month in the database."""
    async with a_world(tmp_path, ManualClock(NOW_US)) as opened:
        await opened.stock("paid", "asked", "middle")
        await opened.make(list(SENT), ("send", len(SENT)))
        await fill_once(opened.plane.database, opened.plane.clock)
        await archive_all(opened.plane.database, opened.plane.clock)
        yield opened


@pytest.mark.both_databases
async def test_whatever_reads_an_event_of_a_file_that_is_missing_says_which(world: World) -> None:
    paths = [path_of(world.plane.database, file) for file in await files_of(world.plane.database)]
    answered = {each: await world.plane.post(query) for each, query in READERS.items() if not query.startswith("mut")}
    for path in paths:
        path.rename(path.with_suffix(".away"))
    world.plane.database.archive._groups.clear()
    for what, query in READERS.items():
        error = await world.plane.refusal(query)
        assert error["extensions"]["code"] == "ARCHIVE_UNAVAILABLE", what
        assert re.search(
            r"events-2026-(09|10)-\d{6}-\w{8}\.parquet: there is no such file, which holds", error["message"]
        )
        assert "put the file back there, or set archive_directory" in error["message"]
    # All that needs no such event goes on.
    whole = await world.plane.ask(
        '{ usage(meter: "paid", from: "2026-09-01T00:00:00Z", to: "2026-12-01T00:00:00Z") { value }'
        ' events(first: 5, from: "2026-11-01T00:00:00Z") { edges { node { data } } } }'
    )
    assert whole["usage"] == [{"value": "123.5"}]
    assert len(whole["events"]["edges"]) == 1
    assert (await Ingest(world.plane.database, world.plane.clock).record(SENT)).duplicates == len(SENT)
    for path in paths:
        path.with_suffix(".away").rename(path)
    for what, query in READERS.items():
        if not query.startswith("mut"):
            assert await world.plane.post(query) == answered[what]


async def fill_all(database: Database, clock: ManualClock) -> None:
    while await fill_once(database, clock):
        pass


@pytest.mark.both_databases
async def test_a_meter_that_waits_for_a_file_holds_up_no_other(world: World) -> None:
    database, clock = world.plane.database, world.plane.clock
    await Ingest(database, clock).record([Event("x", "s", "other", "acme", NOW_US - 1, None)])
    for key, type_ in (("first", "use"), ("second", "other")):
        await create_meter(database, new_meter(key, type_, Aggregation.COUNT, now_us=NOW_US), at_once=1)
    for path in [path_of(database, file) for file in await files_of(database)]:
        path.rename(path.with_suffix(".away"))
    database.archive._groups.clear()
    with pytest.raises(ArchiveUnavailable, match="there is no such file"):
        await fill_all(database, clock)
    async with database.read() as conn:
        filled = {each.key: each.progress.done for each in await meters.list_all(conn)}
    assert (filled["first"], filled["second"]) == (False, True)
    refused = await world.plane.refusal(
        'mutation { createMeter(input: { key: "third", eventType: "use", aggregation: COUNT }) { key } }'
    )
    assert refused["extensions"]["code"] == "ARCHIVE_UNAVAILABLE"
    assert (await world.plane.ask('{ meter(key: "third") { key } }'))["meter"] is None
    for path in database.archive.directory.glob("*.away"):
        path.rename(path.with_suffix(".parquet"))
    await fill_all(database, clock)
    assert (await world.plane.ask(f'{{ usage(meter: "first", {PERIOD}) {{ value }} }}'))["usage"] == [{"value": "3"}]


async def test_metrics_say_what_is_in_the_archive(world: World) -> None:
    files = await files_of(world.plane.database)
    text = (await world.plane.http.get("/metrics")).text
    assert f"sidemeter_archive_files {len(files)}.0" in text
    assert "sidemeter_archive_events 6.0" in text
    assert f"sidemeter_archive_bytes {sum(file.size_bytes for file in files)}.0" in text
    assert f"sidemeter_archive_data_bytes {sum(file.data_bytes for file in files)}.0" in text


async def test_a_loop_archives_where_a_setting_says_so(database: Database) -> None:
    clock = ManualClock(NOW_US)
    gate = Gate(database, clock)
    named = {each.name: each for each in loops(database, Settings(archive_after_days=30), clock, gate)}
    assert "archiving events" not in {each.name for each in loops(database, Settings(), clock, gate)}
    await Ingest(database, clock).record(SENT)
    while await named["archiving events"].once():
        pass
    assert [file.events for file in await files_of(database)] == [4]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The file of a control plane that has stopped, with events of three months."""

    async def fill() -> None:
        async with open_database(tmp_path) as database:
            await Ingest(database, ManualClock(NOW_US)).record(SENT)

    asyncio.run(fill())
    return tmp_path / "control.db"


def asked(path: Path, *arguments: str, **more: Any) -> str:
    return control(*arguments, "--database", f"sqlite:///{path}", **more)


def test_the_command_archives_and_says_what_it_came_to(stopped: Path) -> None:
    tried = asked(stopped, "archive", "--before", "2026-11", "--dry-run")
    assert re.search(
        r"^6 events would be in 2 files of [\d,]+ bytes; \d+ bytes of data would leave the database, \d+ stay", tried
    )
    assert not Path(f"{stopped}.archive").exists()
    said = asked(stopped, "archive", "--before", "2026-11")
    assert re.search(
        r"^6 events are in 2 files of [\d,]+ bytes; \d+ bytes of data have left the database, \d+ stay", said
    )
    assert re.search(
        r"per million events: \d+\.\d MB in the database before; after, \d\.\d MB there and [\d,.]+ MB in", said
    )
    files = list(Path(f"{stopped}.archive").iterdir())
    assert {str(each) for each in files} == set(said.splitlines()[2:])
    again = asked(stopped, "archive", "--before", "2026-11")
    assert again == "every event before 2026-11 is in a file already\n"
    with closing(sqlite3.connect(stopped)) as file:
        actors = file.execute("SELECT DISTINCT actor, action FROM audit").fetchall()
    assert actors == [("operator", "archiveEvents")]


@pytest.mark.parametrize("month", ["2026-13", "soon", "2999-01"])
def test_the_command_takes_a_month_that_has_begun(tmp_path: Path, month: str) -> None:
    said = asked(tmp_path / "control.db", "archive", "--before", month, exit_code=2)
    assert "--before: must be a month" in said


def test_files_go_where_the_command_says_and_are_found_there(stopped: Path, tmp_path: Path) -> None:
    where = str(tmp_path / "elsewhere")
    said = asked(stopped, "archive", "--before", "2026-11", "--to", where)
    assert said.splitlines()[2].startswith(f"{where}/events-2026-09-000001-")
    assert "archive: 6 events in 2 files, 0 MiB" in asked(stopped, "doctor", exit_code=3)


def test_the_doctor_names_a_file_that_is_missing_and_one_that_is_a_stranger(stopped: Path) -> None:
    assert "archive" not in asked(stopped, "doctor", exit_code=3)
    asked(stopped, "archive", "--before", "2026-11")
    path = min(Path(f"{stopped}.archive").iterdir())
    path.rename(path.with_name("events-2026-09-999999-abcdef01.parquet"))
    said = asked(stopped, "doctor", exit_code=1)
    assert "1 of 2 files of archived events are missing or not what was written" in said
    assert f"{path}: there is no such file" in said
    assert "1 files in" in said
    assert "are none of this database: events-2026-09-999999-abcdef01.parquet" in said


def test_a_backup_says_which_files_it_needs_and_a_restore_which_it_misses(stopped: Path, tmp_path: Path) -> None:
    asked(stopped, "archive", "--before", "2026-11")
    kept = tmp_path / "kept.backup"
    said = asked(stopped, "backup", str(kept))
    assert re.search(r"; 2 files of archived events, \d+ bytes, are no part of it: keep .*/control.db.archive", said)
    assert "is refused until" not in asked(stopped, "restore", str(kept))
    path = min(Path(f"{stopped}.archive").iterdir())
    path.unlink()
    said = asked(stopped, "restore", str(kept))
    assert f"what needs events of this file is refused until it is there: {path}: there is no such file" in said


def test_an_older_backup_archives_anew_beside_the_files_of_the_other_time(stopped: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.backup"
    asked(stopped, "backup", str(kept))
    asked(stopped, "archive", "--before", "2026-11")
    asked(stopped, "restore", str(kept))
    said = asked(stopped, "archive", "--before", "2026-11")
    assert said.startswith("6 events are in 2 files")
    assert len(list(Path(f"{stopped}.archive").iterdir())) == 4
    assert "2 files in" in asked(stopped, "doctor", exit_code=3)


@pytest.mark.soak
def test_a_command_that_is_killed_at_any_time_loses_and_doubles_nothing(tmp_path: Path) -> None:
    sent = [event_of(n, us("2026-08-01") + n, "use", {"n": str(n)}) for n in range(20_000)]

    async def fill() -> None:
        async with open_database(tmp_path) as database:
            for first in range(0, len(sent), 5_000):
                await Ingest(database, ManualClock(NOW_US)).record(sent[first : first + 5_000])

    asyncio.run(fill())
    path = tmp_path / "control.db"
    command = [sys.executable, "-m", "sidemeter_control.cli", "archive", "--before", "2026-11"]
    began = time.monotonic()
    whole = subprocess.run([*command, "--dry-run", "--database", f"sqlite:///{path}"], capture_output=True, check=True)
    took_s = time.monotonic() - began
    assert whole.stdout.startswith(b"20,000 events would be")
    for part in range(1, 13):
        with contextlib.suppress(subprocess.TimeoutExpired):  # which kills it
            subprocess.run(
                [*command, "--database", f"sqlite:///{path}"],
                timeout=took_s * part / 6,
                capture_output=True,
                check=False,
            )
    asked(path, "archive", "--before", "2026-11")
    found = [row for file in Path(f"{path}.archive").iterdir() for row in pq.read_table(file).to_pylist()]
    assert len(found) == len(sent)
    assert {row["id"]: row["data"] for row in found} == {event.id: event.data for event in sent}


@pytest.mark.parametrize("command", ["archive", "serve"])
def test_what_is_not_installed_is_said_before_anything_is_opened(tmp_path: Path, command: str) -> None:
    more = ["--before", "2020-01"] if command == "archive" else ["--archive-after-days", "30"]
    code = (
        f"import sys; sys.modules['pyarrow'] = None; from sidemeter_control.cli import main; main({[command, *more]!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "not installed: pip install 'sidemeter[archive]'" in done.stderr
    assert done.returncode == {"archive": 1, "serve": 2}[command]
    assert list(tmp_path.iterdir()) == []
