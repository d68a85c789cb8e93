"""Leases of a control plane that is a process: killed, restored, and never granting twice what somebody holds."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
from processes import ADMIN_KEY, ControlPlane, control_plane, run

SET_UP = """mutation {
  createMeter(input: {key: "calls", eventType: "call", aggregation: COUNT}) { key }
  createFeature(input: {key: "calls", meter: "calls"}) { key }
  publishPlan(input: {key: "pro", currency: "EUR", charges: [{key: "base", model: FLAT, amount: "1"}], entitlements: [
    {feature: "calls", kind: METERED, limit: "100", enforcement: HARD, reset: NEVER}]}) { key }
  upsertCustomer(input: {key: "acme"}) { key }
  subscribe(input: {customer: "acme", plan: "pro"}) { id }
}"""
COMMAND = (sys.executable, "-m", "sidemeter_control.cli")
HEADERS = {"Content-Type": "application/msgpack", "Sidemeter-Protocol": "1"}


async def send(plane: ControlPlane, verb: str, **message: Any) -> Any:
    body = msgspec.msgpack.encode(message)
    answer = await plane.http.post(f"{plane.url}/agent/v1/{verb}", content=body, headers=HEADERS)
    assert answer.status_code == 200, answer.text
    return msgspec.msgpack.decode(answer.content)


class Agent:
    """What an agent keeps of its leases."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.granted = 0
        self.syncs = 0
        self.heard: dict[str, Any] = {}

    async def hello(self, plane: ControlPlane) -> None:
        said = {"agent_id": self.name, "hello_id": f"h-{self.name}", "boot_id": "b", "service": "s", "version": "1"}
        await send(plane, "hello", **said)

    async def ask(self, plane: ControlPlane, want_free: int) -> Any:
        """Its next sync, or the same one again, until an answer is `taken`."""
        lease = {"limit": "acme/calls", "period": 0, "granted": self.granted, "want_free": want_free}
        seen = {name: self.heard[name] for name in ("generation", "state_version")} if self.heard else None
        told = {"leases": [lease], "complete": bool(self.heard), "hello_id": f"h-{self.name}", "epoch": 1}
        named = {"agent_id": self.name, "sync_id": f"s{self.syncs}", "nonce": self.heard.get("nonce"), "seen": seen}
        return await send(plane, "sync", **told | named, subjects=[], backlog=0)

    def take(self, answer: Any) -> Any:
        self.heard, self.syncs = answer, self.syncs + 1
        self.granted = max(self.granted, *(each["granted"] for each in answer["grants"]))
        return answer


async def test_a_kill_between_a_sync_and_its_answer_and_a_restore_of_an_older_copy(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await plane.ask(SET_UP)
        first, other, backup = Agent("first"), Agent("other"), tmp_path / "backup"
        await first.hello(plane)
        lost = await first.ask(plane, 60)
        plane.kill()
        await plane.start()
        again = await first.ask(plane, 60)
        assert (again["status"], again["grants"]) == ("OK", lost["grants"])
        first.take(again)

        await asyncio.to_thread(run, *COMMAND, "backup", str(backup), "--url", plane.url, SIDEMETER_ADMIN_KEY=ADMIN_KEY)
        first.take(await first.ask(plane, 90))
        assert first.granted == 90
        plane.kill()
        await asyncio.to_thread(run, *COMMAND, "restore", str(backup), "--database", f"sqlite:///{plane.database}")
        await plane.start()
        assert "recovering" in (await plane.http.get(f"{plane.url}/readyz")).text

        await other.hello(plane)
        answer = other.take(await other.ask(plane, 100))
        assert (answer["status"], other.granted) == ("RECOVERING", 0)
        first.take(await first.ask(plane, 90))  # it has heard of the new generation then
        assert first.take(await first.ask(plane, 90))["status"] == "OK"
        assert other.take(await other.ask(plane, 100))["status"] == "OK"
        assert first.granted + other.granted <= 100
        assert other.granted > 0
        assert (await plane.http.get(f"{plane.url}/readyz")).text == "ready\n"
