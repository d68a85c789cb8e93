"""The form of the buffer's database: its tables, and how one of an older form becomes one of this."""

import zlib
from typing import Final

import aiosqlite
import msgspec

from sidemeter.batches import checksum

__all__ = ["FORM", "create", "form_of", "is_as_made", "sum_of", "upgrade"]

FORM: Final = 4
"""Rows carry checksums from form 2 on; form 3 knows leases and reservations, form 4 which losses were told."""

_TABLES: Final = tuple(
    """\
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE caller_ids (seq INTEGER PRIMARY KEY, source TEXT NOT NULL, id TEXT NOT NULL, UNIQUE (source, id)) STRICT;
CREATE TABLE batches (
    last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, epoch INTEGER NOT NULL, batch_no INTEGER NOT NULL,
    events INTEGER NOT NULL, size INTEGER NOT NULL, prev_digest BLOB NOT NULL, digest BLOB NOT NULL,
    crc INTEGER NOT NULL, settled_at_s REAL, UNIQUE (epoch, batch_no)) STRICT;
CREATE INDEX unsettled ON batches (last_seq) WHERE settled_at_s IS NULL;
CREATE TABLE refused (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, reason TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE limits (
    id TEXT PRIMARY KEY, body BLOB NOT NULL, as_of_us INTEGER NOT NULL, counted_seq INTEGER NOT NULL,
    crc INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE INDEX counted ON limits (counted_seq);
CREATE TABLE subjects (subject TEXT PRIMARY KEY, limit_ids BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE losses (id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE told (id TEXT PRIMARY KEY) WITHOUT ROWID, STRICT;
CREATE TABLE leases (
    limit_id TEXT NOT NULL, period INTEGER NOT NULL, holder TEXT NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (limit_id, period)) WITHOUT ROWID, STRICT;
CREATE TABLE holds (id TEXT PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID, STRICT
""".strip().split(";\n")
)
_BATCH: Final = "epoch, batch_no, first_seq, last_seq, events, size, prev_digest, digest"
_FROM_1: Final = {
    "meta": "key, value, sum_of(key, value)",
    "events": "seq, body, checksum(seq, body)",
    "caller_ids": "seq, source, id",
    "batches": "last_seq, first_seq, epoch, batch_no, events, size, prev_digest, digest,"
    f" sum_of({_BATCH}), settled_at_s",
    "refused": "seq, body, reason, checksum(seq, body)",
    "limits": "id, body, as_of_us, counted_seq, sum_of(id, body, as_of_us, counted_seq)",
    "subjects": "subject, limit_ids, sum_of(subject, limit_ids)",
}
"""How each table of form 1 fills the one of this form."""

_SINCE: Final = {3: ("CREATE TABLE leases ", "CREATE TABLE holds "), 4: ("CREATE TABLE told ",)}
"""What each form has that the one before it had not."""


def sum_of(*values: object) -> int:
    """The CRC-32 over the values of a row that is not an event's."""
    return zlib.crc32(msgspec.msgpack.encode(values))


async def form_of(conn: aiosqlite.Connection) -> int:
    """The form that the file says it has; 0: it says nothing."""
    ((form,),) = await conn.execute_fetchall("PRAGMA user_version")
    return int(form)


async def create(conn: aiosqlite.Connection) -> None:
    """Make the tables, in the open transaction."""
    for statement in _TABLES:
        await conn.execute(statement)
    await conn.execute(f"PRAGMA user_version = {FORM}")


async def is_as_made(conn: aiosqlite.Connection) -> bool:
    """Whether the tables are, letter for letter, those that `create` makes, each in pages of its own."""
    made = await conn.execute_fetchall("SELECT sql, rootpage FROM sqlite_schema")
    statements = sorted(sql for sql, _ in made if sql is not None)
    return statements == sorted(_TABLES) and len({root for _, root in made}) == len(list(made))


async def upgrade(conn: aiosqlite.Connection, form: int) -> None:
    """Make this form of an older one, in the open transaction: every row as it is, and its checksum."""
    if form == 1:
        await _upgrade_1(conn)
        return
    new = tuple(table for since, tables in _SINCE.items() if since > form for table in tables)
    for statement in _TABLES:
        if statement.startswith(new):
            await conn.execute(statement)
    await conn.execute(f"PRAGMA user_version = {FORM}")


async def _upgrade_1(conn: aiosqlite.Connection) -> None:
    await conn.create_function("checksum", 2, checksum, deterministic=True)
    await conn.create_function("sum_of", -1, sum_of, deterministic=True)
    for index in ("unsettled", "counted"):
        await conn.execute(f"DROP INDEX {index}")
    for table in _FROM_1:
        await conn.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    await create(conn)
    for table, values in _FROM_1.items():
        await conn.execute(f"INSERT INTO {table} SELECT {values} FROM {table}_1")  # noqa: S608 -- constants
        await conn.execute(f"DROP TABLE {table}_1")
