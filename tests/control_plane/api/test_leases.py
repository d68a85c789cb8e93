"""Leases through the doors: agents ask over HTTP, operators look, write off and end a recovery."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from planes import Plane, plane

from sidemeter_control.store.keys import Scope

PLAN = {
    "key": "pro",
    "currency": "EUR",
    "charges": [{"key": "base", "model": "FLAT", "amount": "1"}],
    "entitlements": [{"feature": "calls", "kind": "METERED", "limit": "100", "enforcement": "HARD", "reset": "NEVER"}],
}
LEASE = {"limit": "acme/calls", "period": 0}


class Shopped:
    """A control plane whose customer `acme` may use 100 calls, and a key for agents."""

    def __init__(self, opened: Plane, key: str) -> None:
        self.plane = opened
        self.headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/msgpack",
            "Sidemeter-Protocol": "1",
        }

    async def send(self, verb: str, **message: Any) -> Any:
        body = msgspec.msgpack.encode(message)
        response = await self.plane.http.post(f"/agent/v1/{verb}", content=body, headers=self.headers)
        assert response.status_code == 200, response.text
        return msgspec.msgpack.decode(response.content)

    async def hello(self, agent: str, hello_id: str = "h1") -> int:
        answer = await self.send(
            "hello", agent_id=agent, hello_id=hello_id, boot_id="b", service="chat", version="1", previous_epoch=None
        )
        return int(answer["epoch"])

    async def lease(self, agent: str, want_free: int, epoch: int = 1, hello_id: str = "h1", **counts: int) -> Any:
        """The first sync of an epoch."""
        lease = LEASE | {"want_free": want_free} | counts
        asked = {"agent_id": agent, "epoch": epoch, "subjects": [], "backlog": 0, "leases": [lease]}
        return await self.send("sync", **asked, hello_id=hello_id, sync_id=f"{agent}-{hello_id}")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shopped]:
    async with plane(tmp_path) as opened:
        await opened.make("createMeter", key="calls", eventType="call", aggregation="COUNT")
        await opened.make("createFeature", key="calls", meter="calls")
        await opened.make("publishPlan", **PLAN)
        await opened.make("upsertCustomer", key="acme")
        await opened.make("subscribe", customer="acme", plan="pro")
        yield Shopped(opened, await opened.key(Scope.AGENT))


async def test_concurrent_first_requests_on_a_new_budget_are_never_granted_more_than_it(shop: Shopped) -> None:
    agents = [f"agent-{number}" for number in range(20)]
    await asyncio.gather(*map(shop.hello, agents))
    answers = await asyncio.gather(*(shop.lease(each, want_free=40) for each in agents))
    grants = [grant for each in answers for grant in each["grants"]]
    assert [each["status"] for each in answers] == ["OK"] * 20
    assert len(grants) == 20
    assert sum(each["granted"] for each in grants) == 100


async def test_a_lease_on_the_wire_is_told_in_full(shop: Shopped) -> None:
    epoch = await shop.hello("a")
    answer = await shop.lease("a", 10, epoch)
    assert {"sync_id", "grants", "state_version", "next_sync_ms"} <= answer.keys()
    assert "recalls" not in answer
    (grant,) = answer["grants"]
    assert (answer["sync_id"], grant["granted"], grant["mode"], grant["keep_free"]) == ("a-h1", 10, "lease", None)
