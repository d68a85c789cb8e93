"""An agent that is killed at a chosen step: at a store into its cell, before or after a commit, before a message or its
answer. What it did until then is there, and nothing of what it would have done."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiosqlite

from sidemeter import Agent, Settings
from sidemeter.buffer import Buffer
from sidemeter.cell import Cell
from sidemeter.clock import Clock, SystemClock
from sidemeter.uplink import Answer, Link


class Killed(BaseException):
    """The process is gone."""


class Life:
    """Counts steps, and ends at the `ends_at`-th. `ended` is set then."""

    def __init__(self, ends_at: int) -> None:
        self.left = ends_at
        self.steps: list[str] = []
        self.ended = asyncio.Event()

    def step(self, what: str) -> None:
        self.left -= 1
        if self.left < 0:
            self.ended.set()
            raise Killed(what)
        self.steps.append(what)


class MortalConnection(aiosqlite.Connection):
    life: Life

    async def commit(self) -> None:
        self.life.step("commit")
        await super().commit()
        self.life.step("committed")


class MortalCell(Cell):
    life: Life | None = None

    def _store(self, offset: int, content: bytes) -> None:
        if self.life is not None:
            if self.life.left <= 0:  # half of it
                super()._store(offset, content[: len(content) // 16 * 8])
            self.life.step("store")
        super()._store(offset, content)


class MortalLink(Link):
    life: Life

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        self.life.step("message")
        answer = await super().request(method, path, body=body, headers=headers)
        self.life.step("answer")
        return answer


def mortal(settings: Settings, life: Life, clock: Clock | None = None) -> Agent:
    """An agent with that life."""

    def connect(path: Path) -> aiosqlite.Connection:
        conn = MortalConnection(lambda: sqlite3.connect(path), 64)
        conn.life = life
        return conn

    async def open_buffer(directory: Path, clock: Clock) -> Buffer:
        return await Buffer.open(directory, clock, connect)

    def open_link(settings: Settings) -> Link | None:
        link = MortalLink(url=settings.control_plane, timeout_s=settings.request_timeout_s)
        link.life = life
        return link

    def open_cell(directories: Sequence[Path], name: str) -> Cell:
        cell = MortalCell.open(directories, name)
        cell.life = life
        return cell

    return Agent(settings, clock or SystemClock(), open_buffer=open_buffer, open_link=open_link, open_cell=open_cell)


async def bury(agent: Agent) -> None:
    """Let go of what a killed agent had open, as the kernel does: nothing more is written."""
    parts: Any = agent._parts
    if parts is None:
        return
    agent._parts = None
    tasks = [*parts._loops, *([parts.refresher._syncing] if parts.refresher._syncing else [])]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            task.exception()
    async with parts.buffer._database._turn:
        await parts.buffer._database._shut()
    parts.buffer._watch.close(clean=False)
    parts.buffer._volume.release()
    parts.tenure._close()
    await parts._link.close()
