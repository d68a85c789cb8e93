"""The backup door: a copy of one instant for ADMIN keys, one at a time, and none that a slow caller holds for ever."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ManualClock, eventually
from planes import Doors, open_database, open_doors
from starlette.applications import Starlette

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.backups import backup_routes
from sidemeter_control.api.problems import PROBLEM_HANDLERS
from sidemeter_control.store import files
from sidemeter_control.store.keys import Scope


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        yield opened


def copies(directory: Path) -> list[Path]:
    return list(directory.glob("*.copy-*"))


async def test_the_door_is_for_admins_alone(plane: Doors) -> None:
    for scope in Scope:
        response = await plane.http.get("/v1/backup", headers=plane.key(scope))
        assert (response.status_code == 200) is (scope is Scope.ADMIN), scope
    assert (await plane.http.get("/v1/backup")).status_code == 401
    assert (await plane.http.post("/v1/backup", headers=plane.key(Scope.ADMIN))).status_code == 405


@pytest.mark.postgres
async def test_a_database_on_a_server_is_backed_up_by_its_own_tools(plane: Doors) -> None:
    response = await plane.http.get("/v1/backup", headers=plane.key(Scope.ADMIN))
    assert response.status_code == 409
    assert "pg_dump" in response.json()["detail"]


async def test_the_answer_is_a_whole_backup_and_leaves_no_file_behind(plane: Doors, tmp_path: Path) -> None:
    response = await plane.http.get("/v1/backup", headers=plane.key(Scope.ADMIN))
    assert response.headers["content-type"] == "application/vnd.sqlite3"
    assert int(response.headers["content-length"]) == len(response.content)
    backup = tmp_path / "backup"
    backup.write_bytes(response.content)
    assert files.check(backup, lambda *_: None).events == 0
    assert not copies(tmp_path)


class Caller:
    """Asks the backup door over plain ASGI, and takes what comes only when it is let go."""

    def __init__(self, app: Starlette, secret: str) -> None:
        self._app = app
        self._headers = [(b"authorization", f"Bearer {secret}".encode())]
        self.answers: list[Any] = []
        self.go = asyncio.Event()

    async def ask(self) -> None:
        scope = {"type": "http", "method": "GET", "path": "/v1/backup", "headers": self._headers, "query_string": b""}
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.answers.append(message)
        if message["type"] == "http.response.body":
            await self.go.wait()


async def test_there_is_one_backup_at_a_time_until_its_caller_has_it_or_takes_nothing_for_too_long(
    tmp_path: Path,
) -> None:
    async with open_database(tmp_path) as database:
        gate = Gate(database, ManualClock())
        secret = await gate.first_key(None) or ""
        routes = backup_routes(database, gate, ManualClock(), max_stall_s=0.2)
        app = Starlette(routes=routes, exception_handlers=PROBLEM_HANDLERS)
        stalled, second, third = (Caller(app, secret) for _ in range(3))
        under_way = asyncio.create_task(stalled.ask())
        await eventually(lambda: len(stalled.answers) == 2)
        second.go.set()
        await second.ask()
        start, _ = second.answers
        assert start["status"] == 503
        assert (b"retry-after", b"10") in start["headers"]
        await under_way
        assert stalled.answers[-1]["more_body"]  # cut short
        third.go.set()
        await third.ask()
        assert third.answers[0]["status"] == 200
        assert not third.answers[-1]["more_body"]


async def test_a_caller_who_goes_away_while_the_copy_is_made_leaves_neither_file_nor_turn(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        gate = Gate(database, ManualClock())
        secret = await gate.first_key(None) or ""
        app = Starlette(routes=backup_routes(database, gate, ManualClock()), exception_handlers=PROBLEM_HANDLERS)
        gone = asyncio.create_task(Caller(app, secret).ask())
        await eventually(lambda: copies(tmp_path) or gone.done(), every_s=0)  # the copy is there for milliseconds
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert not copies(tmp_path)
        after = Caller(app, secret)
        after.go.set()
        await after.ask()
        assert after.answers[0]["status"] == 200
