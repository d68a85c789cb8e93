"""A move: all that a database file holds is copied to a PostgreSQL server, and both are seen to hold the same.

What is large and only grows, the events, is copied while the control plane goes on; the rest once it has stopped, when nothing
can change any more. So the copy lacks nothing, and goes on under the same generation: agents notice no difference. It is the
file that becomes a copy of it, as a backup does that is restored: whoever starts it again grants nothing of leases that the
database may have granted since.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Table

from sidemeter_control import audit_commands
from sidemeter_control.clock import Clock
from sidemeter_control.errors import DatabaseUnfit, SettingsError, StoreUnavailable
from sidemeter_control.limits.recovery import Attested
from sidemeter_control.metering.meters import Meter
from sidemeter_control.settings import Settings, is_postgres
from sidemeter_control.store import files, meters, state
from sidemeter_control.store.contents import File
from sidemeter_control.store.database import Database
from sidemeter_control.store.files import Report
from sidemeter_control.store.schema import newest
from sidemeter_control.store.sqlite import sqlite_path
from sidemeter_control.store.tables import events, metadata
from sidemeter_control.store.tally import Tally
from sidemeter_control.store.target import Target

__all__ = ["FOLLOWS_EVERY_S", "Line", "Unequal", "move"]

FOLLOWS_EVERY_S: Final = 0.5
"""How often it is looked whether the control plane has stopped, and what it has counted meanwhile is copied."""

_UNFINISHED = "nothing starts on what is there, and the file stays as it is: run the move again, with --replace"
_UNHEARD = (
    "all of it is there and equal, but the server did not say that it took the last word: if no control plane starts on it,"
    " run the move again, with --replace"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was compared: what both databases say of it."""

    what: str
    source: str
    target: str

    @property
    def is_equal(self) -> bool:
        """Whether they say the same."""
        return self.source == self.target


class Unequal(Exception):
    """The copy is not what was copied: `lines` say in which."""

    def __init__(self, lines: list[Line]) -> None:
        super().__init__("the copy is not what was copied")
        self.lines = lines


async def move(
    url: str,
    to: str,
    clock: Clock,
    report: Report,
    say: Callable[[str], None],
    *,
    witness: str | None = None,
    replace: bool = False,
) -> list[Line]:
    """Copy the database at `url`, a file, to the empty one at `to`; answers what was compared, all of it equal.

    While a control plane serves from the file, `say` is told that it waits for its end. SettingsError, naming `database`, `to`
    or `witness`, for what cannot be moved, or not there; StoreUnavailable when a database gives no answer; Unequal. After these nothing
    starts on the target until it is emptied, and the source is as it was.
    """
    path = _source(url)
    _check_witness(path, witness)
    target = await _target(to, witness)
    try:
        with _as_setting():
            await target.prepare(report, replace=replace)
        under_way = _Move(url, path, target, clock, report)
        try:
            return await under_way.run(say)
        except StoreUnavailable as exc:
            raise StoreUnavailable(f"{exc}; {_UNHEARD if under_way.is_proven else _UNFINISHED}") from exc
    finally:
        await target.close()


