"""Automatic persisted queries: a text is sent once, then its hash is enough; and answers to GET have a name of their own."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, plane

from sidemeter_control.api.persisted import MAX_PERSISTED, MAX_PERSISTED_CHARS, NotPersisted, Persisted, hash_in
from sidemeter_control.errors import InvalidInput

TEXT = "query($k: ID!) { meter(key: $k) { key } }"
ANSWER = {"data": {"meter": {"key": "calls"}}}


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def named(text: str, **other: Any) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": hashed(text)} | other}


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Plane]:
    async with plane(tmp_path) as opened:
        await opened.make("createMeter", key="calls", eventType="call", aggregation="COUNT")
        yield opened


async def test_a_text_is_sent_once_and_then_its_hash_is_enough(control: Plane) -> None:
    asked = {"variables": {"k": "calls"}, "extensions": named(TEXT)}
    unknown = await control.http.post("/graphql", json=asked)
    error = {"message": "PersistedQueryNotFound", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}
    assert (unknown.status_code, unknown.json()) == (200, {"data": None, "errors": [error]})
    assert (await control.http.post("/graphql", json=asked | {"query": TEXT})).json() == ANSWER
    assert (await control.http.post("/graphql", json=asked)).json() == ANSWER
    parameters = {"variables": '{"k": "calls"}', "extensions": json.dumps(named(TEXT))}
    assert (await control.http.get("/graphql", params=parameters)).json() == ANSWER


async def test_a_hash_of_another_text_is_refused_and_not_kept(control: Plane) -> None:
    asked = {"query": "{ __typename }", "extensions": named(TEXT)}
    (error,) = (await control.http.post("/graphql", json=asked)).json()["errors"]
    assert error["extensions"] == {"code": "INVALID_INPUT", "field": "extensions.persistedQuery.sha256Hash"}
    known = await control.http.post("/graphql", json={"extensions": named(TEXT)})
    assert known.json()["errors"][0]["extensions"] == {"code": "PERSISTED_QUERY_NOT_FOUND"}


@pytest.mark.parametrize(
    "wrong", [1, [], {}, {"version": 1}, {"version": 2, "sha256Hash": "x"}, {"version": 1, "sha256Hash": 1}]
)
async def test_what_names_no_text_is_refused(control: Plane, wrong: Any) -> None:
    body = (await control.http.post("/graphql", json={"extensions": {"persistedQuery": wrong}})).json()
    assert body["errors"][0]["extensions"]["code"] == "INVALID_INPUT"


async def test_a_mutation_by_its_hash_may_not_come_by_get(control: Plane) -> None:
    text = 'mutation { createFeature(input: {key: "sso"}) { key } }'
    persisted = await control.http.get("/graphql", params={"query": text, "extensions": json.dumps(named(text))})
    by_hash = await control.http.get("/graphql", params={"extensions": json.dumps(named(text))})
    assert (persisted.status_code, by_hash.status_code) == (405, 405)


async def test_extensions_that_are_not_ours_are_left_alone(control: Plane) -> None:
    asked = {"query": "{ __typename }", "extensions": {"tracing": True}}
    assert (await control.http.post("/graphql", json=asked)).json() == {"data": {"__typename": "Query"}}


def test_so_many_texts_are_kept_and_the_one_asked_longest_ago_goes() -> None:
    persisted = Persisted(most=2)
    for text in ("a", "b"):
        persisted.text(hashed(text), text)
    persisted.text(hashed("a"), None)
    persisted.text(hashed("c"), "c")
    assert persisted.text(hashed("a"), None) == "a"
    with pytest.raises(NotPersisted):
        persisted.text(hashed("b"), None)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_text_is_kept_up_to_a_length_and_so_many_of_them(more: int) -> None:
    persisted = Persisted()
    text = "x" * (MAX_PERSISTED_CHARS + more)
    assert persisted.text(hashed(text), text) == text
    assert len(persisted) == (more <= 0)
    for number in range(MAX_PERSISTED + more):
        persisted.text(hashed(str(number)), str(number))
    assert len(persisted) == min(MAX_PERSISTED, MAX_PERSISTED + more + (more <= 0))


def test_a_hash_may_be_written_in_capitals() -> None:
    assert hash_in({"persistedQuery": {"version": 1, "sha256Hash": "AB"}}) == "ab"
    assert hash_in(None) is hash_in({}) is None
    with pytest.raises(InvalidInput):
        hash_in({"persistedQuery": {"version": 3, "sha256Hash": "AB"}})


async def test_an_answer_to_get_is_not_sent_again_while_it_is_the_same(control: Plane) -> None:
    parameters = {"query": "{ meters { key } }"}
    first = await control.http.get("/graphql", params=parameters)
    assert first.headers["cache-control"] == "private, no-cache"
    assert "Authorization" in first.headers["vary"]
    name = first.headers["etag"]
    for sent in (name, f"W/{name}", f'"x", {name}'):
        same = await control.http.get("/graphql", params=parameters, headers={"If-None-Match": sent})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", name)
    await control.make("createMeter", key="tokens", eventType="call", aggregation="COUNT")
    other = await control.http.get("/graphql", params=parameters, headers={"If-None-Match": name})
    assert (other.status_code, len(other.json()["data"]["meters"])) == (200, 2)
    assert other.headers["etag"] != name


async def test_an_answer_to_post_has_no_name(control: Plane) -> None:
    assert "etag" not in (await control.http.post("/graphql", json={"query": "{ __typename }"})).headers
