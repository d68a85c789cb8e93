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

    async def lease(self, agent: str, want_free: int, epoch: int = 1, hello_id: str = "h1", **told: Any) -> Any:
        """The first sync of an epoch."""
        lease = LEASE | {"want_free": want_free} | told
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


async def test_an_agent_from_before_there_were_sync_ids_is_named_none(shop: Shopped) -> None:
    await shop.hello("a")
    answer = await shop.send("sync", agent_id="a", epoch=1, subjects=[], backlog=0, leases=[])
    assert (answer["status"], answer["sync_id"], answer["grants"]) == ("OK", "", [])


LIMIT = "id committed limit holders { agent epoch granted returned used state }"
WRITE_OFF = f"""mutation($limit: ID!, $agent: ID!, $epoch: Int!, $reason: String!) {{
    writeOffLease(limit: $limit, agent: $agent, epoch: $epoch, reason: $reason) {{ {LIMIT} }}
}}"""
QUOTA = '{ customer(key: "acme") { quota(feature: "calls") { limit used leased inDoubt } } }'


def named(agent: str, epoch: int, limit: str = "acme/calls") -> dict[str, Any]:
    return {"limit": limit, "agent": agent, "epoch": epoch, "reason": "its machine is gone"}


async def test_an_operator_sees_who_has_which_part_of_a_limit(shop: Shopped) -> None:
    await shop.plane.http.post("/v1/events", json=[{"id": "e", "type": "call", "subject": "acme"}])
    await shop.hello("a")
    await shop.lease("a", 50)
    await shop.hello("a", "h2")
    await shop.lease("a", 20, 2, "h2", used=3, overrun=3)
    found = await shop.plane.ask(f'{{ limit(id: "acme/calls") {{ {LIMIT} }} none: limit(id: "acme/sso") {{ id }} }}')
    old, new = sorted(found["limit"].pop("holders"), key=lambda each: each["epoch"])
    assert found == {"limit": {"id": "acme/calls", "committed": "74", "limit": "100"}, "none": None}
    assert old == {"agent": "a", "epoch": 1, "granted": "50", "returned": "0", "used": "0", "state": "SUPERSEDED"}
    assert new == {"agent": "a", "epoch": 2, "granted": "23", "returned": "0", "used": "3", "state": "CURRENT"}
    quota = (await shop.plane.ask(QUOTA))["customer"]["quota"]
    assert quota == {"limit": "100", "used": "1", "leased": "20", "inDoubt": "50"}


async def test_what_is_in_doubt_is_freed_by_an_operators_word_which_is_audited(shop: Shopped) -> None:
    await shop.hello("a")
    await shop.lease("a", 60, used=9, overrun=9)
    await shop.hello("a", "h2")
    before = (await shop.plane.ask(f'{{ limit(id: "acme/calls") {{ {LIMIT} }} }}'))["limit"]
    freed = (await shop.plane.ask(WRITE_OFF, **named("a", 1)))["writeOffLease"]
    assert (before["committed"], freed["committed"]) == ("69", "9")
    assert (await shop.plane.ask(WRITE_OFF, **named("a", 1)))["writeOffLease"] == freed
    first, before = await logged(shop)
    detail = {"agent": "a", "epoch": 1, "freed": "60", "reason": "its machine is gone"}
    assert first == {"action": "writeOffLease", "target": "limit acme/calls", "detail": detail}
    assert before["action"] != "writeOffLease"


async def logged(shop: Shopped) -> list[dict[str, Any]]:
    """The last two entries of the audit log, the newest first."""
    found = await shop.plane.ask("{ auditLog(first: 2) { edges { node { action target detail } } } }")
    return [each["node"] for each in found["auditLog"]["edges"]]


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (named("a", 1, "acme/nothing"), "there is no limit that is shared by leases 'acme/nothing'"),
        (named("a", 7), "there is no holder of acme/calls 'a in epoch 7'"),
        (named("a", 1) | {"reason": ""}, "reason: must be 1 to 1024 characters"),
        (named("a", 1), "agent 'a' is in epoch 1 now, was heard of 0 s ago and may still spend what it has"),
    ],
    ids=["no such limit", "no such holder", "no reason", "it lives"],
)
async def test_what_cannot_be_written_off_is_refused_with_what_is_wrong(
    shop: Shopped, who: dict[str, Any], message: str
) -> None:
    await shop.hello("a")
    await shop.lease("a", 60)
    assert message in (await shop.plane.refusal(WRITE_OFF, **who))["message"]


async def test_an_agent_that_is_silent_for_long_may_be_written_off_and_is_fenced_then(shop: Shopped) -> None:
    await shop.hello("a")
    await shop.lease("a", 60)
    shop.plane.clock.advance(601)
    freed = (await shop.plane.ask(WRITE_OFF, **named("a", 1)))["writeOffLease"]
    assert (freed["committed"], freed["holders"][0]["state"]) == ("0", "SUPERSEDED")
    assert (await shop.lease("a", 60))["status"] == "FENCED"


