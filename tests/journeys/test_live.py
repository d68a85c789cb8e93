"""Live answers of the real program, heard by real clients: gql over WebSocket and HTTP, and 500 subscribers at once."""

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from gql import Client, gql
from gql.transport.exceptions import TransportClosed, TransportConnectionFailed, TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport
from processes import ADMIN_KEY, ControlPlane, agent, control_plane
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
COST = gql('subscription { costChanged(customer: "c0") { total { amount currency } lines { text } asOf } }')
QUOTA = gql('subscription { quotaChanged(customer: "c0", feature: "calls") { used remaining allowed } }')
SUBSCRIBERS, CUSTOMERS, EVENTS = 500, 100, 200


async def sell(plane: ControlPlane, customers: int) -> None:
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    await plane.make("createFeature", "FeatureInput", key="calls", meter="calls")
    charge = {"key": "calls", "meter": "calls", "model": "PER_UNIT", "unitPrice": "1"}
    quota = {"feature": "calls", "kind": "METERED", "limit": "3", "enforcement": "HARD"}
    await plane.make("publishPlan", "PlanInput", key="pro", currency="EUR", charges=[charge], entitlements=[quota])
    for number in range(customers):
        await plane.make("upsertCustomer", "CustomerInput", key=f"c{number}")
        await plane.make("subscribe", "SubscribeInput", customer=f"c{number}", plan="pro")


async def use(plane: ControlPlane, subject: str, id_: str) -> None:
    answer = await plane.http.post(f"{plane.url}/v1/events", json=[{"id": id_, "type": "call", "subject": subject}])
    assert answer.status_code == 202, answer.text


def live(plane: ControlPlane, key: str = ADMIN_KEY) -> WebsocketsTransport:
    url = f"{plane.url}/graphql".replace("http", "ws", 1)
    return WebsocketsTransport(url=url, init_payload={"authorization": f"Bearer {key}"})


async def test_gql_hears_over_a_web_socket_what_agents_send(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane, 1)
        client = Client(transport=live(plane), fetch_schema_from_transport=True)
        async with agent(tmp_path / "agent", plane) as sidecar, asyncio.timeout(120), client as session:
            costs, quotas = session.subscribe(COST), session.subscribe(QUOTA)
            assert (await anext(costs))["costChanged"]["total"] == {"amount": "0", "currency": "EUR"}
            assert (await anext(quotas))["quotaChanged"] == {"used": "0", "remaining": "3", "allowed": True}
            for number in range(3):
                await sidecar.post("/v1/events", {"id": str(number), "type": "call", "subject": "c0"})
            while (said := (await anext(costs))["costChanged"])["total"]["amount"] != "3":
                pass
            assert said["lines"][0]["text"]
            while (await anext(quotas))["quotaChanged"]["allowed"]:
                pass
            assert (await session.execute(gql("{ customers { edges { node { key } } } }")))["customers"]["edges"]
            await costs.aclose()
            await quotas.aclose()


async def test_gql_is_told_what_is_wrong(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane, 1)
        async with Client(transport=live(plane)) as session:
            nobody = gql('subscription { costChanged(customer: "nobody") { asOf } }')
            with pytest.raises(TransportQueryError) as raised:
                await anext(session.subscribe(nobody))
            assert raised.value.errors
            assert raised.value.errors[0]["extensions"] == {"code": "NOT_FOUND"}
        with pytest.raises((TransportClosed, TransportConnectionFailed, ConnectionClosed)):
            async with Client(transport=live(plane, "smk_wrong")):
                pass


async def test_gql_asks_over_http(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane, 1)
        transport = HTTPXAsyncTransport(url=f"{plane.url}/graphql", headers=KEY)
        async with Client(transport=transport, fetch_schema_from_transport=True) as session:
            asked = gql("query($k: ID!) { customer(key: $k) { cost { total { amount } } } }")
            asked.variable_values = {"k": "c0"}
            assert await session.execute(asked) == {"customer": {"cost": {"total": {"amount": "0"}}}}
            with pytest.raises(TransportQueryError, match="'nobody'"):
                await session.execute(gql('mutation { subscribe(input: {customer: "nobody", plan: "pro"}) { id } }'))


class Subscriber:
    """One connection with one subscription to a customer's cost."""

    def __init__(self, number: int, socket: ClientConnection) -> None:
        self.customer = f"c{number % CUSTOMERS}"
        self.socket = socket
        self.heard: list[tuple[int, float]] = []
        """Totals, and when they came."""
        self.closed: tuple[int, str] | None = None

    async def begin(self) -> None:
        await self.socket.send(json.dumps({"type": "connection_init", "payload": KEY}))
        assert json.loads(await self.socket.recv())["type"] == "connection_ack"
        text = f'subscription {{ costChanged(customer: "{self.customer}") {{ total {{ amount }} }} }}'
        await self.socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": text}}))
        await self._hear()

    async def _hear(self) -> None:
        said: dict[str, Any] = json.loads(await self.socket.recv())
        assert said["type"] == "next", said
        self.heard.append((int(said["payload"]["data"]["costChanged"]["total"]["amount"]), time.monotonic()))

    async def listen(self) -> None:
        """Until the other side closes."""
        try:
            while True:
                await self._hear()
        except ConnectionClosed as exc:
            self.closed = (exc.rcvd.code, exc.rcvd.reason) if exc.rcvd else None


async def test_500_subscribers_hear_what_their_customers_use_soon_and_a_goodbye(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(7)
    async with control_plane(tmp_path) as plane, AsyncExitStack() as stack, asyncio.timeout(230):
        await sell(plane, CUSTOMERS)
        url = f"{plane.url}/graphql".replace("http", "ws", 1)
        everyone = []
        for number in range(SUBSCRIBERS):
            socket = await stack.enter_async_context(
                connect(url, subprotocols=["graphql-transport-ws"], proxy=None, ping_interval=None)  # type: ignore[list-item]
            )
            everyone.append(Subscriber(number, socket))
            await everyone[-1].begin()
        listening = [asyncio.create_task(each.listen()) for each in everyone]
        used: Counter[str] = Counter()
        sent: dict[tuple[str, int], float] = {}
        for number in range(EVENTS):
            customer = f"c{chance.randrange(CUSTOMERS)}"
            used[customer] += 1
            sent[customer, used[customer]] = time.monotonic()
            await use(plane, customer, str(number))
        waiting = [each for each in everyone if used[each.customer]]
        await eventually(lambda: all(each.heard[-1][0] == used[each.customer] for each in waiting), 120)
        for each in everyone:
            totals = [total for total, _ in each.heard]
            assert totals == sorted(set(totals)), each.customer  # none goes back, none comes twice
            assert totals[0] == 0
            assert totals[-1] == used[each.customer]
        lags = sorted(lag(each, sent) for each in waiting)
        with capsys.disabled():
            half, most = lags[len(lags) // 2], lags[len(lags) * 99 // 100]
            print(f"\n{SUBSCRIBERS} subscribers, event to message: p50 {half:.3f} s, p99 {most:.3f} s")
        assert await plane.stop() == 0
        await asyncio.gather(*listening)
        assert {each.closed for each in everyone} == {(1001, "the control plane stops")}


def lag(subscriber: Subscriber, sent: dict[tuple[str, int], float]) -> float:
    """From the moment the last event was sent to the message that has it."""
    total, at_s = subscriber.heard[-1]
    return at_s - sent[subscriber.customer, total]