class _Move:
    """One move under way. `_seq`: every event up to that one is copied, `_seen`: and read back. `is_proven`: all of it is."""

    def __init__(self, url: str, path: Path, target: Target, clock: Clock, report: Report) -> None:
        self._url = url
        self._path = path
        self._target = target
        self._clock = clock
        self._report = report
        self._seq = self._seen = 0
        self.is_proven = False
        self._begin_tallies([])

    def _begin_tallies(self, counting: list[Meter]) -> None:
        self._meters = counting
        self._read, self._found = Tally(counting), Tally(counting)

    async def run(self, say: Callable[[str], None]) -> list[Line]:
        told = False
        with File(self._path) as file:
            self._begin_tallies(await file.ask(meters.counting))
        while True:
            while files.is_held(self._path):
                with File(self._path) as file:
                    await self._follow(file)
                if not told:
                    say(
                        f"{self._seq} events are copied, and the control plane goes on: stop it now, and the rest follows"
                    )
                told = True
                await asyncio.sleep(FOLLOWS_EVERY_S)
            try:
                source = await Database.open(self._url)
            except StoreUnavailable:
                if files.is_held(self._path):
                    continue  # somebody started it again
                raise
            try:
                return await self._end(source)
            finally:
                await source.close()

    async def _follow(self, file: File) -> None:
        """Copy the events that came since, and read them back."""
        last = file.last_event()
        while rows := file.events_after(self._seq):
            await self._target.put(events, rows)
            self._read.add(events, rows)
            self._seq = rows[-1][0]
            self._report("copying events", self._seq, max(last, self._seq))
        if self._seen < self._seq:
            await self._read_back(self._seen)

    async def _read_back(self, after: int) -> None:
        done = after
        async for rows in self._target.rows(events, after=after):
            self._found.add(events, rows)
            done += len(rows)
            self._report("reading events back", min(done, self._seq), self._seq)
        self._seen = self._seq

    async def _end(self, source: Database) -> list[Line]:
        """All the rest, while nobody else has the file open."""
        with File(self._path) as file:
            _check_revision(file)
            counting = await file.ask(meters.counting)
            if counting != self._meters:
                await self._add_up_anew(file, counting)
            await self._follow(file)
            tables = [table for table in metadata.sorted_tables if table is not events]
            total, copied = sum(file.count(table) for table in tables), 0
            self._report("copying all else", copied, total)
            for table in tables:
                for rows in file.rows(table):
                    await self._target.put(table, rows)
                    self._read.add(table, rows)
                    copied += len(rows)
                    self._report("copying all else", copied, total)
            self._read.correct(file.corrected())
        await self._target.go_on_numbering()
        await self._read_all_else_back(tables, copied)
        lines = await self._compared(source)
        if not all(line.is_equal for line in lines):
            raise Unequal(lines)
        self.is_proven = True
        await self._hand_over(source)
        return lines

    async def _read_all_else_back(self, tables: list[Table], copied: int) -> None:
        done = 0
        self._report("reading all else back", done, copied)
        for table in tables:
            async for rows in self._target.rows(table):
                self._found.add(table, rows)
                done += len(rows)
                self._report("reading all else back", min(done, copied), copied)
        self._found.correct(await self._target.corrected())

    async def _add_up_anew(self, file: File, counting: list[Meter]) -> None:
        """Meters were made, changed or filled meanwhile: what is copied already counts otherwise."""
        self._begin_tallies(counting)
        seq = 0
        while seq < self._seq:
            rows = file.events_after(seq)
            self._read.add(events, [row for row in rows if row[0] <= self._seq])
            seq = rows[-1][0]
            self._report("adding events up anew", seq, self._seq)
        await self._read_back(0)

    async def _compared(self, source: Database) -> list[Line]:
        read, found = self._read.figures(), self._found.figures()
        lines = [Line(what, read.get(what, "-"), found.get(what, "-")) for what in {**read, **found}]
        logs = [await audit_commands.of_database(each, None, self._report) for each in (source, self._target)]
        said = [
            f"unbroken up to {each.head}" if each.problem is None else f"entry {each.broken_at} {each.problem}"
            for each in logs
        ]
        return [*lines, Line("audit log", said[0], said[1])]

    async def _hand_over(self, source: Database) -> None:
        """In this order: whatever ends it, at most one of the two goes on as what there was."""
        if source.witness.last is not None:
            await self._target.witness.keep(self._target.witness.statement(source.witness.last))
        async with source.write() as conn:
            known = await state.get(conn)
            await state.set_generation(conn, self._clock.new_id("gen"))
            said = source.witness.statement(Attested(known.generation, known.lease_version + 1, None))
        await source.witness.keep(said)
        try:
            await self._target.finish()
        except StoreUnavailable:
            await self._target.finish()  # nobody knows whether the first was committed (P15)


def _source(url: str) -> Path:
    if is_postgres(url):
        raise SettingsError("database", "must be sqlite:///PATH: pg_dump moves what is on a server already")
    path = sqlite_path(url)
    if not path.is_file():
        raise SettingsError("database", f"{path}: there is no such file")
    with File(path) as file:
        _check_revision(file)
    return path


def _check_witness(path: Path, witness: str | None) -> None:
    if witness is not None and Path(witness).resolve() == Path(f"{path}.holders").resolve():
        raise SettingsError("witness", "must be another file than that beside the database")


def _check_revision(file: File) -> None:
    found = file.revision()
    if found != newest():
        raise SettingsError(
            "database",
            f"its schema must be this version's, {newest()}, and is {found or 'none'}: run `sidemeter-control migrate` first",
        )


async def _target(to: str, witness: str | None) -> Target:
    try:
        url = Settings.from_environ({}, database=to).database
    except SettingsError as exc:
        raise SettingsError("to", exc.rule) from exc
    if not is_postgres(url):
        raise SettingsError("to", "must be postgresql://USER:PASSWORD@HOST:PORT/NAME")
    with _as_setting():
        return await Target.at(url, witness=witness)


@contextmanager
def _as_setting() -> Iterator[None]:
    try:
        yield
    except DatabaseUnfit as exc:
        raise SettingsError("to", f"{exc.path}: {exc.rule}") from exc