async def test_a_recovery_is_shown_until_it_is_ended(shop: Shopped) -> None:
    await shop.hello("a")
    lease = LEASE | {"granted": 40}
    asked = {"agent_id": "a", "epoch": 1, "subjects": [], "backlog": 0, "leases": [lease], "hello_id": "h1"}
    seen = {"generation": "of before", "state_version": 1}
    assert (await shop.send("sync", **asked, sync_id="s1", seen=seen))["status"] == "RECOVERING"
    found = (await shop.plane.ask("{ recovery { awaited holders knownHolders } }"))["recovery"]
    assert found == {"awaited": ["a"], "holders": None, "knownHolders": 1}
    assert "recovering" in (await shop.plane.http.get("/readyz")).text
    assert "sidemeter_recovering 1.0" in (await shop.plane.http.get("/metrics")).text
    assert await shop.plane.ask('mutation { endRecovery(reason: "it is alone") }') == {"endRecovery": True}
    assert await shop.plane.ask("{ recovery { since } }") == {"recovery": None}
    detail = {"reason": "it is alone", "awaited": ["a/h1"]}
    assert (await logged(shop))[0] == {"action": "endRecovery", "target": "leases", "detail": detail}
    assert (await shop.plane.http.get("/readyz")).text == "ready\n"
    assert (await shop.plane.refusal('mutation { endRecovery(reason: "again") }'))["message"] == (
        "no recovery is under way"
    )


async def test_leases_are_metrics(shop: Shopped) -> None:
    await shop.hello("a")
    await shop.lease("a", 60)
    await shop.hello("a", "h2")
    figures = (await shop.plane.http.get("/metrics")).text
    for line in (
        'sidemeter_lease_syncs_total{status="OK"} 1.0',
        'sidemeter_lease_holders{state="CURRENT"} 1.0',
        'sidemeter_lease_holders{state="SUPERSEDED"} 1.0',
        "sidemeter_lease_pools 1.0",
        "sidemeter_leases_held 0.0",
        "sidemeter_leases_in_doubt 1.0",
        "sidemeter_leases_stranded 0.0",
        "sidemeter_recovering 0.0",
    ):
        assert line in figures


BUDGET = '{ customer(key: "acme") { budgets { limitId spent leased inDoubt } } }'


async def test_what_is_held_of_a_budget_is_seen_and_written_off_as_of_a_quota(shop: Shopped) -> None:
    for key, enforcement in (("hard", "HARD"), ("soft", "SOFT")):
        of = {"customer": "acme", "unit": "METER", "meter": "calls", "amount": "50", "enforcement": enforcement}
        await shop.plane.make("setBudget", key=key, period="NEVER", **of)
    await shop.plane.http.post("/v1/events", json=[{"id": "e", "type": "call", "subject": "acme"}])
    nothing = {"spent": "1", "leased": "0", "inDoubt": "0"}
    hard, soft = (await shop.plane.ask(BUDGET))["customer"]["budgets"]
    limit = hard["limitId"]
    assert (hard, soft) == ({"limitId": limit, **nothing}, {"limitId": None, **nothing})

    await shop.hello("a")
    await shop.lease("a", 20, limit=limit)
    await shop.hello("a", "h2")
    await shop.lease("a", 10, 2, "h2", limit=limit)
    hard, soft = (await shop.plane.ask(BUDGET))["customer"]["budgets"]
    assert (hard["leased"], hard["inDoubt"]) == ("10", "20")
    assert soft == {"limitId": None, **nothing}
    found = (await shop.plane.ask(f'{{ limit(id: "{limit}") {{ {LIMIT} }} }}'))["limit"]
    assert (found["committed"], found["limit"], len(found["holders"])) == ("31", "50", 2)
    freed = (await shop.plane.ask(WRITE_OFF, **named("a", 1, limit)))["writeOffLease"]
    assert (freed["id"], freed["committed"]) == (limit, "11")


async def test_what_agents_refuse_is_an_alert_of_the_customer_and_a_figure(shop: Shopped) -> None:
    refused = {"denied": [LEASE | {"amount": "100"}]}
    asked = {"agent_id": "a", "subjects": [], "backlog": 0}
    await shop.hello("a")
    for count in (0, 3):
        answer = await shop.send("sync", **asked, epoch=1, **refused, denials={"limit_reached": count})
        assert answer["status"] == "OK"
    assert (await shop.send("sync", **asked, epoch=7, denials={"limit_reached": 9}))["status"] != "OK"
    query = '{ customer(key: "acme") { alerts { kind what amount periodStart } } }'
    alerts = (await shop.plane.ask(query))["customer"]["alerts"]
    assert alerts == [{"kind": "limit_denied", "what": "quota:calls", "amount": "100", "periodStart": None}]
    metrics = (await shop.plane.http.get("/metrics")).text
    assert 'sidemeter_denials_total{reason="limit_reached"} 3.0' in metrics.splitlines()


@pytest.mark.parametrize("amount", ["-1", "1e9", "NaN", "", "1.", "9" * 65])
async def test_an_amount_that_is_none_is_malformed(shop: Shopped, amount: str) -> None:
    asked = {"agent_id": "a", "epoch": 1, "subjects": [], "backlog": 0, "denied": [LEASE | {"amount": amount}]}
    body = msgspec.msgpack.encode(asked)
    response = await shop.plane.http.post("/agent/v1/sync", content=body, headers=shop.headers)
    assert (response.status_code, response.json()["code"]) == (400, "malformed")
