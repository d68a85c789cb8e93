"""Three control planes on one database, asked in turn: they answer as one, and any of them may go."""

import asyncio
import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from fakes import eventually
from journeys.test_leases import SET_UP
from processes import ADMIN_KEY, ControlPlane
from receivers import receiver
from replicas import KEY, RoundRobin, balanced, control_planes
from streams import events_of

from sidemeter import Agent, Settings

pytestmark = pytest.mark.postgres

LIMIT = 100
LEADS = "is done by this control plane"
USED = '{ customer(key: "acme") { quota(feature: "calls") { used limit } cost { total { amount } } } }'
QUOTA = 'subscription { quotaChanged(customer: "acme", feature: "calls") { used } }'
HEARD_WITHIN_S = 20
"""Without being told, a subscription looks after a minute."""


async def quota(plane: ControlPlane) -> tuple[int, int]:
    found = (await plane.ask(USED))["customer"]["quota"]
    return int(found["used"]), int(found["limit"])


async def send(plane: ControlPlane, *ids: str) -> dict[str, int]:
    events = [{"id": each, "source": "s", "type": "call", "subject": "acme"} for each in ids]
    answer = await plane.http.post(f"{plane.url}/v1/events", json=events)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def agents_door(plane: ControlPlane, verb: str, **message: Any) -> Any:
    headers = {"Content-Type": "application/msgpack", "Sidemeter-Protocol": "1"}
    body = msgspec.msgpack.encode(message)
    answer = await plane.http.post(f"{plane.url}/agent/v1/{verb}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return msgspec.msgpack.decode(answer.content)


async def test_what_comes_to_all_of_them_is_counted_once(tmp_path: Path) -> None:
    async with control_planes(tmp_path) as planes:
        await planes[0].ask(SET_UP)
        ids = [f"call-{number}" for number in range(300)]
        overlapping = [ids[start : start + 100] for start in range(0, 300, 50)]
        said = await asyncio.gather(*(send(plane, *some) for some in overlapping for plane in planes))
        assert sum(each["accepted"] for each in said) == 300

        hello = {"agent_id": "a", "hello_id": "h", "boot_id": "b", "service": "s", "version": "1"}
        begun = await asyncio.gather(*(agents_door(each, "hello", **hello, previous_epoch=None) for each in planes))
        assert {each["epoch"] for each in begun} == {1}
        digest = bytes(32)
        for number in range(1, 5):
            events = msgspec.msgpack.encode([[f"{number}-{each}", "s", "call", "acme", 0, None] for each in range(10)])
            before, digest = digest, hashlib.sha256(digest + events).digest()
            batch = {"agent_id": "a", "epoch": 1, "batch_no": number, "prev_digest": before, "digest": digest}
            batch |= {"backlog": 0, "oldest_pending_us": None, "events": msgspec.Raw(events)}
            said = await asyncio.gather(*(agents_door(each, "batch", **batch) for each in planes))
            assert sorted(each["status"] for each in said) == ["DUPLICATE", "DUPLICATE", "OK"]
        assert [(await quota(each))[0] for each in planes] == [340] * 3


async def test_what_is_changed_at_one_holds_for_the_next_request_at_another(tmp_path: Path) -> None:
    async with control_planes(tmp_path) as (one, two, three):
        await one.ask(SET_UP)
        assert await quota(two) == (0, LIMIT)
        for number, (here, there, elsewhere) in enumerate([(one, two, three), (two, three, one), (three, one, two)]):
            await send(there, f"call-{number}")
            override = {"customer": "acme", "feature": "calls", "kind": "METERED", "enforcement": "HARD"}
            override |= {"limit": str(200 + number), "reset": "NEVER"}
            await here.make("setEntitlement", "EntitlementOverrideInput", **override)
            assert await quota(there) == (number + 1, 200 + number)
            meter = {"key": f"other-{number}", "eventType": f"other-{number}", "aggregation": "COUNT"}
            await here.make("createMeter", "MeterInput", **meter)
            event = {"id": f"other-{number}", "type": f"other-{number}", "subject": "acme"}
            assert (await there.http.post(f"{there.url}/v1/events", json=event)).json()["accepted"] == 1
            usage = f'{{ usage(meter: "other-{number}", from: "0001-01-01T00:00:00Z", to: "9999-01-01T00:00:00Z") {{ events }} }}'
            assert [int(each["events"]) for each in (await elsewhere.ask(usage))["usage"]] == [1]

            base = {"key": "base", "model": "FLAT", "amount": str(number + 5)}
            await here.make("publishPlan", "PlanInput", key=f"plan-{number}", currency="EUR", charges=[base])
            await here.make("upsertCustomer", "CustomerInput", key=f"c-{number}")
            await here.make("subscribe", "SubscribeInput", customer=f"c-{number}", plan=f"plan-{number}")
            owed = (await there.ask(f'{{ customer(key: "c-{number}") {{ cost {{ total {{ amount }} }} }} }}'))[
                "customer"
            ]
            assert owed["cost"]["total"]["amount"] == str(number + 5)

            made = await here.make("createApiKey", "ApiKeyInput", "secret id", name="k", scopes=["READ"])
            own = {"Authorization": f"Bearer {made['secret']}"}
            for plane in (there, elsewhere):
                assert (await plane.http.get(f"{plane.url}/v1/about", headers=own)).status_code == 200
            await here.ask("mutation($id: ID!) { revokeApiKey(id: $id) }", id=made["id"])
            for plane in (there, elsewhere):
                assert (await plane.http.get(f"{plane.url}/v1/about", headers=own)).status_code == 401


async def test_who_subscribes_at_one_hears_what_comes_to_another(tmp_path: Path) -> None:
    async with control_planes(tmp_path, 2) as (one, two):
        await one.ask(SET_UP)
        asked = {"json": {"query": QUOTA}, "headers": {"Accept": "text/event-stream"}}
        async with one.http.stream("POST", f"{one.url}/graphql", **asked) as answer:
            heard = (json.dumps(data) async for name, data in events_of(answer) if name == "next")
            async with asyncio.timeout(HEARD_WITHIN_S):
                assert '"used": "0"' in await anext(heard)
                await send(two, "call-1")
                assert '"used": "1"' in await anext(heard)
                await two.make("upsertCustomer", "CustomerInput", key="acme", subjects=["acme", "acme-2"])
                event = {"id": "call-2", "type": "call", "subject": "acme-2"}
                await two.http.post(f"{two.url}/v1/events", json=event)
                assert '"used": "2"' in await anext(heard)


async def test_agents_that_ask_another_each_time_spend_a_limit_together_while_one_is_killed(tmp_path: Path) -> None:
    async def all_of(one: Agent) -> int:
        spent = 0
        while (await one.consume("call", "acme")).allowed:
            spent += 1
        return spent

    async with control_planes(tmp_path) as planes, balanced(planes) as url:
        await planes[0].ask(SET_UP)
        (tmp_path / "cells").mkdir()

        async def is_counted(at_least: int) -> bool:
            return (await quota(planes[1]))[0] >= at_least

        def agent(name: str) -> Agent:
            given = {"flush_after_s": 0.02, "sync_interval_s": 0.1, "first_check_wait_s": 5.0}
            uplink = {"control_plane": url, "api_key": ADMIN_KEY}
            return Agent(
                Settings(service=name, data_dir=tmp_path / name, cell_dir=tmp_path / "cells", **given, **uplink)
            )

        async with agent("one") as first, agent("two") as second, agent("three") as third:
            spending = asyncio.gather(*map(all_of, (first, second, third)))
            await eventually(lambda: is_counted(10), 60)
            planes[0].kill()
            spent = sum(await spending)
            assert spent <= LIMIT
            # What is left is what somebody held when it said no to somebody else.
            spent += sum([await all_of(each) for each in (first, second, third)])
            assert spent <= LIMIT

        await eventually(lambda: is_counted(spent), 60)
        assert (await quota(planes[2]))[0] == spent


async def leaders(planes: list[ControlPlane]) -> list[ControlPlane]:
    return [each for each in planes if each.running and LEADS in each.log.read_text()]


async def test_a_job_is_done_by_one_and_by_another_once_that_is_killed(tmp_path: Path) -> None:
    async with receiver() as received, control_planes(tmp_path, SIDEMETER_PRIVATE_WEBHOOKS="yes") as planes:
        await planes[0].ask(SET_UP)
        await planes[0].make("setWebhook", "WebhookInput", url=received.url)
        (leader,) = await leaders(planes)
        follower = next(each for each in planes if each is not leader)
        await send(follower, *(f"call-{number}" for number in range(60)))
        await eventually(lambda: received.received, 60)
        leader.kill()
        await send(follower, *(f"call-{number}" for number in range(60, 100)))

        def told() -> set[str]:
            return {
                json.loads(each.body)["data"]["threshold"] for each in received.received if b"threshold" in each.body
            }

        await eventually(lambda: len(told()) >= 4, 60)  # 50, 75, 90 and 100 %
        assert len(await leaders(planes)) == 1
        ids = [each.headers["webhook-id"] for each in received.received]
        assert len(ids) - len(set(ids)) <= 1  # one was on its way when its sender was killed


async def flow(robin: RoundRobin, name: str, stop: asyncio.Event) -> int:
    """Events one after another until the test has seen enough; how many were taken. What failed is sent again, as it was."""
    sent = 0
    while not stop.is_set():
        event = {"id": f"{name}-{sent}", "source": "s", "type": "call", "subject": "acme"}
        try:
            answer = await robin.ask("POST", "/v1/events", json=event, headers=KEY)
        except httpx.HTTPError:
            continue
        if answer.status_code == 202:
            sent += 1
        else:
            robin.failed.append(answer.text)
    return sent


async def test_one_that_is_killed_in_mid_write_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    async with control_planes(tmp_path) as planes:
        await planes[0].ask(SET_UP)
        robin, stop = RoundRobin(planes), asyncio.Event()
        async with robin.http:
            flowing = [asyncio.create_task(flow(robin, f"flow-{number}", stop)) for number in range(6)]
            for victim, other in (planes[:2], planes[1:], (planes[2], planes[0])):
                before = (await quota(other))[0]

                async def more(plane: ControlPlane = other, than: int = before + 30) -> bool:
                    return (await quota(plane))[0] > than

                await eventually(more, 60)
                victim.kill()
                await victim.start()
            stop.set()
            sent = sum(await asyncio.gather(*flowing))
        assert [(await quota(each))[0] for each in planes] == [sent] * 3


async def test_a_rolling_restart_fails_no_request(tmp_path: Path) -> None:
    async with control_planes(tmp_path) as planes:
        await planes[0].ask(SET_UP)
        robin, stop = RoundRobin(planes), asyncio.Event()
        async with robin.http:
            flowing = [asyncio.create_task(flow(robin, f"flow-{number}", stop)) for number in range(6)]
            for plane in planes:
                assert await plane.stop() == 0
                await plane.start()
            stop.set()
            sent = sum(await asyncio.gather(*flowing))
        assert robin.failed == []
        assert (await quota(planes[0]))[0] == sent > 0


async def test_one_that_hangs_does_not_stop_the_others(tmp_path: Path) -> None:
    async with control_planes(tmp_path) as planes:
        await planes[0].ask(SET_UP)
        (leader,) = await leaders(planes)
        assert leader.process is not None
        others = [each for each in planes if each is not leader]
        robin, stop = RoundRobin(planes), asyncio.Event()
        async with robin.http:
            flowing = [asyncio.create_task(flow(robin, f"flow-{number}", stop)) for number in range(3)]
            os.kill(leader.process.pid, signal.SIGSTOP)
            try:
                for number in range(20):
                    await asyncio.gather(*(send(each, f"call-{number}") for each in others))
                taken_over = await eventually(lambda: any(LEADS in each.log.read_text() for each in others), 90)
            finally:
                os.kill(leader.process.pid, signal.SIGCONT)
            assert taken_over
            stop.set()
            sent = sum(await asyncio.gather(*flowing))
        assert [(await quota(each))[0] for each in planes] == [sent + 20] * 3


async def test_where_the_server_has_become_an_older_copy_all_end_and_grant_nothing_until_they_know(
    tmp_path: Path,
) -> None:
    async with control_planes(tmp_path, 2) as planes:
        one, two = planes
        await one.ask(SET_UP)

        async def leased(plane: ControlPlane, agent: str) -> Any:
            hello = {"agent_id": agent, "hello_id": "h", "boot_id": "b", "service": "s", "version": "1"}
            epoch = (await agents_door(plane, "hello", **hello, previous_epoch=None))["epoch"]
            asked = {"agent_id": agent, "epoch": epoch, "hello_id": "h", "sync_id": f"{agent}-1", "subjects": []}
            lease = {"limit": "acme/calls", "period": 0, "want_free": 60}
            return await agents_door(plane, "sync", **asked, backlog=0, leases=[lease])

        before = await leased(one, "a")
        assert (before["status"], len(before["grants"])) == ("OK", 1)
        lease_version = "SELECT lease_version FROM state"
        server = await asyncpg.connect(one.environ["SIDEMETER_DATABASE"])
        newest = await server.fetchval(lease_version)
        heard = [tmp_path / f"plane-{number}" / "control.db.holders" for number in range(2)]
        await eventually(lambda: all(f'"lease_version":{newest},'.encode() in each.read_bytes() for each in heard), 60)
        await server.execute("DELETE FROM lease_holdings")
        await server.execute(f"UPDATE state SET lease_version = {newest - 1}")
        await server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await server.close()
        assert await asyncio.gather(one.exit_code(), two.exit_code()) == [1, 1]
        await asyncio.gather(one.start(), two.start())
        for plane, agent in ((one, "b"), (two, "c")):
            after = await leased(plane, agent)
            assert after["status"] == "RECOVERING"
            assert sum(each["granted"] for each in after["grants"]) == 0
