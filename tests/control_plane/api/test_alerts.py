"""Alerts over HTTP: raised by real events, shown newest first, in a page of bounded size."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, plane

from sidemeter_control.limits.alerting import Alerting

INGEST = "mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }"
NOW = "2023-11-14T22:13:20Z"  # where the tests' clock stands


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    """Acme has a quota of 10 calls, and a budget of 20 a day."""
    async with plane(tmp_path) as opened:
        await opened.make("createMeter", key="calls", eventType="call", aggregation="COUNT", unit="calls")
        await opened.make("createFeature", key="calls", name="API", meter="calls")
        quota = {"feature": "calls", "kind": "METERED", "limit": "10"}
        await opened.make("publishPlan", key="pro", currency="EUR", charges=[], entitlements=[quota])
        await opened.make("upsertCustomer", key="acme")
        await opened.make("subscribe", customer="acme", plan="pro")
        of = {"customer": "acme", "unit": "METER", "meter": "calls", "period": "DAY"}
        await opened.make("setBudget", key="daily", amount="20", thresholds=[40], **of)
        yield opened


async def use(control: Plane, calls: int) -> None:
    await control.ask(INGEST, events=[{"type": "call", "subject": "acme", "time": NOW}] * calls)


async def alerts(control: Plane, select: str, first: int | None = 20) -> list[Any]:
    query = f"""query($first: Int) {{ customer(key: "acme") {{ alerts(first: $first) {{ {select} }} }} }}"""
    return (await control.ask(query, first=first))["customer"]["alerts"]


async def test_alerts_are_shown_newest_first(control: Plane) -> None:
    looking = Alerting(control.database, control.clock)
    await use(control, 5)
    await looking.once()
    control.clock.advance(60)
    await use(control, 3)
    await looking.once()
    found = await alerts(control, "customer kind threshold what used amount periodStart at text")
    assert found[0] == {
        "customer": "acme",
        "kind": "quota_threshold",
        "threshold": 75,
        "what": "quota:calls",
        "used": "8",
        "amount": "10",
        "periodStart": NOW,
        "at": "2023-11-14T22:14:20Z",
        "text": "75% of the quota API is used: 8 calls of 10 calls",
    }
    assert [(each["what"], each["threshold"]) for each in found[1:]] == [("budget:daily", 40), ("quota:calls", 50)]
    assert await alerts(control, "threshold", 1) == [{"threshold": 75}]
    assert len(await alerts(control, "id", None)) == 3


async def test_an_overage_has_no_threshold(control: Plane) -> None:
    await use(control, 11)
    await Alerting(control.database, control.clock).once()
    assert (await alerts(control, "kind threshold", 1)) == [{"kind": "overage_started", "threshold": None}]


@pytest.mark.parametrize("first", [0, 201])
async def test_a_page_of_alerts_is_bounded(control: Plane, first: int) -> None:
    error = await control.post(f'{{ customer(key: "acme") {{ alerts(first: {first}) {{ id }} }} }}')
    assert error["errors"][0]["extensions"] == {"code": "INVALID_INPUT", "field": "first"}
