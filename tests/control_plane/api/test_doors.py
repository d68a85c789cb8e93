"""Which scope opens which door."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from planes import Doors, open_doors

from sidemeter_control.store.keys import Scope

AGENT, READ, WRITE, ADMIN = Scope.AGENT, Scope.READ, Scope.WRITE, Scope.ADMIN
DOORS = [
    ("POST", "/agent/v1/hello", {AGENT, ADMIN}),
    ("POST", "/agent/v1/batch", {AGENT, ADMIN}),
    ("POST", "/agent/v1/sync", {AGENT, ADMIN}),
    ("POST", "/v1/events", {AGENT, WRITE, ADMIN}),
    ("GET", "/metrics", {READ, WRITE, ADMIN}),
    ("GET", "/v1/about", {AGENT, READ, WRITE, ADMIN}),
]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(("method", "path", "enough"), DOORS, ids=[path for _, path, _ in DOORS])
async def test_a_door_opens_for_the_scopes_it_needs_and_no_other(
    plane: Doors, method: str, path: str, enough: set[Scope]
) -> None:
    for scope in Scope:
        response = await plane.http.request(method, path, headers=plane.key(scope))
        assert (response.status_code != 403) is (scope in enough), scope
    for given in ({}, {"Authorization": "Bearer smk_wrong"}, {"Authorization": "Basic x"}):
        response = await plane.http.request(method, path, headers=given)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.json()["code"] == "unauthenticated"


@pytest.mark.parametrize(("path", "text"), [("/healthz", "ok"), ("/readyz", "ready")])
async def test_health_is_for_everybody(plane: Doors, path: str, text: str) -> None:
    response = await plane.http.get(path)
    assert (response.status_code, response.text.strip()) == (200, text)


async def test_the_figures_count_what_became_of_events(plane: Doors) -> None:
    event = {"type": "call", "subject": "acme", "id": "1"}
    for _ in range(2):
        await plane.http.post("/v1/events", json=event, headers=plane.key(WRITE))
    figures = (await plane.http.get("/metrics", headers=plane.key(READ))).text
    assert 'sidemeter_events_total{outcome="accepted"} 1.0' in figures
    assert 'sidemeter_events_total{outcome="duplicate"} 1.0' in figures


async def test_what_is_not_there_and_what_is_not_done_there_are_problems(plane: Doors) -> None:
    missing = await plane.http.get("/v2/events")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await plane.http.get("/v1/events")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
