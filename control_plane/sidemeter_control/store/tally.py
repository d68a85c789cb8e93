"""What all rows of a database come to, so that two of them can be compared: bytes for programs, totals for people. Pure.

Nothing depends on the order in which rows are added.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal, Inexact
from typing import Final

import msgspec
from sqlalchemy import Table

from sidemeter_control.metering.corrections import CorrectionKind
from sidemeter_control.metering.counting import Readers, count, readers
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.meters import Aggregation, Meter, from_nano, nano_of
from sidemeter_control.store.archived import is_archived
from sidemeter_control.store.contents import Row
from sidemeter_control.store.tables import ExactDecimal, closed_periods, credit_grants, events, rollups

__all__ = ["Tally"]

_DIGEST_BYTES: Final = 8
_SUMMED: Final = {Aggregation.SUM, Aggregation.AVG, Aggregation.TIME_WEIGHTED}
_EXACT = Context(prec=1_000, traps=[Inexact])

_encode = msgspec.msgpack.encode


class _Rows:
    """How many a table has, and the sum of their digests."""

    def __init__(self, table: Table) -> None:
        self.count = self.digest = 0
        self._decimals = [place for place, column in enumerate(table.c) if isinstance(column.type, ExactDecimal)]

    def __str__(self) -> str:
        return f"{self.count} rows, {self.digest:0{2 * _DIGEST_BYTES}x}"

    def add(self, rows: Sequence[Row]) -> None:
        if self._decimals:
            rows = [self._written_out(row) for row in rows]
        added = sum(
            int.from_bytes(hashlib.blake2b(_encode(row), digest_size=_DIGEST_BYTES).digest(), "big") for row in rows
        )
        self.count += len(rows)
        self.digest = (self.digest + added) % (1 << 8 * _DIGEST_BYTES)

    def _written_out(self, row: Row) -> Row:
        """One number is one text: a driver may give 600000 as 6E+5, and PostgreSQL has no -0."""
        values = list(row)
        for place in self._decimals:
            if values[place] is not None:
                values[place] = f"{values[place] or abs(values[place]):f}"
        return tuple(values)


class Tally:
    """Give it every row, with `meters` as they count in that database, then `figures` says what they come to."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = meters
        self._readers = readers(meters)
        self._tables: dict[str, _Rows] = {}
        self._archived = 0
        self._counted: Counter[tuple[str, int]] = Counter()
        self._nano: Counter[tuple[str, int]] = Counter()
        self._money: dict[str, Decimal] = {}
        self._added_up: Mapping[str, Callable[[Sequence[Row]], None]] = {
            events.name: self._add_events,
            rollups.name: self._add_rollups,
            credit_grants.name: self._add_credits,
            closed_periods.name: self._add_periods,
        }

    def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Some rows of a table, each once."""
        if table.name not in self._tables:
            self._tables[table.name] = _Rows(table)
        self._tables[table.name].add(rows)
        if table.name in self._added_up:
            self._added_up[table.name](rows)

    def correct(self, corrected: Iterable[Row]) -> None:
        """Every corrected event with its last correction: it counts as that says. One that is in a file is none of these."""
        for *row, kind, data in corrected:
            if is_archived(row[-1]):
                continue
            self._count([tuple(row)], -1)
            if kind != CorrectionKind.VOID.value:
                self._count([(*row[:-1], data)], 1)

    def figures(self) -> dict[str, str]:
        """What is compared, by what people call it."""
        found = {f"table {name}": str(each) for name, each in self._tables.items()}
        for meter in self._meters:
            for kind, said in (("rollups", "its rollups"), ("events", "the events themselves")):
                counted, nano = self._counted[kind, meter.id], self._nano[kind, meter.id]
                summed = f", {from_nano(nano):f} in sum" if meter.aggregation in _SUMMED else ""
                found[f"meter {meter.key} ({meter.id}), {said}"] = f"{counted} events{summed}"
        found |= {what: f"{amount:f}" for what, amount in self._money.items()}
        return found | {"events in the archive": str(self._archived)} if self._archived else found

    def _add_events(self, rows: Sequence[Row]) -> None:
        """What is in a file of the archive says nothing here: that it is, is equal in both."""
        here = [row for row in rows if not is_archived(row[-1])]
        self._archived += len(rows) - len(here)
        self._count(here, 1)

    def _count(self, rows: Sequence[Row], times: int) -> None:
        """As they count for every meter that is filled up to them."""
        if all(meter.progress.done for meter in self._meters):
            self._count_for(self._readers, rows, times)
            return
        for meter in self._meters:
            self._count_for(readers([meter]), [row for row in rows if meter.progress.counts(row[0])], times)

    def _count_for(self, counting: Readers, rows: Sequence[Row], times: int) -> None:
        some = [Event(id_, source, type_, subject, at, data) for _, source, id_, type_, subject, at, _, data in rows]
        for bucket, rollup in count(counting, some).hours.items():
            self._counted["events", bucket.meter_id] += times * rollup.events
            self._nano["events", bucket.meter_id] += times * (rollup.sum or 0)

    def _add_rollups(self, rows: Sequence[Row]) -> None:
        """Those of hours: days hold the same once more."""
        for _, meter_id, grain_s, _, _, counted, amount, *_ in rows:
            if grain_s == 3600:
                self._counted["rollups", meter_id] += counted
                self._nano["rollups", meter_id] += 0 if amount is None else nano_of(amount)

    def _add_credits(self, rows: Sequence[Row]) -> None:
        place = {column.name: index for index, column in enumerate(credit_grants.c)}
        for row in rows:
            if row[place["voided_at_us"]] is None:
                self._pay(f"credits in {row[place['currency']] or row[place['unit']]}", row[place["amount"]])

    def _add_periods(self, rows: Sequence[Row]) -> None:
        place = [column.name for column in closed_periods.c].index("total")
        for row in rows:
            self._pay("owed in closed periods", row[place])

    def _pay(self, what: str, amount: Decimal) -> None:
        self._money[what] = _EXACT.add(self._money.get(what, Decimal(0)), amount)
