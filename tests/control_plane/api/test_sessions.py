"""POST, GET and DELETE /session: what a page sends, and what it hears."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from planes import Doors, open_doors

from sidemeter_control.api.sessions import MAX_BODY_BYTES
from sidemeter_control.store.keys import Scope

OURS = {"Origin": "http://control.test"}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        yield opened


async def log_in(plane: Doors, scope: Scope = Scope.READ) -> httpx.Response:
    return await plane.http.post("/session", json={"key": plane.secrets[scope]}, headers=OURS)


async def test_a_key_is_handed_over_once_and_then_a_cookie_asks(plane: Doors) -> None:
    opened = await log_in(plane)
    assert opened.json() == {
        "name": "READ",
        "scopes": ["READ"],
        "customer": None,
        "isPortal": False,
        "expiresAt": None,
    }
    assert (await plane.http.get("/session")).json() == opened.json()
    answer = await plane.http.post("/graphql", json={"query": "{ meters { key } }"}, headers=OURS)
    assert answer.json() == {"data": {"meters": []}}
    assert (await plane.http.get("/metrics")).status_code == 200
    assert (await plane.http.delete("/session", headers=OURS)).status_code == 204
    assert (await plane.http.get("/session")).status_code == 401


async def test_a_session_may_do_what_its_key_may_and_no_more(plane: Doors) -> None:
    await log_in(plane)
    create = {"query": 'mutation { createFeature(input: {key: "k"}) { key } }'}
    refused = await plane.http.post("/graphql", json=create, headers=OURS)
    assert refused.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert (await plane.http.get("/v1/backup")).status_code == 403
    assert (await plane.http.post("/agent/v1/sync", headers=OURS)).status_code == 403


async def test_a_key_goes_before_a_session(plane: Doors) -> None:
    await log_in(plane)
    answer = await plane.http.get("/session", headers=plane.key(Scope.ADMIN) | OURS)
    assert answer.json()["name"] == "ADMIN"


async def test_to_log_out_twice_is_no_error(plane: Doors) -> None:
    for _ in range(2):
        assert (await plane.http.delete("/session", headers=OURS)).status_code == 204


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        ("{", "application/json", 400, "malformed"),
        ("{}", "application/json", 400, "malformed"),
        ('{"key": 1}', "application/json", 400, "malformed"),
        ('{"key": ""}', "application/json", 401, "unauthenticated"),
        ('{"key": "smk_wrong"}', "application/json", 401, "unauthenticated"),
        ('{"key": "smk_wrong"}', "text/plain", 415, "unsupported_media_type"),
        ("key=smk_wrong", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("[" * MAX_BODY_BYTES, "application/json", 400, "malformed"),
        ("x" * (MAX_BODY_BYTES + 1), "application/json", 413, "too_large"),
    ],
)
async def test_what_is_no_key_opens_nothing(
    plane: Doors, content: str, media_type: str, status: int, code: str
) -> None:
    answer = await plane.http.post("/session", content=content, headers=OURS | {"Content-Type": media_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "set-cookie" not in answer.headers
