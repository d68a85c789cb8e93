"""Progress bars: there for a terminal, gone when all is done, and nothing at all anywhere else."""

import asyncio
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from fakes import eventually
from processes import run, without_settings
from rich.console import Console

from sidemeter_control.progress import shown
from sidemeter_control.store.database import Database
from sidemeter_control.store.schema import revisions

COMMAND = (sys.executable, "-m", "sidemeter_control.cli")


def test_a_terminal_sees_steps_and_no_markup_of_theirs() -> None:
    out = io.StringIO()
    with shown(Console(file=out, force_terminal=True, width=80)) as report:
        report("pricing [red]pro", 0, 0)
        report("pricing [red]pro", 1, 1)
        report("copying", 5, 10)
    assert "pricing [red]pro" in out.getvalue()
    assert "copying" in out.getvalue()


def test_nobody_else_sees_anything() -> None:
    out = io.StringIO()
    with shown(Console(file=out)) as report:
        report("copying", 5, 10)
    assert out.getvalue() == ""


async def test_a_migration_tells_each_of_its_steps(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    database = await Database.open(f"sqlite:///{tmp_path}/control.db")
    try:
        await database.migrate(lambda *step: told.append(step))
        steps = len(revisions())
        assert {each[2] for each in told} == {steps}
        assert [done for _, done, _ in told] == list(range(steps + 1))
        told.clear()
        await database.migrate(lambda *step: told.append(step))
        assert [each[1:] for each in told] == [(0, 0)]
    finally:
        await database.close()


def test_piped_a_migration_says_its_result_alone(tmp_path: Path) -> None:
    printed = run(*COMMAND, "migrate", "--database", f"sqlite:///{tmp_path}/c.db")
    assert printed == "the database is up to date\n"


async def test_on_a_terminal_a_migration_shows_how_far_it_is(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = start(theirs, "migrate", "--database", f"sqlite:///{tmp_path}/c.db")
    os.close(theirs)
    seen = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: seen.extend(_read(ours)))
    try:
        await eventually(lambda: b"the database is up to date" in seen, 60)
        assert await asyncio.to_thread(command.wait, 60) == 0
    finally:
        loop.remove_reader(ours)
        command.kill()
        command.wait()
        os.close(ours)
    assert b"bringing the schema to this version" in seen


def start(terminal: int, *arguments: str) -> "subprocess.Popen[bytes]":
    environ = without_settings(TERM="xterm", COLUMNS="100")
    return subprocess.Popen([*COMMAND, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environ)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""
