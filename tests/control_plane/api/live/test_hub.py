"""Who watches what: one look for all, soon after a change, never more often than it may be, none for nobody."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from fakes import ManualClock, eventually

from sidemeter_control.api.live.bounds import LEFT_WITHIN_S, Places
from sidemeter_control.api.live.hub import EVERY_S, LOOK_AGAIN_S, LOOKS_AT_ONCE, Hub, Look, Seen, ShuttingDown, Watch
from sidemeter_control.api.refusals import Failed
from sidemeter_control.errors import NotFound, StoreUnavailable
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store import changes
from sidemeter_control.store.changes import Changes
from sidemeter_control.store.database import Database

ACME = Customer("acme", subjects=("acme", "acme-eu"))


@dataclass
class Thing:
    """Something that can be looked at."""

    hub: Hub
    says: object = 1
    of: Customer = ACME
    looks: int = 0
    at_once: int = 0
    most_at_once: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def find(self) -> tuple[Customer, object]:
        self.looks += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        says = self.says
        await self.gate.wait()
        self.at_once -= 1
        if isinstance(says, Exception):
            raise says
        return self.of, says

    def watch(self, key: str = "thing") -> Watch[object]:
        return self.hub.watch(Look(key, self.find, lambda one, other: one == other), self.of)


async def all_of(seen: AsyncIterator[object]) -> list[object]:
    return [each async for each in seen]


@pytest.fixture
async def hub(database: Database) -> AsyncIterator[Hub]:
    hub = Hub(database, ManualClock(), every_s=0.001, again_s=3600)
    yield hub
    await hub.close()


async def test_whoever_views_it_sees_it_as_it_is_and_then_as_it_changes(hub: Hub) -> None:
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        assert await anext(seen) == Seen(1, changed=True)
        thing.says = 2
        hub.changed(Changes(subjects={"acme-eu"}))
        assert await anext(seen) == Seen(2, changed=True)
        thing.says = 3
        hub.changed(Changes(customers={"acme"}))
        assert await anext(seen) == Seen(3, changed=True)
        thing.says = 4
        hub.changed(Changes(everyone=True))
        assert await anext(seen) == Seen(4, changed=True)


async def test_what_is_as_it_was_is_not_told_again(hub: Hub) -> None:
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
        following = asyncio.ensure_future(anext(seen))
        for looked in range(2, 5):
            hub.changed(Changes(customers={"acme"}))
            await eventually(lambda looked=looked: thing.looks == looked)  # type: ignore[misc]
        assert not following.done()
        thing.says = 2
        hub.changed(Changes(customers={"acme"}))
        assert await following == Seen(2, changed=True)


async def test_the_changes_of_others_are_nobodys_look(hub: Hub) -> None:
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
        hub.changed(Changes(subjects={"globex"}, customers={"globex"}, alerted={"acme"}))
        hub.changed(Changes())
        thing.says = 2
        hub.changed(Changes(subjects={"acme"}))
        await anext(seen)
        assert thing.looks == 2


async def test_many_who_view_one_thing_share_its_looks(hub: Hub) -> None:
    thing = Thing(hub)
    many = [aiter(thing.watch()) for _ in range(100)]
    assert {(await anext(each)).value for each in many} == {1}
    thing.says = 2
    hub.changed(Changes(customers={"acme"}))
    assert {(await anext(each)).value for each in many} == {2}
    assert thing.looks <= 3
    assert hub.watched == 1
    for each in many:
        await each.aclose()
    assert hub.watched == 0


async def test_what_nobody_views_any_more_is_not_looked_at(hub: Hub) -> None:
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
    hub.changed(Changes(customers={"acme"}, subjects={"acme"}, everyone=True))
    other = Thing(hub, of=Customer("globex"))
    async with aclosing(aiter(other.watch("other"))) as seen:
        await anext(seen)
    assert thing.looks == 1


async def test_a_hundred_changes_at_once_are_one_look_more(hub: Hub) -> None:
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
        thing.says = 2
        for _ in range(100):
            hub.changed(Changes(subjects={"acme"}))
        assert (await anext(seen)).value == 2
        assert thing.looks == 2


async def test_a_change_during_a_look_is_looked_at_after_it(hub: Hub) -> None:
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
        thing.gate.clear()
        hub.changed(Changes(subjects={"acme"}))
        await eventually(lambda: thing.looks == 2)
        thing.says = 2  # the look that is under way does not see it
        hub.changed(Changes(subjects={"acme"}))
        thing.gate.set()
        assert (await anext(seen)).value == 2


async def test_who_comes_later_sees_it_as_it_is_by_then_and_the_others_hear_nothing_twice(hub: Hub) -> None:
    thing = Thing(hub)
    first = aiter(thing.watch())
    await anext(first)
    second = aiter(thing.watch())
    assert await anext(second) == Seen(1, changed=False)
    assert await anext(first) == Seen(1, changed=False)  # whose feed tells only those who are new
    await first.aclose()
    await second.aclose()


async def test_who_is_slow_hears_the_last_and_that_it_is_another(hub: Hub) -> None:
    thing = Thing(hub)
    slow = aiter(thing.watch())
    await anext(slow)
    async with aclosing(aiter(thing.watch())) as quick:
        await anext(quick)
        for says in (2, 3, 4):
            thing.says = says
            hub.changed(Changes(customers={"acme"}))
            while (await anext(quick)).value != says:
                pass
    assert await anext(slow) == Seen(4, changed=True)
    await slow.aclose()


async def test_time_alone_is_a_reason_to_look_again(database: Database) -> None:
    hub = Hub(database, ManualClock(), every_s=0.001, again_s=0.01)
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
        thing.says = 2
        assert (await anext(seen)).value == 2
    assert (EVERY_S, LOOK_AGAIN_S) == (0.25, 60)


async def test_between_two_looks_there_is_as_much_time_as_there_must_be(database: Database) -> None:
    hub = Hub(database, ManualClock(), every_s=3600)
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
        hub.changed(Changes(customers={"acme"}))
        other = Thing(hub)
        async with aclosing(aiter(other.watch("other"))) as others:
            await anext(others)
        assert thing.looks == 1


async def test_a_subject_that_a_customer_gets_counts_from_the_look_on_that_finds_it(hub: Hub) -> None:
    thing = Thing(hub)
    async with aclosing(aiter(thing.watch())) as seen:
        await anext(seen)
        thing.of = Customer("acme", subjects=("acme-us",))
        hub.changed(Changes(customers={"acme"}))
        await eventually(lambda: thing.looks == 3)  # once more for what nobody noted
        thing.says = 2
        hub.changed(Changes(subjects={"acme", "acme-eu"}))
        hub.changed(Changes(subjects={"acme-us"}))
        assert (await anext(seen)).value == 2
        assert thing.looks == 4


async def test_a_few_things_are_looked_at_at_once_and_the_others_wait_for_their_turn(hub: Hub) -> None:
    thing = Thing(hub)
    thing.gate.clear()
    many = [aiter(thing.watch(f"thing {number}")) for number in range(10)]
    waiting = [asyncio.ensure_future(anext(each)) for each in many]
    await eventually(lambda: thing.at_once == LOOKS_AT_ONCE)
    thing.gate.set()
    await asyncio.gather(*waiting)
    assert (thing.looks, thing.most_at_once) == (10, LOOKS_AT_ONCE)
    for each in many:
        await each.aclose()


async def test_an_expected_error_ends_the_watch_for_all_who_view_it_and_it_may_begin_anew(hub: Hub) -> None:
    thing = Thing(hub)
    first, second = aiter(thing.watch()), aiter(thing.watch())
    await anext(first)
    await anext(second)
    thing.says = NotFound("quota of feature", "calls")
    hub.changed(Changes(everyone=True))
    for each in (first, second):
        with pytest.raises(NotFound):
            await all_of(each)
    assert hub.watched == 0
    thing.says = 5
    async with aclosing(aiter(thing.watch())) as seen:
        assert await anext(seen) == Seen(5, changed=True)


async def test_a_fault_of_ours_ends_it_with_an_id_that_is_in_the_log(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    thing = Thing(hub, says=RuntimeError("a mistake"))
    async with aclosing(aiter(thing.watch())) as seen:
        with pytest.raises(Failed, match="something failed on our side") as raised:
            await anext(seen)
    assert raised.value.incident in caplog.text
    assert "a mistake" in caplog.text


async def test_a_database_without_an_answer_is_asked_again(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    thing = Thing(hub, says=StoreUnavailable("disk full"))
    async with aclosing(aiter(thing.watch())) as seen:
        following = asyncio.ensure_future(anext(seen))
        await eventually(lambda: "waits for the database: disk full" in caplog.text)
        thing.says = 1
        assert (await following).value == 1


async def test_a_hub_that_closes_ends_everything_and_begins_nothing(database: Database) -> None:
    hub = Hub(database, ManualClock(), every_s=0.001)
    thing = Thing(hub)
    seen = aiter(thing.watch())
    await anext(seen)
    with hub.alarm(None) as alarm:
        await hub.close()
        assert alarm.is_set()
    with pytest.raises(ShuttingDown):
        await anext(seen)
    with pytest.raises(ShuttingDown):
        thing.watch()
    async with database.write() as conn:
        changes.note(conn, everyone=True)  # nobody listens any more


async def test_alarms_are_of_a_customer_or_of_all(hub: Hub) -> None:
    with hub.alarm("acme") as acme, hub.alarm("globex") as globex, hub.alarm(None) as everyone:
        hub.changed(Changes(alerted={"acme"}))
        assert (acme.is_set(), globex.is_set(), everyone.is_set()) == (True, False, True)


async def test_what_a_transaction_notes_is_told_once_it_is_committed_and_never_when_it_is_not(
    database: Database,
) -> None:
    told: list[Changes] = []
    stop = database.listen(told.append)
    async with database.write() as conn:
        changes.note(conn, subjects=["a"])
        changes.note(conn, customers=["b"], alerted=["c"])
        assert told == []
    assert told == [Changes({"a"}, {"b"}, {"c"})]
    async with database.write() as conn:
        changes.note(conn, everyone=True)
        await conn.rollback()
    async with database.write():
        pass
    assert len(told) == 1
    stop()
    async with database.write() as conn:
        changes.note(conn, everyone=True)
    assert len(told) == 1


async def test_an_end_waits_for_the_connections_that_are_told_of_it_and_not_for_ever() -> None:
    places = Places()
    assert await places.left()
    with places.stream():
        assert not await places.left(0)
        with places.stream():
            waiting = asyncio.create_task(places.left(LEFT_WITHIN_S))
            await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting
