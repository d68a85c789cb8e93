"""Some seeds, each the same run every time; and rules broken on purpose, which must show."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sidemeter.batches import Batch, Row
from sidemeter.buffer import Buffer, CallerId
from sidemeter.kept import put
from sidemeter.losses import Loss
from sidemeter_control.metering.events import Arrived

from .disk import Disk, Image
from .plane import Books, Plane
from .runs import ROOT, run, run_here
from .seed import Cast, live

pytestmark = pytest.mark.no_cover
"""What is run here is measured by its own tests; thousands of steps would take three times as long."""

SEEDS = 80
FAULTS = {
    "agent killed",
    "agent restored from an old copy",
    "agent stopped in order",
    "answer into a partition",
    "answer lost",
    "answer to another request",
    "caller gave up",
    "commit fails, but is there",
    "commit fails, not there",
    "control plane crashes after its commit",
    "control plane crashes before its commit",
    "control plane killed",
    "dead letter",
    "directory cloned, both alive",
    "disk fails",
    "disk full",
    "disk hangs",
    "error after it was served",
    "error before it arrived",
    "event repeated by its caller",
    "failed call",
    "failed commit",
    "failed open",
    "file damaged",
    "garbage for an answer",
    "giant event",
    "killed after a commit",
    "killed before a commit",
    "killed torn a commit",
    "old request repeated",
    "one-way partition",
    "poison",
    "power cut",
    "read-only file system",
    "request doubled",
    "request into a partition",
    "request late",
    "request lost",
    "second agent on one directory",
    "slow answer",
    "slow call",
    "slow commit",
    "stopped while the disk hangs",
    "two events with one name",
    "wall clock stepped",
}


def test_no_seed_breaks_a_promise_and_every_kind_of_fault_occurs() -> None:
    report = run_here(0, SEEDS)
    assert not report.violations, report.text()
    assert report.stored > 10 * SEEDS
    assert not FAULTS - report.faults.keys(), report.text()


@pytest.mark.parametrize("seed", [204, 976, 6451, 7127])
def test_a_seed_that_once_broke_a_promise_holds_it(seed: int) -> None:
    """Declarations gone with a second damage; two events of one name; events kept apart that were not missed."""
    assert live(seed).violation is None


def test_the_same_seed_is_the_same_run_step_by_step() -> None:
    for seed in (3, 4):
        first, second = live(seed, tracing=True), live(seed, tracing=True)
        assert first.trace == second.trace
        assert len(first.trace) > 30
        untraced = live(seed)
        assert (untraced.steps, untraced.faults) == (first.steps, first.faults)


def test_a_seed_leaves_no_file_open() -> None:
    live(1)
    before = len([*Path("/proc/self/fd").iterdir()])
    live(2)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_seed_can_be_replayed_by_another_process() -> None:
    command = [sys.executable, "-m", "tests.faults.simulation", "--seed", "5", "--trace"]
    traces = [
        subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": order}, capture_output=True, check=True)
        for order in ("1", "2")
    ]
    assert traces[0].stdout == traces[1].stdout
    assert b"every promise held" in traces[0].stdout


def test_seeds_spread_over_processes_are_the_same_seeds() -> None:
    spread, here = run(40, 6, 2), run_here(40, 6)
    assert (spread.seeds, spread.steps, spread.faults) == (here.seeds, here.steps, here.faults)


class ForgetsEvents(Plane):
    """Its cursor goes past a batch whose events are not there."""

    def count(self, books: Books, arrived: Arrived) -> None:
        if self.world.rng.random() < 0.9:
            super().count(books, arrived)


class CountsAgain(Plane):
    """It adds up what it has stored before."""

    def count(self, books: Books, arrived: Arrived) -> None:
        known = {key: books.events.pop(key) for key in [*books.events] if self.world.rng.random() < 0.2}
        super().count(books, arrived)
        books.events.update(known)


class LiesAboutSync(Disk):
    """What it acknowledged last is gone after the end of a process."""

    _before: Image | None = None

    def committed(self, conn: Any) -> None:
        self._before = self.image() if self.world.rng.random() < 0.5 else self._before
        super().committed(conn)

    def cut(self) -> None:
        super().cut()
        if self._before is not None and self._left is not None:
            self._left = Image(self._before.files, self._before.held)


class AnswersEarly(Buffer):
    """It answers before the commit."""

    async def append(self, rows: Sequence[Row], caller_ids: Sequence[CallerId], ended: Sequence[str] = ()) -> set[int]:
        self._late = asyncio.create_task(super().append(rows, caller_ids, ended))
        return set()


class DeletesEarly(Buffer):
    """It deletes what it is about to send, and takes it for settled: nothing that it holds tells of a loss."""

    async def seal(self, batch: Batch, rebuilds: int | None = None) -> None:
        await super().seal(batch, rebuilds)

        async def work(conn: Any) -> None:
            await conn.execute("DELETE FROM events WHERE seq <= ?", (batch.last_seq,))
            await conn.execute("DELETE FROM batches WHERE last_seq = ?", (batch.last_seq,))
            await put(conn, settled_rows=self._settled + batch.events)

        def then(_: None) -> None:
            self._settled_seq = batch.last_seq
            self._add(batch.events, batch.size, unsent=-1)
            self._note()

        await self._database.transact(work, then)


class DeclaresNothing(Buffer):
    """What a damaged file took of it, it keeps to itself."""

    async def declare(self, loss: Loss) -> None:
        """Nobody hears of it."""


@pytest.mark.parametrize(
    ("cast", "seeds", "what"),
    [
        pytest.param(Cast(plane=ForgetsEvents), 5, "counted, and is not|nowhere else", id="cursor_without_events"),
        pytest.param(Cast(plane=CountsAgain), 20, "the totals say", id="counted_again"),
        pytest.param(Cast(disk=LiesAboutSync), 20, "nowhere else|stored as", id="a_commit_that_is_not_durable"),
        pytest.param(Cast(buffer=AnswersEarly), 5, "nowhere durable", id="answered_before_the_commit"),
        pytest.param(Cast(buffer=DeletesEarly), 5, "nowhere else", id="deleted_before_the_answer"),
        pytest.param(Cast(buffer=DeclaresNothing, kinds=("damage",)), 2, "missing", id="lost_in_silence"),
    ],
)
def test_a_broken_rule_shows_within_a_few_seeds(cast: Cast, seeds: int, what: str) -> None:
    report = run_here(0, seeds, cast=cast)
    assert report.violations
    for _, told in report.violations:
        assert any(each in told for each in what.split("|")), told
