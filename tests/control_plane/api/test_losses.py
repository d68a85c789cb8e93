"""What agents declared as lost, and how they are doing, as an operator sees it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from planes import Plane, plane

from sidemeter_control.store.keys import Scope

PAGE = """query($first: Int, $after: String) { lossDeclarations(first: $first, after: $after) {
  edges { node { id agent epoch firstRow lastRow events reason noticedAt receivedAt } } pageInfo { hasNextPage endCursor }
} }"""
AGENTS = "{ agents { id state backlog lossDeclarations { id events } } }"


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        yield opened


async def say(control: Plane, verb: str, **message: object) -> Any:
    headers = {"Authorization": f"Bearer {await control.key(Scope.AGENT)}", "Content-Type": "application/msgpack"}
    body = msgspec.msgpack.encode(message)
    answer = await control.http.post(f"/agent/v1/{verb}", content=body, headers=headers | {"Sidemeter-Protocol": "1"})
    assert answer.status_code == 200, answer.text
    return msgspec.msgpack.decode(answer.content)


async def hello(control: Plane, agent: str, *losses: dict[str, object]) -> None:
    named = {"agent_id": agent, "hello_id": "h", "boot_id": "b", "service": "chat", "version": "1"}
    answer = await say(control, "hello", **named, losses=losses)
    assert answer["losses_stored"] == [each["id"] for each in losses]


def loss(name: str, first: int, last: int | None, events: int | None) -> dict[str, object]:
    reason = "the buffer was damaged"
    return {"id": name, "first_seq": first, "last_seq": last, "events": events, "reason": reason, "noticed_at_us": 5}


async def test_declared_losses_are_listed_newest_first_and_beside_their_agent(control: Plane) -> None:
    await hello(control, "one", loss("l1", 7, 9, 3), loss("l2", 1 << 40, None, None))
    await hello(control, "two", loss("l1", 1, 1, 1))
    await hello(control, "one", loss("l1", 7, 9, 3))  # said again: it is stored once
    await hello(control, "three")

    page = (await control.ask(PAGE, first=2))["lossDeclarations"]
    rest = (await control.ask(PAGE, first=2, after=page["pageInfo"]["endCursor"]))["lossDeclarations"]
    assert (page["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    found = [edge["node"] for edge in page["edges"] + rest["edges"]]
    assert [(each["agent"], each["id"], each["firstRow"], each["lastRow"], each["events"]) for each in found] == [
        ("two", "l1", "1", "1", "1"),
        ("one", "l2", str(1 << 40), None, None),
        ("one", "l1", "7", "9", "3"),
    ]
    assert {(each["epoch"], each["reason"], each["noticedAt"]) for each in found} == {
        (1, "the buffer was damaged", "1970-01-01T00:00:00.000005Z")
    }
    agents = (await control.ask(AGENTS))["agents"]
    assert {each["id"]: [loss["id"] for loss in each["lossDeclarations"]] for each in agents} == {
        "one": ["l2", "l1"],
        "two": ["l1"],
        "three": [],
    }


async def test_an_agents_state_says_whether_it_is_heard_of_and_what_it_held_then(control: Plane) -> None:
    for name, backlog in (("up", 3), ("behind", 70_000), ("gone", 0), ("gone with events", 12)):
        await hello(control, name)
        sync = {"agent_id": name, "epoch": 1, "subjects": [], "backlog": backlog}
        await say(control, "sync", **sync)
        if name == "behind":
            waiting = sync

    async def states() -> dict[str, tuple[str, int]]:
        return {each["id"]: (each["state"], each["backlog"]) for each in (await control.ask(AGENTS))["agents"]}

    assert (await states())["behind"] == ("DRAINING", 70_000)
    control.clock.advance(60)
    await say(control, "sync", **waiting)
    await say(control, "sync", agent_id="up", epoch=1, subjects=[], backlog=3)
    assert await states() == {
        "up": ("CONNECTED", 3),
        "behind": ("DRAINING", 70_000),
        "gone": ("SILENT", 0),
        "gone with events": ("SILENT_WITH_BACKLOG", 12),
    }


async def test_losses_states_fences_rollbacks_and_the_pace_are_metrics(control: Plane) -> None:
    await hello(control, "one", loss("l1", 7, 9, 3), loss("l2", 20, None, None))
    first = await say(control, "sync", agent_id="one", epoch=1, subjects=[], backlog=0, sync_id="s1")
    await say(control, "sync", agent_id="one", epoch=1, subjects=[], backlog=0, sync_id="s2", nonce=first["nonce"])
    await say(control, "sync", agent_id="one", epoch=1, subjects=[], backlog=0, sync_id="s3", nonce=bytes(24))
    seen = {"generation": first["generation"], "state_version": first["state_version"]}
    await say(control, "sync", agent_id="one", epoch=9, subjects=[], backlog=0, sync_id="s4", seen=seen)
    figures = (await control.http.get("/metrics")).text
    for line in (
        "sidemeter_loss_declarations 2.0",
        "sidemeter_lost_events 3.0",
        'sidemeter_agents_by_state{state="CONNECTED"} 1.0',
        'sidemeter_agents_by_state{state="SILENT_WITH_BACKLOG"} 0.0',
        'sidemeter_syncs_total{status="OK"} 2.0',
        'sidemeter_syncs_total{status="FENCED"} 1.0',
        'sidemeter_syncs_total{status="UNKNOWN_EPOCH"} 1.0',
        "sidemeter_rollbacks_total 1.0",
        'sidemeter_sent_away_total{reason="paced"} 0.0',
        "sidemeter_announced_events_per_second 100000.0",
        "sidemeter_agents_in_line 0.0",
    ):
        assert line in figures.splitlines()
