"""Sessions of pages: they stand for a key or a link, and end with it, by themselves, or when there are too many."""

import pytest
from fakes import ManualClock
from sqlalchemy import insert

from sidemeter_control.access.sessions import MAX_SESSIONS, MAX_SESSIONS_EACH, SESSION_S
from sidemeter_control.api.auth import Gate
from sidemeter_control.errors import Conflict
from sidemeter_control.store import tables
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def gate(database: Database, clock: ManualClock) -> Gate:
    return Gate(database, clock)


async def key_of(gate: Gate, expires_at_us: int | None = None) -> tuple[Key, str]:
    return await gate.make("operator", frozenset({Scope.READ}), expires_at_us)


async def test_a_session_stands_for_its_key_for_a_working_day(gate: Gate, clock: ManualClock) -> None:
    key, secret = await key_of(gate)
    opened = await gate.sessions.open(key, secret)
    assert opened.expires_at_us == clock.now_us() + SESSION_S * 1_000_000
    assert await gate.sessions.find(opened.token) == key
    clock.advance(SESSION_S)
    assert await gate.sessions.find(opened.token) is None


async def test_it_outlives_the_process(gate: Gate, database: Database, clock: ManualClock) -> None:
    key, secret = await key_of(gate)
    opened = await gate.sessions.open(key, secret)
    assert await Gate(database, clock).sessions.find(opened.token) == key


@pytest.mark.parametrize("end", ["revoked", "replaced", "expired", "closed"])
async def test_it_ends_with_what_it_stands_for(gate: Gate, clock: ManualClock, end: str) -> None:
    key, secret = await key_of(gate, clock.now_us() + 60_000_000)
    opened = await gate.sessions.open(key, secret)
    if end == "revoked":
        await gate.revoke(key.id)
    elif end == "replaced":
        await gate.replace_secret(key.id, 0)
    elif end == "expired":
        clock.advance(60)
    else:
        await gate.sessions.close(opened.token)
    assert await gate.sessions.find(opened.token) is None


async def test_the_oldest_of_a_key_ends_when_there_is_one_too_many(gate: Gate, clock: ManualClock) -> None:
    key, secret = await key_of(gate)
    opened = []
    for _ in range(MAX_SESSIONS_EACH + 1):
        opened.append(await gate.sessions.open(key, secret))
        clock.advance(1)
    assert [await gate.sessions.find(each.token) for each in opened] == [None] + [key] * MAX_SESSIONS_EACH


@pytest.mark.no_cover
async def test_there_are_only_so_many(gate: Gate, database: Database, clock: ManualClock) -> None:
    key, secret = await key_of(gate)
    full = [
        {"token_hash": number.to_bytes(4, "big"), "owner": f"key {number}", "created_at_us": 0}
        | {"expires_at_us": clock.now_us() + 1_000_000}
        for number in range(MAX_SESSIONS)
    ]
    async with database.write() as conn:
        await conn.execute(insert(tables.sessions), full)
    with pytest.raises(Conflict):
        await gate.sessions.open(key, secret)
    clock.advance(1)
    assert await gate.sessions.find((await gate.sessions.open(key, secret)).token)
