"""How often one query asks the database: as often for many of a kind as for two."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from planes import Plane, plane
from sqlalchemy import event
from sqlalchemy.engine import Engine

FEW, MANY = 2, 9

# Each with all that hangs on it by a key; a cost or a quota of each customer is a question of its own.
QUERIES = {
    "customers": "{ customers { edges { node { key subjects } } } }",
    "customers with their subscriptions": "{ customers { edges { node { subscriptions { id plan { key subscribers"
    " charges { key meter { key } } entitlements { feature { key meter { key } } } } } } } } }",
    "meters": "{ meters { key backfill { done } } }",
    "features": "{ features { key meter { key eventType } } }",
    "plans": "{ plans { key subscribers charges { meter { key } } entitlements { feature { key } } } }",
    "events": "{ events { edges { node { id customer corrections { reason } } } } }",
    "dead letters": "{ deadLetters { edges { node { id meter } } } }",
    "agents": "{ agents { id lossDeclarations { id } } }",
    "audit log": "{ auditLog { edges { node { at actorName target } } } }",
    "usage by customer": '{ usage(meter: "m0", from: "2023-01-01T00:00:00Z", to: "2024-01-01T00:00:00Z")'
    " { customer value } }",
    "quotas of one customer": '{ customer(key: "c0") { quotas { used remaining leased inDoubt feature { key } } } }',
}


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        yield opened


async def make(control: Plane, numbers: range) -> None:
    """More of everything."""
    for n in numbers:
        await control.make("createMeter", key=f"m{n}", eventType="call", aggregation="COUNT")
        await control.make("createFeature", key=f"f{n}", meter=f"m{n}")
        await control.make("upsertCustomer", key=f"c{n}")
        charge = {"key": "k", "meter": f"m{n}", "model": "PER_UNIT", "unitPrice": "1"}
        quota = {"feature": f"f{n}", "kind": "METERED", "limit": "10", "enforcement": "HARD"}
        await control.make("publishPlan", key=f"p{n}", currency="EUR", charges=[charge], entitlements=[quota])
        await control.make("subscribe", customer=f"c{n}", plan=f"p{n}")
        await control.make("setEntitlement", customer="c0", feature=f"f{n}", kind="METERED", limit="5")
        events = [{"id": f"e{n}", "source": "s", "type": "call", "subject": f"c{n}"}]
        await control.ask("mutation($e: [EventInput!]!) { ingest(events: $e) { accepted } }", e=events)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What every engine of the process is asked meanwhile, by SQLAlchemy or straight through the driver."""
    seen: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def asked(control: Plane, query: str) -> int:
    await control.ask(query)  # what is remembered is, by then
    with statements() as seen:
        await control.ask(query)
    return len(seen)


async def test_a_query_asks_as_often_for_many_as_for_few(control: Plane) -> None:
    await make(control, range(FEW))
    few = {what: await asked(control, query) for what, query in QUERIES.items()}
    await make(control, range(FEW, MANY))
    many = {what: await asked(control, query) for what, query in QUERIES.items()}
    assert {what: (few[what], many[what]) for what in QUERIES if many[what] > few[what]} == {}


async def test_statements_are_seen_at_all(control: Plane) -> None:
    await make(control, range(1))
    assert await asked(control, QUERIES["meters"]) > 0
