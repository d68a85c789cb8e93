"""Loss declarations: each stored once, in pages, by agent."""

from dataclasses import replace

import pytest

from sidemeter_control.metering.batches import Cursor
from sidemeter_control.store import agents, losses
from sidemeter_control.store.agents import Agent
from sidemeter_control.store.database import Database
from sidemeter_control.store.losses import LossDeclaration

pytestmark = pytest.mark.both_databases

LOSS = LossDeclaration(
    agent_id="a",
    id="l1",
    epoch=1,
    first_row=7,
    last_row=9,
    events=3,
    reason="a page could not be read",
    noticed_at_us=5,
    received_at_us=6,
)


async def know(database: Database, *agent_ids: str) -> None:
    async with database.write() as conn:
        for agent_id in agent_ids:
            await agents.put(conn, Agent(agent_id=agent_id, service="chat", version="1", epoch=1, last_seen_us=0))
            await agents.add_epoch(conn, Cursor(agent_id, 1), "h", "b", 0)


async def test_a_declaration_is_stored_once_as_it_came_first(database: Database) -> None:
    await know(database, "a", "b")
    unbounded = replace(LOSS, id="l2", last_row=None, events=None)
    for declared in ([LOSS], [replace(LOSS, events=4), unbounded], [replace(LOSS, agent_id="b")]):
        async with database.write() as conn:
            await losses.add(conn, declared)
    async with database.read() as conn:
        found = await losses.page(conn, 10)
        assert [(each.agent_id, each.id, each.last_row, each.events) for each in found] == [
            ("b", "l1", 9, 3),
            ("a", "l2", None, None),
            ("a", "l1", 9, 3),
        ]
        assert await losses.known(conn) == (3, 6)
        assert [each.id for each in await losses.page(conn, 10, before=found[1].seq)] == ["l1"]
        assert {name: len(own) for name, own in (await losses.of_agents(conn, ["a", "b", "c"])).items()} == {
            "a": 2,
            "b": 1,
        }
