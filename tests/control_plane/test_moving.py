"""`sidemeter-control move`: all of a file's contents on a PostgreSQL server, proven, or nothing that anybody could start."""

import asyncio
import re
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import showcase
from archives import archive_all, files_of, path_of
from fakes import ManualClock
from planes import Plane, caller, control, plane
from postgres import PASSWORD, Kind, Server, in_use
from sqlalchemy import text

from sidemeter_control import moving
from sidemeter_control.api.auth import Gate
from sidemeter_control.app import build
from sidemeter_control.clock import SystemClock
from sidemeter_control.errors import DatabaseUnfit
from sidemeter_control.metering.holders import look_at_start
from sidemeter_control.settings import Settings
from sidemeter_control.store import dead_letters, recoveries, state
from sidemeter_control.store.database import Database
from sidemeter_control.store.dead_letters import DeadLetter
from sidemeter_control.store.keys import Scope
from sidemeter_control.store.postgres import DURABLE, look
from sidemeter_control.store.schema import newest

pytestmark = pytest.mark.postgres

HEADERS = {"Content-Type": "application/msgpack", "Sidemeter-Protocol": "1"}
SEEN = """{
  customers(first: 10) { edges { node { key name cost { total { amount } } credits { balance } budgets { key amount spent thresholds }
    quotas { feature { key } limit used leased } subscriptions { plan { key } periodStart } } } }
  usage(meter: "tokens", from: "2000-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z", groupBy: ["model"]) { value events }
  events(first: 50) { edges { node { id time data voided } } }
}"""
REASON = "wrong\0model"
"""With a NUL, which a text on PostgreSQL cannot have."""


class Stocked:
    """A control plane in this process, asked as those of `showcase` are."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.ask = plane.ask

    async def make(self, mutation: str, input_type: str, select: str = "__typename", **fields: object) -> Any:
        query = f"mutation($input: {input_type}!) {{ {mutation}(input: $input) {{ {select} }} }}"
        return (await self.plane.ask(query, input=fields))[mutation]

    async def send(self, verb: str, **message: object) -> Any:
        body = msgspec.msgpack.encode(message)
        answer = await self.plane.http.post(f"/agent/v1/{verb}", content=body, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content)


async def stock(made: Stocked) -> None:
    """Something in nearly every table."""
    await showcase.stock(made, now=datetime.fromtimestamp(made.plane.clock.now_us() / 1e6, UTC))  # type: ignore[arg-type]
    for key, aggregation in (
        ("models", "UNIQUE_COUNT"),
        ("longest", "MAX"),
        ("late", "PERCENTILE"),
        ("answers", "SUM"),
    ):
        more = {"percentile": "95"} if key == "late" else {}
        name = "model" if key == "models" else "tokens"
        await made.make(
            "createMeter",
            "MeterInput",
            key=key,
            eventType="answer",
            aggregation=aggregation,
            valueProperty=name,
            **more,
        )
    said = [
        {
            "id": f"answer-{n}",
            "source": "s",
            "type": "answer",
            "subject": "acme",
            "data": {"tokens": n, "model": f"m\0{n % 3}"},
        }
        for n in range(9)
    ]
    await showcase.send(made, said)  # type: ignore[arg-type]
    again = {"tokens": "0.000000001", "model": "other"}
    await made.ask(
        'mutation($why: String!) { voidEvent(source: "s", id: "answer-1", reason: $why) { id } }', why=REASON
    )
    await made.ask(
        'mutation($data: JSON!) { correctEvent(source: "s", id: "answer-2", data: $data, reason: "a typo") { id } }',
        data=again,
    )
    await made.make("grantCredits", "CreditGrantInput", customer="globex", amount="0.10")
    await made.make("setTopUp", "TopUpInput", customer="acme", below="1", amount="2")
    await made.make("grantAddOn", "AddOnInput", customer="acme", feature="chat", quantity="5.50")
    await made.make(
        "setEntitlement", "EntitlementOverrideInput", customer="globex", feature="chat", kind="METERED", limit="9000"
    )
    await made.ask('mutation { createPortalLink(customer: "acme") }')
    hello = {"agent_id": "a", "hello_id": "h", "boot_id": "b", "service": "s", "version": "1"}
    assert (await made.send("hello", **hello))["epoch"] == 1
    asked = {
        "agent_id": "a",
        "hello_id": "h",
        "sync_id": "s1",
        "epoch": 1,
        "nonce": None,
        "seen": None,
        "complete": False,
    }
    first = await made.send("sync", **asked, leases=[], subjects=["acme"], backlog=0)
    limit = next(each for each in first["limits"] if "scale" in each)
    told = asked | {"sync_id": "s2", "nonce": first["nonce"]}
    told["seen"] = {name: first[name] for name in ("generation", "state_version")}
    wanted = {"limit": limit["id"], "period": limit["period"], "granted": 0, "want_free": 5}
    assert (await made.send("sync", **told, leases=[wanted], subjects=["acme"], backlog=0))["grants"]


@pytest.fixture
def server() -> Iterator[Server]:
    """One to move to, while new databases are files."""
    server = Kind.server
    assert server is not None
    with in_use(None):
        yield server


@pytest.fixture
async def empty(server: Server) -> AsyncIterator[str]:
    async with server.empty() as url:
        yield url


_stocked: dict[str, bytes] = {}


@pytest.fixture
async def source(server: Server, tmp_path: Path) -> Path:
    """The file of a control plane that has stopped, with something in nearly every table."""
    path = tmp_path / "control.db"
    if not _stocked:
        async with plane(tmp_path) as opened:
            await stock(Stocked(opened))
        _stocked["control.db"] = path.read_bytes()
    path.write_bytes(_stocked["control.db"])
    return path


async def move(source: Path, to: str, *arguments: str, exit_code: int = 0) -> str:
    """What the command prints."""
    where = "--database", f"sqlite:///{source}", "--witness", f"{source}.moved"
    return await asyncio.to_thread(control, "move", "--to", to, *where, *arguments, exit_code=exit_code)


async def opened(url: str, source: Path) -> Database:
    return await Database.open(url, witness=f"{source}.moved")


def generation(source: Path) -> str:
    with closing(sqlite3.connect(source)) as file:
        return str(file.execute("SELECT generation FROM state").fetchone()[0])


async def answers(database: Database) -> Any:
    """What people see of it."""
    clock = ManualClock()
    gate = Gate(database, SystemClock())  # with secrets that it has not given out yet
    app = await build(database, gate, Settings(), clock)
    _, secret = await gate.make("reader", frozenset({Scope.READ}), None)
    async with caller(app, Authorization=f"Bearer {secret}") as http:
        return await Plane(database, gate, clock, http).ask(SEEN)


async def test_archived_events_stay_in_their_files_and_are_read_there(source: Path, empty: str) -> None:
    kept = await Database.open(f"sqlite:///{source}")
    try:
        before = await answers(kept)
        clock = ManualClock()
        clock.advance(60 * 86_400)
        done = await archive_all(kept, clock)
    finally:
        await kept.close()
    assert done.events == 2612
    said = await move(source, empty)
    assert "all of it is equal" in said
    assert re.search(r"events in the archive +2612  equal", said), said
    assert (
        f"{done.files} files of archived events are not moved: set SIDEMETER_ARCHIVE_DIRECTORY={source}.archive" in said
    )
    assert "not found" not in said
    moved = await opened(empty, source)
    try:
        assert await answers(moved) == before
    finally:
        await moved.close()


async def test_a_move_names_the_files_that_it_does_not_find(source: Path, empty: str) -> None:
    kept = await Database.open(f"sqlite:///{source}")
    try:
        clock = ManualClock()
        clock.advance(60 * 86_400)
        await archive_all(kept, clock)
        path = path_of(kept, (await files_of(kept))[0])
    finally:
        await kept.close()
    path.unlink()
    said = await move(source, empty)
    assert "all of it is equal" in said
    assert f"not found: {path}: there is no such file, which holds" in said


async def add(database: Database) -> None:
    """Rows that are numbered by the database itself."""
    async with database.write() as conn:
        await dead_letters.add(conn, [DeadLetter.of("c", "r", b"raw", 0, None)])


async def test_all_that_a_control_plane_holds_is_there_and_goes_on_under_the_same_name(
    source: Path, empty: str
) -> None:
    before = generation(source)
    said = await move(source, empty)
    assert "all of it is equal" in said
    for each in (
        r"table events +2612 rows, \w{16}  equal",
        r"table dead_letters +1 rows, \w+  equal",
        r"table lease_holdings +1 rows, \w+  equal",
        r"meter tokens \(1\), its rollups +(2\d+ events, \d+ in sum)  equal\nmeter tokens \(1\), the events themselves +\1  equal",
        r"meter models \(3\), its rollups +8 events  equal\nmeter models \(3\), the events themselves +8 events  equal",
        r"meter answers \(6\), its rollups +8 events, 33.000000001 in sum  equal\nmeter answers \(6\), the events themselves +8",
        r"credits in EUR +25.10  equal",
        r"audit log +unbroken up to \d+:\w{64}  equal",
    ):
        assert re.search(each, said), said
    assert PASSWORD not in said
    moved = await opened(empty, source)
    kept = await Database.open(f"sqlite:///{source}")
    try:
        async with moved.read() as conn:
            assert (await state.get(conn)).generation == before
            assert await conn.scalar(text("SELECT reason FROM corrections WHERE kind = 'VOID'")) == "wrong␀model"
        assert await answers(moved) == await answers(kept)
        await add(moved)
        async with moved.read() as conn:
            assert [each.id for each in await dead_letters.page(conn, 10)] == [2, 1]
        await look_at_start(moved, ManualClock())  # as a control plane does that starts: it grants on
        async with moved.read() as conn:
            assert await recoveries.current(conn) is None
        assert generation(source) != before
        await look_at_start(
            kept, ManualClock()
        )  # the file has become a copy, which does not know what was granted since
        async with kept.read() as conn:
            under_way = await recoveries.current(conn)
        assert under_way is not None
        assert under_way.recovery.holders is None
    finally:
        await kept.close()
        await moved.close()


async def test_what_cannot_be_moved_or_not_there_is_refused_by_name_and_rule(
    server: Server, source: Path, empty: str, tmp_path: Path
) -> None:
    async with server.migrated() as other:
        refused = [
            await move(source, "sqlite:///elsewhere.db", exit_code=2),
            await move(source, "mysql://x", exit_code=2),
            await move(source, other, exit_code=2),
            await move(tmp_path / "absent.db", empty, exit_code=2),
            await asyncio.to_thread(control, "move", "--to", empty, "--database", other, exit_code=2),
            await move(source, empty, "--witness", f"{source}.holders", exit_code=2),
        ]
    with closing(sqlite3.connect(source)) as file:
        file.execute("UPDATE alembic_version SET version_num = '0001'")
        file.commit()
    refused.append(await move(source, empty, exit_code=2))
    assert [len(each.splitlines()) for each in refused] == [1] * 7, refused
    for said, expected in zip(
        refused,
        (
            "--to: must be postgresql://",
            "--to: must be sqlite:///PATH",
            r"--to: postgresql://meter@\S+: must be empty",
            "--database: .*absent.db: there is no such file",
            "--database: must be sqlite:///PATH",
            "--witness: must be another file than that beside the database",
            f"--database: its schema must be this version's, {newest()}, and is 0001: run `sidemeter-control migrate`",
        ),
        strict=True,
    ):
        assert re.match(f"sidemeter-control: {expected}", said), said
        assert PASSWORD not in said
    assert not (tmp_path / "absent.db").exists()
    await (await opened(empty, source)).close()  # nothing was made there


@pytest.mark.parametrize("setting", [DURABLE[0], DURABLE[2]])
async def test_a_server_that_loses_what_it_commits_is_refused(
    server: Server, source: Path, empty: str, setting: str
) -> None:
    server.stop()
    server.start(**{setting: "off"})
    try:
        said = await move(source, empty, exit_code=2)
    finally:
        server.stop()
        server.start()
    assert re.match(rf"sidemeter-control: --to: postgresql://meter@\S+: the server has {setting} = off", said), said


class Cut(Exception):
    """The end of a move, at some step of it."""


@pytest.mark.parametrize("step", ["bringing the schema", "copying events", "copying all else", "reading all else back"])
async def test_nobody_starts_on_a_part_of_a_move_and_the_next_one_takes_its_place(
    source: Path, empty: str, step: str
) -> None:
    def report(at: str, done: int, total: int) -> None:
        if at.startswith(step) and done:
            raise Cut

    before = generation(source)
    with pytest.raises(Cut):
        await moving.move(f"sqlite:///{source}", empty, SystemClock(), report, str, witness=f"{source}.moved")
    assert generation(source) == before
    if step != "bringing the schema":  # of which nothing is kept
        with pytest.raises(
            DatabaseUnfit, match="a part of a move that did not end: run `sidemeter-control move --replace`"
        ):
            await opened(empty, source)
        with pytest.raises(DatabaseUnfit, match="a part of a move"):
            await look(empty, ManualClock())
        refused = await move(source, empty, exit_code=2)
        assert re.match(
            r"sidemeter-control: --to: postgresql://meter@\S+: holds a part of a move that did not end", refused
        )
    assert "all of it is equal" in await move(source, empty, "--replace")
    assert "must be empty" in await move(source, empty, "--replace", exit_code=2)  # a whole one is never replaced
    await (await opened(empty, source)).close()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE credit_grants SET amount = amount + 0.01 WHERE amount < 1", "credits in EUR"),
        (
            "UPDATE rollups SET events = events + 1 WHERE meter_id = 2 AND grain_s = 3600",
            "meter requests (2), its rollups",
        ),
        ("DELETE FROM corrections WHERE kind = 'VOID'", "meter answers (6), the events themselves"),
        ("UPDATE audit SET detail = '{}' WHERE seq = 1", "audit log"),
        ("INSERT INTO late_days VALUES ('acme', 0, 1)", "table late_days"),
    ],
)
async def test_a_copy_that_is_not_what_was_copied_is_never_started(
    source: Path, empty: str, change: str, what: str
) -> None:
    async def tamper() -> None:
        conn = await asyncpg.connect(empty)
        await conn.execute(change)
        await conn.close()

    def report(step: str, done: int, total: int) -> None:
        if step == "reading all else back" and not done:
            thread = threading.Thread(target=lambda: asyncio.run(tamper()))
            thread.start()
            thread.join()

    before = generation(source)
    with pytest.raises(moving.Unequal) as told:
        await moving.move(f"sqlite:///{source}", empty, SystemClock(), report, str, witness=f"{source}.moved")
    assert what in [line.what for line in told.value.lines if not line.is_equal]
    assert generation(source) == before
    with pytest.raises(DatabaseUnfit, match="a part of a move"):
        await opened(empty, source)


async def test_what_comes_while_it_is_copied_is_moved_as_well(server: Server, empty: str, tmp_path: Path) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with plane(tmp_path) as made:
        await made.make("createMeter", key="calls", eventType="call", aggregation="COUNT")
        await call(made, 0, 10)
        path = made.database.path
        task = asyncio.create_task(
            moving.move(
                f"sqlite:///{path}", empty, SystemClock(), lambda *_: None, told.set_result, witness=f"{path}.moved"
            )
        )
        assert (await told).startswith("10 events are copied, and the control plane goes on: stop it now")
        await call(made, 10, 20)
        await made.make(
            "createMeter", key="n", eventType="call", aggregation="SUM", valueProperty="n"
        )  # it counts those that are copied already
        await made.ask('mutation { voidEvent(source: "s", id: "call-3", reason: "a test") { id } }')
        await call(made, 20, 30)
    said = {line.what: line.target for line in await task}
    assert said["table events"].startswith("30 rows")
    for what in ("its rollups", "the events themselves"):
        assert said[f"meter calls (1), {what}"] == "29 events"
        assert said[f"meter n (2), {what}"] == f"29 events, {sum(range(30)) - 3} in sum"


async def test_a_file_that_a_crash_left_is_moved_with_its_log(server: Server, empty: str, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed.db"
    async with plane(tmp_path) as made:
        await call(made, 0, 10)
        for companion in ("", "-wal"):
            shutil.copy(f"{made.database.path}{companion}", f"{crashed}{companion}")
    assert re.search(r"table events +10 rows, \w+  equal", await move(crashed, empty))


async def call(made: Plane, first: int, end: int) -> None:
    some = [
        {"id": f"call-{n}", "source": "s", "type": "call", "subject": "acme", "data": {"n": n}}
        for n in range(first, end)
    ]
    await made.ask("mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }", events=some)


async def test_a_schema_that_a_search_path_names_is_made(source: Path, server: Server) -> None:
    async with server.empty() as url:
        there = f"{url}&search_path=metering"
        assert "all of it is equal" in await move(source, there)
        database = await opened(there, source)
        async with database.read() as conn:
            assert await conn.scalar(text("SELECT count(*) FROM metering.customers")) == 34
        await database.close()
