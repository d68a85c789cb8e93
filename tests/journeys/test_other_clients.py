"""Clients that others wrote, against a real control plane: a query, a mutation, an error by its code, a subscription.

They are not among what the tests install. A directory with `npm install graphql-request @urql/core graphql-ws graphql ws` is
named by `NODE_CLIENTS`, the command of ariadne-codegen with its `subscriptions` by `ARIADNE_CODEGEN`.
"""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from processes import ADMIN_KEY, ROOT, ControlPlane, control_plane, run

NODE_CLIENTS = os.environ.get("NODE_CLIENTS", "")
NODE_PACKAGES = Path(NODE_CLIENTS, "node_modules").resolve()
ARIADNE_CODEGEN = os.environ.get("ARIADNE_CODEGEN", "")
SAID = {
    "customers": ["acme"],
    "made": "globex",
    "code": "NOT_FOUND",
    "field": "INVALID_INPUT",
    "cost": {"amount": "0", "currency": "EUR"},
    "moved": {"amount": "2.5", "currency": "EUR"},
}

NODE = """
import { GraphQLClient, gql } from "graphql-request";
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url, key] = process.argv.slice(2);
const headers = { authorization: `Bearer ${key}` };
const said = {};

const requests = new GraphQLClient(url, { headers });
const { customers } = await requests.request(gql`{ customers { edges { node { key } } } }`);
said.customers = customers.edges.map(({ node }) => node.key);
const make = gql`mutation ($input: CustomerInput!) { upsertCustomer(input: $input) { key } }`;
said.made = (await requests.request(make, { input: { key: "globex" } })).upsertCustomer.key;
const refused = (asked, variables) => requests.request(asked, variables).catch((error) => error.response.errors[0].extensions);
said.code = (await refused(gql`mutation { subscribe(input: {customer: "nobody", plan: "pro"}) { id } }`)).code;
said.field = (await refused(make, { input: { key: "" } })).code;

const sockets = createClient({ url: url.replace("http", "ws"), webSocketImpl: WebSocket, connectionParams: { authorization: headers.authorization } });
const forward = ({ query, variables }) => ({ subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ query, variables }, sink) }) });
const urql = new Client({ url, preferGetMethod: false, fetchOptions: { headers }, exchanges: [fetchExchange, subscriptionExchange({ forwardSubscription: forward })] });
const heard = [];
await new Promise((resolve, reject) => {
  const costs = urql.subscription(`subscription ($c: ID!) { costChanged(customer: $c) { total { amount currency } } }`, { c: "acme" });
  const { unsubscribe } = costs.subscribe(async ({ data, error }) => {
    if (error) reject(error);
    heard.push(data.costChanged.total);
    if (heard.length > 1) { unsubscribe(); resolve(); return; }
    const sent = `mutation ($e: [EventInput!]!) { ingest(events: $e) { accepted } }`;
    const answer = await urql.mutation(sent, { e: [{ id: "1", type: "call", subject: "acme" }] });
    if (answer.error) reject(answer.error);
  });
});
[said.cost, said.moved] = heard.map(({ amount, currency }) => ({ amount, currency }));
await sockets.dispose();
console.log(JSON.stringify(said));
"""

OPERATIONS = """
query Customers { customers { edges { node { key } } } }
mutation Make($input: CustomerInput!) { upsertCustomer(input: $input) { key } }
mutation Subscribe($input: SubscribeInput!) { subscribe(input: $input) { id } }
mutation Send($events: [EventInput!]!) { ingest(events: $events) { accepted } }
subscription Cost($customer: ID!) { costChanged(customer: $customer) { total { amount currency } } }
"""

CONFIGURED = """
[tool.ariadne-codegen]
schema_path = "{schema}"
queries_path = "operations.graphql"
target_package_name = "generated"
[tool.ariadne-codegen.scalars.Decimal]
type = "str"
[tool.ariadne-codegen.scalars.DateTime]
type = "str"
"""

GENERATED = """
import asyncio, json, sys
from generated import Client, CustomerInput, EventInput, GraphQLClientGraphQLMultiError, SubscribeInput

async def main(url, key):
    headers, said = {"Authorization": f"Bearer {key}"}, {}
    client = Client(url=url, ws_url=url.replace("http", "ws"), headers=headers, ws_headers=headers)
    said["customers"] = [each.node.key for each in (await client.customers()).customers.edges]
    said["made"] = (await client.make(CustomerInput(key="globex"))).upsert_customer.key
    for name, ask in (("code", lambda: client.subscribe(SubscribeInput(customer="nobody", plan="pro"))), ("field", lambda: client.make(CustomerInput(key="")))):
        try:
            await ask()
        except GraphQLClientGraphQLMultiError as exc:
            said[name] = exc.errors[0].extensions["code"]
    heard = client.cost("acme")
    said["cost"] = (await anext(heard)).cost_changed.total.model_dump()
    await client.send([EventInput(id="1", type="call", subject="acme")])
    said["moved"] = (await anext(heard)).cost_changed.total.model_dump()
    await heard.aclose()
    print(json.dumps(said))

asyncio.run(main(*sys.argv[1:]))
"""


async def sell(plane: ControlPlane) -> None:
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    charge = {"key": "calls", "meter": "calls", "model": "PER_UNIT", "unitPrice": "2.5"}
    await plane.make("publishPlan", "PlanInput", key="pro", currency="EUR", charges=[charge])
    await plane.make("upsertCustomer", "CustomerInput", key="acme")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="pro")


async def said_by(directory: Path, *command: str) -> object:
    """What a client says of a control plane with one customer."""
    async with control_plane(directory) as plane:
        await sell(plane)
        printed = await asyncio.to_thread(run, *command, f"{plane.url}/graphql", ADMIN_KEY)
    return json.loads(printed.splitlines()[-1])


@pytest.mark.skipif(not (NODE_CLIENTS and shutil.which("node")), reason="no node, or NODE_CLIENTS names no packages")
async def test_graphql_request_and_urql_ask_change_and_hear(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_PACKAGES)
    script = tmp_path / "client.mjs"
    script.write_text(NODE)
    assert await said_by(tmp_path, "node", str(script)) == SAID


@pytest.mark.skipif(not ARIADNE_CODEGEN, reason="ARIADNE_CODEGEN names no command")
async def test_a_client_that_ariadne_codegen_generates_asks_changes_and_hears(tmp_path: Path) -> None:
    (tmp_path / "operations.graphql").write_text(OPERATIONS)
    schema = ROOT / "tests" / "contract" / "schema.graphql"
    (tmp_path / "pyproject.toml").write_text(CONFIGURED.format(schema=schema))
    generate = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
    run(sys.executable, "-c", generate, str(tmp_path), ARIADNE_CODEGEN)
    script = tmp_path / "client.py"
    script.write_text(GENERATED)
    interpreter = str(Path(ARIADNE_CODEGEN).parent / "python")
    assert await said_by(tmp_path, interpreter, str(script)) == SAID
