"""A file's rows as they are copied: in stretches that are bounded, beside whoever writes."""

from pathlib import Path

import pytest
from sqlalchemy import insert

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.store.contents import MAX_COPIED_BYTES, MAX_COPIED_ROWS, File
from sidemeter_control.store.database import Database
from sidemeter_control.store.tables import dead_letters, late_days


async def test_no_stretch_has_more_rows_than_may_be_copied_at_once(database: Database) -> None:
    async with database.write() as conn:
        days = [{"subject": "acme", "day_us": day, "first_seq": 1} for day in range(MAX_COPIED_ROWS + 1)]
        await conn.execute(insert(late_days), days)
        with File(database.path) as file:  # nothing of this transaction, while it is open
            assert list(file.rows(late_days)) == []
    with File(database.path) as file:
        assert [len(rows) for rows in file.rows(late_days)] == [MAX_COPIED_ROWS, 1]


@pytest.mark.parametrize(("size", "expected"), [(MAX_COPIED_BYTES // 2, [2, 1]), (MAX_COPIED_BYTES + 1, [1, 1, 1])])
async def test_a_stretch_ends_where_it_has_as_many_bytes_as_may_be_copied_at_once(
    database: Database, size: int, expected: list[int]
) -> None:
    async with database.write() as conn:
        letters = [{"code": "c", "reason": "r", "raw": bytes(size), "received_at_us": 0}] * 3
        await conn.execute(insert(dead_letters), letters)
    with File(database.path) as file:
        assert [len(rows) for rows in file.rows(dead_letters)] == expected


def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with pytest.raises(StoreUnavailable, match=f"{path}: unable to open"):
        File(path)
    path.write_bytes(b"")
    with File(path) as file:
        assert file.revision() is None
    path.write_bytes(b"this is no database" * 1000)
    with File(path) as file, pytest.raises(StoreUnavailable, match=f"{path}: file is not a database"):
        file.revision()
