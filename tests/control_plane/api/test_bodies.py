"""Bodies: each within its bound, unzipped within it too, and all of them together within another (P13)."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes import eventually
from planes import Doors, open_doors
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sidemeter_control.api import agents, events
from sidemeter_control.api.agent_messages import MAX_BATCH_BYTES
from sidemeter_control.api.bodies import MAX_BODIES_BYTES, Room, read_body
from sidemeter_control.api.bounds import MAX_BODY_BYTES
from sidemeter_control.api.problems import PROBLEM_HANDLERS
from sidemeter_control.store.keys import Scope

MOST, DECODED, ALL = 100, 300, 350
SENT = {
    "one below": (b"x" * 99, "identity", 200),
    "as many as allowed": (b"x" * 100, "identity", 200),
    "one above": (b"x" * 101, "identity", 413),
    "unzipped one below": (gzip.compress(b"x" * 299), "gzip", 200),
    "unzipped as many": (gzip.compress(b"x" * 300), "gzip", 200),
    "unzipped one above": (gzip.compress(b"x" * 301), "gzip", 413),
    "unzipped a thousand times": (gzip.compress(bytes(60_000)), "gzip", 413),
    "two streams": (gzip.compress(b"x") * 2, "gzip", 400),
    "half a stream": (gzip.compress(b"x" * 9)[:-4], "gzip", 400),
    "a damaged stream": (gzip.compress(b"x" * 9)[:-1] + b"y", "gzip", 400),
    "no stream": (b"x", "gzip", 400),
    "zipped twice": (gzip.compress(b"x"), "gzip, gzip", 415),
    "deflate": (b"x", "deflate", 415),
}


class Door:
    """An application that answers how long a body is, once it is let go."""

    def __init__(self) -> None:
        self.inside = 0
        self.go = asyncio.Event()
        self.go.set()
        self.app = Starlette(
            routes=[Route("/", self._length, methods=["POST"])],
            middleware=[Middleware(Room, most_bytes=ALL)],
            exception_handlers=PROBLEM_HANDLERS,
        )

    async def _length(self, request: Request) -> PlainTextResponse:
        body = await read_body(request, max_bytes=MOST, max_decoded_bytes=DECODED)
        self.inside += 1
        await self.go.wait()
        return PlainTextResponse(str(len(body)))

    async def post(self, body: bytes, encoding: str = "identity", *, whole: bool = True) -> int:
        """The status of the answer, 0 for none."""
        sent = [body[:1], body[1:]]
        statuses = [0]

        async def receive() -> dict[str, object]:
            if not sent:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": sent.pop(0), "more_body": bool(sent) or not whole}

        async def send(message: dict[str, int]) -> None:
            statuses.append(message.get("status", statuses[-1]))

        headers = [(b"content-encoding", encoding.encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
        await self.app(scope, receive, send)
        return statuses[-1]


@pytest.mark.parametrize("name", SENT)
async def test_a_body_is_taken_within_its_bounds_and_refused_beyond(name: str) -> None:
    body, encoding, status = SENT[name]
    assert await Door().post(body, encoding) == status


async def test_all_bodies_together_have_a_bound_until_they_are_answered() -> None:
    door = Door()
    door.go.clear()
    held = [asyncio.create_task(door.post(b"x" * 100)) for _ in range(3)]
    await eventually(lambda: door.inside == 3)
    assert await door.post(b"x" * 51) == 503
    assert await door.post(gzip.compress(b"x" * 45), "gzip") == 503  # what it unzips to counts as well
    last = [asyncio.create_task(door.post(b"x" * size)) for size in (49, 1)]
    await eventually(lambda: door.inside == 5)
    assert await door.post(b"x") == 503
    door.go.set()
    assert await asyncio.gather(*held, *last) == [200] * 5
    assert await door.post(b"x" * 100) == 200


async def test_a_caller_who_hangs_up_in_the_middle_is_no_failure_of_ours_and_gives_its_room_back() -> None:
    """Agents die and callers lose patience all day: a trace in the log for each would bury what matters."""
    door = Door()
    for _ in range(10):
        assert await door.post(b"x" * 100, whole=False) == 400
    assert await door.post(b"x" * 100) == 200


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        yield opened


BATCH_BYTES = MAX_BATCH_BYTES + agents.SLACK_BYTES
DOORS = {
    "/v1/events": ("application/json", events.MAX_BODY_BYTES),
    "/graphql": ("application/json", MAX_BODY_BYTES),
    "/agent/v1/batch": ("application/msgpack", BATCH_BYTES),
    "/agent/v1/hello": ("application/msgpack", BATCH_BYTES),
    "/agent/v1/sync": ("application/msgpack", BATCH_BYTES),
}


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_each_door_has_its_bound(plane: Doors, path: str, more: int) -> None:
    form, most = DOORS[path]
    headers = plane.key(Scope.ADMIN) | {"content-type": form, "sidemeter-protocol": "1"}
    answer = await plane.http.post(path, content=b" " * (most + more), headers=headers)
    assert answer.json()["code"] == ("too_large" if more > 0 else "malformed")
    assert (answer.status_code == 413) is (more > 0)
    assert most <= MAX_BODIES_BYTES


@pytest.mark.parametrize("path", [path for path in DOORS if path.startswith("/agent")])
@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_each_door_of_agents_has_its_bound_for_what_a_body_unzips_to(plane: Doors, path: str, more: int) -> None:
    headers = plane.key(Scope.ADMIN) | {"content-type": DOORS[path][0], "sidemeter-protocol": "1"}
    body = gzip.compress(b" " * (agents.MAX_DECODED_BYTES + more))
    answer = await plane.http.post(path, content=body, headers=headers | {"content-encoding": "gzip"})
    assert answer.json()["code"] == ("too_large" if more > 0 else "malformed")
