"""Which events are in no file yet, of months that are over: those of months that nobody went through, and those that came late."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidemeter_control.metering import months
from sidemeter_control.metering.events import FIRST_US
from sidemeter_control.store import archived, events
from sidemeter_control.store.database import Database

if TYPE_CHECKING:
    from sidemeter_control.store.parquet import Draft

__all__ = ["SIZES", "Sizes", "Unarchived"]

_LOOKED_AT: Final = 500_000


class Sizes(NamedTuple):
    """How much is done at once: events and bytes of data in one file, events that one statement reads, and events that give up
    their data in one transaction.

    A file is sorted, packed, and read back in memory, which takes some four times its data. A transaction keeps ingest
    waiting for some tens of milliseconds.
    """

    file_events: int = 250_000
    file_bytes: int = 64 * 1024 * 1024
    read: int = 1_000
    detached: int = 1_000


SIZES: Final = Sizes()


class Unarchived:
    """The events that are due, month by month, in drafts of files."""

    def __init__(self, database: Database, before_us: int, sizes: Sizes = SIZES) -> None:
        self._database = database
        self._before_us = before_us
        self._sizes = sizes
        self.number = 1
        self._upto = 0
        self._known: dict[int, int] = {}
        self._due: list[int] = []

    async def begin(self) -> None:
        """See which months have events that are in no file: those that nobody went through, and those to which some came late."""
        async with self._database.read() as conn:
            self._upto = await events.last_seq(conn)
            self._known = await archived.months(conn)
            self.number = await archived.last_number(conn) + 1
        due = {month_us for month_us in [month async for month in self._months()] if month_us not in self._known}
        for after in range(min(self._known.values(), default=self._upto), self._upto, _LOOKED_AT):
            async with self._database.read() as conn:
                upto = min(after + _LOOKED_AT, self._upto)
                due |= {months.begin(day) for day in await archived.days_of(conn, after, upto, self._before_us)}
        self._due = sorted(due)

    async def _months(self) -> AsyncIterator[int]:
        from_us = FIRST_US
        while from_us < self._before_us:
            async with self._database.read() as conn:
                first_us = await archived.earliest(conn, from_us, self._before_us)
            if first_us is None:
                return
            yield months.begin(first_us)
            from_us = months.end(months.begin(first_us))

    async def count(self) -> int:
        """How many events are due."""
        found = 0
        for month_us in self._due:
            async with self._database.read() as conn:
                found += await archived.count(conn, (month_us, months.end(month_us)), self._numbers(month_us))
        return found

    def _numbers(self, month_us: int) -> tuple[int, int]:
        return self._known.get(month_us, 0), self._upto

    async def drafts(self) -> AsyncIterator[tuple[int, "Draft | None"]]:
        """The events of each month, as many at a time as one file takes; None once there are no more of it."""
        for month_us in self._due:
            async for draft in self._of_month(month_us):
                yield month_us, draft
            yield month_us, None

    async def _of_month(self, month_us: int) -> AsyncIterator["Draft"]:
        from sidemeter_control.store.parquet import Draft  # noqa: PLC0415 -- an extra

        draft, after, sizes = Draft(), (FIRST_US, 0), self._sizes
        within = month_us, months.end(month_us)
        while True:
            async with self._database.read() as conn:
                some: list[Any] = await archived.rows(conn, within, after, self._numbers(month_us), sizes.read)
            if some:
                await asyncio.to_thread(draft.add, some)
                after = some[-1][5], some[-1][0]
            is_last = len(some) < sizes.read
            is_full = draft.events >= sizes.file_events or draft.data_bytes >= sizes.file_bytes
            if draft.events and (is_last or is_full):
                yield draft
                draft = Draft()
            if is_last:
                return

    @property
    def months_known(self) -> list[int]:
        """Every month that was gone through by now."""
        return sorted({*self._known, *self._due})

    async def went_through(self, month_us: Sequence[int]) -> None:
        """Write that all that arrived before this began is in files."""
        if month_us:
            async with self._database.write() as conn:
                await archived.scanned(conn, month_us, self._upto)
