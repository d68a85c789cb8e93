"""What the control plane says of itself and of the requests it answered."""

import importlib.metadata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conventions import breaches
from planes import Plane, plane
from prometheus_client.parser import text_string_to_metric_families

from sidemeter_control.store.keys import Scope


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        yield opened


async def figures(control: Plane) -> str:
    return (await control.http.get("/metrics")).text


async def test_names_units_and_helps_are_by_the_conventions(control: Plane) -> None:
    await control.ask("{ meters { key } }")
    families = list(text_string_to_metric_families(await figures(control)))
    assert breaches(families) == []
    names = {family.name for family in families}
    assert {"sidemeter_build_info", "sidemeter_http_requests", "process_resident_memory_bytes"} <= names


async def test_requests_are_counted_by_route_and_never_by_path(control: Plane) -> None:
    for path in ("/wp-login.php", "/.env", "/graphql/assets/nothing.js"):
        await control.http.get(path)
    text = await figures(control)
    assert 'sidemeter_http_requests_total{method="GET",route="none",status="404"} 2.0' in text
    assert 'route="/graphql/assets/{name}"' in text
    assert "wp-login" not in text


async def test_a_method_that_is_none_makes_no_label(control: Plane) -> None:
    await control.http.request("BREW", "/graphql")
    assert 'method="other"' in await figures(control)
    assert "BREW" not in await figures(control)


async def test_durations_are_a_histogram(control: Plane) -> None:
    await control.http.get("/healthz")
    (family,) = [
        each
        for each in text_string_to_metric_families(await figures(control))
        if each.name == "sidemeter_http_request_duration_seconds"
    ]
    buckets = [
        sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket") and sample.labels["route"] == "/healthz"
    ]
    assert (family.type, buckets) == ("histogram", [1.0] * 7)


async def test_it_says_who_it_is_to_whoever_has_a_key(control: Plane) -> None:
    key = await control.key(Scope.AGENT)
    said = (await control.http.get("/v1/about", headers={"Authorization": f"Bearer {key}"})).json()
    version = importlib.metadata.version("sidemeter")
    assert said == {"version": version, "protocol": "1", "nowUs": control.clock.now_us(), "scopes": ["AGENT"]}
