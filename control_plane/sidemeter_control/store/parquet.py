"""Files of events in Parquet: the only module that knows pyarrow, and loaded only where such a file is made or read.

A file is sorted by subject, time and number, in groups of rows that are read one by one; every page has its checksum.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["GROUP_EVENTS", "Draft", "Packed", "Problem", "Row", "Whole", "data_of", "group_of", "rows_of", "whole"]

Row: TypeAlias = tuple[int, str, str, str, str, int, int, str | None]
"""seq, source, id, type, subject, time_us, received_at_us, data: a row of `events`."""

GROUP_EVENTS: Final = 8_192
"""Rows that are read and unpacked together: some 2 MiB, in a few milliseconds."""

_LEVEL: Final = 9
"""Of zstd: a file is written once, and kept for years."""

_TIME: Final = pa.timestamp("us", tz="UTC")
_SCHEMA: Final = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("received_at", _TIME, nullable=False),
        pa.field("data", pa.string()),
    ]
)
_ORDER: Final = [("subject", "ascending"), ("time", "ascending"), ("seq", "ascending")]
_ID: Final = b"sidemeter.archive"
_NAMED: Final = ["source", "id", "data"]


class Problem(Exception):
    """Why a file cannot be read as what it should be."""


class Draft:
    """Events on their way into a file: `events` of them, with `data_bytes` of data."""

    group_events = GROUP_EVENTS

    def __init__(self) -> None:
        self.events = self.data_bytes = 0
        self._parts: list[Any] = []
        self._numbers: tuple[int, ...] = ()
        self._times: tuple[int, ...] = ()

    def add(self, rows: Sequence[Row]) -> None:
        """Some more, in any order."""
        columns = zip(*rows, strict=True)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
        self._parts.append(pa.Table.from_arrays(arrays, schema=_SCHEMA))
        self.events += len(rows)
        self.data_bytes += sum(len(row[-1].encode()) for row in rows if row[-1] is not None)
        self._numbers = _stretched(self._numbers, [row[0] for row in rows])
        self._times = _stretched(self._times, [row[5] for row in rows])

    def ends(self) -> dict[str, int]:
        """The first and last number and time of them, as a file is written down with."""
        (first_seq, last_seq), (from_us, to_us) = self._numbers, self._times
        return {"first_seq": first_seq, "last_seq": last_seq, "from_us": from_us, "to_us": to_us}

    def packed(self, id_: str) -> "Packed":
        """All of them as the bytes of a file that says it is `id_`."""
        table = pa.concat_tables(self._parts).sort_by(_ORDER).combine_chunks()
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata({_ID: id_.encode()}),
            sink,
            row_group_size=GROUP_EVENTS,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=["source", "type", "subject"],
            write_page_checksum=True,
            sorting_columns=pq.SortingColumn.from_ordering(_SCHEMA, _ORDER),
        )
        return Packed(table, sink.getvalue())


class Packed:
    """The bytes of a file, and the table that they must come to."""

    def __init__(self, table: Any, content: Any) -> None:
        self.content = content
        self._table = table

    def is_held_by(self, file: "Whole") -> bool:
        """Whether the file that was read back says the same, in every value."""
        return bool(file.table.equals(self._table))


class Whole:
    """A file that is read as a whole."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def by_number(self) -> list[tuple[int, int]]:
        """The number of each event and its row, in the order of the numbers."""
        return sorted(zip(self.table.column("seq").to_pylist(), range(self.table.num_rows), strict=True))


def whole(path: Path, id_: str, events: int) -> Whole:
    """All of a file. Problem when it is not that one, or damaged."""
    try:
        with _opened(path, id_, events) as file:
            return Whole(file.read(use_threads=False).replace_schema_metadata(None))
    except (pa.ArrowException, OSError) as exc:
        raise Problem(_said(exc)) from exc


def rows_of(file: Whole, places: Sequence[int]) -> list[Row]:
    """The rows at those places, as the database has them."""
    some = file.table.take(pa.array(places, pa.int64()))
    return list(zip(*(_plain(column).to_pylist() for column in some.columns), strict=True))


def group_of(path: Path, id_: str, events: int, number: int) -> Any:
    """A group of rows, of which `data_of` reads. Problem as for `whole`."""
    try:
        with _opened(path, id_, events) as file:
            return file.read_row_group(number, columns=_NAMED, use_threads=False)
    except (pa.ArrowException, OSError) as exc:
        raise Problem(_said(exc)) from exc


def data_of(group: Any, places: Sequence[int]) -> list[tuple[str, str, str | None]]:
    """Source, id and data of the rows at those places in the group."""
    some = group.take(pa.array(places, pa.int64()))
    return list(zip(*(some.column(name).to_pylist() for name in _NAMED), strict=True))


def _stretched(ends: tuple[int, ...], values: Sequence[int]) -> tuple[int, ...]:
    return min(*ends, *values, values[0]), max(*ends, *values, values[0])


def _opened(path: Path, id_: str, events: int) -> Any:
    file = pq.ParquetFile(path, page_checksum_verification=True)
    known = (file.metadata.metadata or {}).get(_ID, b"").decode()
    if known != id_ or file.metadata.num_rows != events:
        file.close()
        raise Problem(
            f"is another file: it says it is {known or 'nothing of ours'}, of {file.metadata.num_rows} events"
        )
    return file


def _plain(column: Any) -> Any:
    return column.cast(pa.int64()) if column.type == _TIME else column


def _said(exc: Exception) -> str:
    return f"cannot be read: {' '.join(str(exc).split())[:200]}"
