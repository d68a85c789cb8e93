"""Which of the events offered are new is said by place, whatever else is among them."""

import random

import pytest

from sidemeter_control.metering.events import Event
from sidemeter_control.store import events
from sidemeter_control.store.database import Database

pytestmark = pytest.mark.both_databases

NOW_US = 1_700_000_000_000_000


def event(n: int) -> Event:
    return Event(f"{n}", "chat", "call", "acme", NOW_US + n, f'{{"n":{n}}}')


async def stored(database: Database) -> list[str]:
    async with database.read() as conn:
        return [each.id for each in reversed(await events.page(conn, 10_000))]


@pytest.mark.parametrize("size", [1, events._COPIED_FROM - 1, events._COPIED_FROM, 300])
@pytest.mark.parametrize("known", [0, 1, 7])
async def test_those_that_are_stored_already_are_told_from_those_that_are_not(
    database: Database, size: int, known: int
) -> None:
    before = random.Random(size).sample(range(size), min(known, size))
    async with database.write() as conn:
        assert list(await events.add(conn, [event(n) for n in before], NOW_US)) == list(range(len(before)))
    async with database.write() as conn:
        new = await events.add(conn, [event(n) for n in range(size)], NOW_US)
    assert list(new) == [n for n in range(size) if n not in before]
    assert await stored(database) == [f"{n}" for n in range(size)]


async def test_one_that_is_offered_twice_at_once_goes_in_once(database: Database) -> None:
    offered = [event(n % 80) for n in range(100)]
    async with database.write() as conn:
        assert list(await events.add(conn, offered, NOW_US)) == list(range(80))
    async with database.write() as conn:
        assert list(await events.add(conn, [event(80)], NOW_US)) == [0]
    assert await stored(database) == [f"{n}" for n in range(81)]


async def test_what_a_transaction_that_is_undone_had_added_is_new_to_the_next(database: Database) -> None:
    offered = [event(n) for n in range(100)]

    async def fail() -> None:
        async with database.write() as conn:
            await events.add(conn, offered, NOW_US)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    async with database.write() as conn:
        assert list(await events.add(conn, offered, NOW_US)) == list(range(100))
