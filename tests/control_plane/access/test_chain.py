"""The chain of the audit log: nothing in it can be changed or taken out unseen."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planes import older_database
from sqlalchemy import insert, update

from sidemeter_control.access import auditing
from sidemeter_control.access.auditing import MAX_CHECKED, check
from sidemeter_control.access.chain import BEFORE_THE_FIRST, Break, Head, checked, hash_of
from sidemeter_control.errors import InvalidInput
from sidemeter_control.store import audit, tables
from sidemeter_control.store.audit import AuditEntry
from sidemeter_control.store.database import Database


def chained(said: list[str]) -> list[AuditEntry]:
    entries, before = [], BEFORE_THE_FIRST.hash
    for seq, detail in enumerate(said, 1):
        before = hash_of(before, seq, at_us=seq, actor="a", action="do", target="t", detail=detail)
        entries.append(AuditEntry(seq, seq, "a", None, "do", "t", detail, before))
    return entries


COLUMNS = tables.audit.columns.keys()
TEXTS = st.lists(st.text(max_size=5), min_size=1, max_size=8)


@given(TEXTS)
def test_what_was_written_holds(said: list[str]) -> None:
    entries = chained(said)
    assert checked(BEFORE_THE_FIRST, entries) == Head(len(said), entries[-1].hash or b"")


@given(TEXTS, st.data())
def test_one_entry_that_says_something_else_is_found_where_it_stands(said: list[str], data: st.DataObject) -> None:
    entries = chained(said)
    place = data.draw(st.integers(0, len(said) - 1))
    field = data.draw(st.sampled_from(["at_us", "actor", "action", "target", "detail"]))
    other = 99 if field == "at_us" else getattr(entries[place], field) + "x"
    entries[place] = replace(entries[place], **{field: other})
    found = checked(BEFORE_THE_FIRST, entries)
    assert isinstance(found, Break)
    assert found.seq == place + 1


@given(TEXTS, st.data())
def test_one_entry_that_is_taken_out_is_missed(said: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(said) - 1))
    entries = chained(said)
    del entries[place]
    found = checked(BEFORE_THE_FIRST, entries)
    assert found == (Break(place + 1, "is missing") if place < len(entries) else Head(place, _last(entries)))


def _last(entries: list[AuditEntry]) -> bytes:
    return (entries[-1].hash or b"") if entries else BEFORE_THE_FIRST.hash


def test_a_log_that_was_written_anew_is_not_what_was_noted() -> None:
    noted = Head(2, chained(["a", "b", "c"])[1].hash or b"")
    anew = chained(["a", "forged", "c"])
    assert isinstance(checked(BEFORE_THE_FIRST, anew), Head)
    assert checked(BEFORE_THE_FIRST, anew, noted) == Break(2, "is not what it was when its hash was noted")


@pytest.mark.parametrize("text", ["", "1", "1:ab", "x:" + "0" * 64, "1:" + "g" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Head.read(text)


async def write(database: Database, count: int) -> None:
    async with database.write() as conn:
        for number in range(count):
            await audit.add(conn, number, "operator", "setBudget", f"budget {number}", amount=number)


async def found(database: Database, noted: Head | None = None) -> auditing.Check:
    async with database.read() as conn:
        return await check(conn, BEFORE_THE_FIRST, noted)


@pytest.mark.parametrize(
    ("tamper", "at", "problem"),
    [
        ("UPDATE audit SET detail = '{\"amount\":1000}' WHERE seq = 3", 3, "was changed, or one before it was"),
        ("UPDATE audit SET actor = 'key_of_somebody' WHERE seq = 1", 1, "was changed, or one before it was"),
        ("DELETE FROM audit WHERE seq = 2", 2, "is missing"),
        ("DELETE FROM audit WHERE seq = 5", 5, "is missing: the newest is said to be 5"),
        ("DELETE FROM audit", 1, "is missing: the newest is said to be 5"),
        ("UPDATE audit SET hash = NULL WHERE seq = 4", 4, "was changed, or one before it was"),
    ],
)
async def test_what_is_done_to_the_table_is_found(database: Database, tamper: str, at: int, problem: str) -> None:
    await write(database, 5)
    assert (await found(database)).broken is None
    async with database.write() as conn:
        await conn.exec_driver_sql(tamper)
    assert (await found(database)).broken == Break(at, problem)


async def test_an_end_that_was_cut_off_stays_a_gap_when_the_log_goes_on(database: Database) -> None:
    await write(database, 3)
    async with database.write() as conn:
        await conn.exec_driver_sql("DELETE FROM audit WHERE seq > 1")
    await write(database, 2)
    assert (await found(database)).broken == Break(2, "is missing")


async def test_a_head_that_was_noted_must_still_be_there(database: Database) -> None:
    await write(database, 2)
    noted = (await found(database)).head
    assert (await found(database, noted)).broken is None
    assert (await found(database, Head(3, bytes(32)))).broken == Break(3, "is missing: 3 was noted once")


async def test_a_long_log_is_looked_at_in_parts(database: Database) -> None:
    assert MAX_CHECKED == 10_000
    rows = [asdict(entry) for entry in chained(["{}"] * (MAX_CHECKED + 1))]
    async with database.write() as conn:
        await conn.execute(insert(tables.audit), [{name: row[name] for name in COLUMNS} for row in rows])
        await conn.execute(update(tables.state).values(audit_seq=rows[-1]["seq"], audit_hash=rows[-1]["hash"]))
    first = await found(database)
    assert (first.more, first.head.seq) == (True, MAX_CHECKED)
    async with database.read() as conn:
        rest = await check(conn, first.head)
    assert (rest.more, rest.head.seq, rest.broken) == (False, MAX_CHECKED + 1, None)


async def test_entries_of_older_versions_are_chained_when_the_database_is_migrated(tmp_path: Path) -> None:
    add = "INSERT INTO audit (at_us, actor, action, target, detail) VALUES ({0}, 'k', 'createMeter', 'meter ü', '{{}}')"
    budget = (
        "INSERT INTO customers (key, time_zone, created_at_us, language) VALUES ('acme', 'UTC', 0, 'EN')",
        "INSERT INTO api_keys (id, name, secret_hash, scopes, created_at_us) VALUES ('k', 'old', x'00', '[\"READ\"]', 1)",
    )
    async with older_database(tmp_path, "0014", *budget, *(add.format(at) for at in range(3))) as database:
        assert (await found(database)).head.seq == 3
        await write(database, 1)
        assert ((await found(database)).head.seq, (await found(database)).broken) == (4, None)
        async with database.read() as conn:
            (key,) = (await conn.exec_driver_sql("SELECT name, prefix, customer_key, service FROM api_keys")).all()
        assert tuple(key) == ("old", None, None, None)
