"""The agents' door: what is refused before a verb, and the statuses of what is not."""

import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from planes import Doors, open_doors

from sidemeter_control.api.agents import MAX_BATCH_BYTES, MAX_DECODED_BYTES
from sidemeter_control.store.keys import Scope

HELLO = {"agent_id": "a", "hello_id": "h", "boot_id": "b", "previous_epoch": None, "service": "chat", "version": "1"}
SYNC = {"agent_id": "a", "epoch": 1, "sync_seq": 1, "nonce": None, "seen": None, "subjects": ["acme"], "leases": []} | {
    "backlog": 0,
    "oldest_pending_us": None,
}
WIRE = Path(__file__).parents[2] / "contract" / "wire"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(tmp_path) as opened:
        yield opened


def headers(plane: Doors, **changed: str) -> dict[str, str]:
    given = {"Content-Type": "application/msgpack", "Sidemeter-Protocol": "1"} | plane.key(Scope.AGENT)
    return {name: text for name, text in (given | changed).items() if text}


async def send(plane: Doors, verb: str, message: object, **changed: str) -> httpx.Response:
    body = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
    return await plane.http.post(f"/agent/v1/{verb}", content=body, headers=headers(plane, **changed))


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return msgspec.msgpack.decode(response.content)


def batch(number: int, *events: object, prev: bytes = bytes(32)) -> dict[str, object]:
    raw = msgspec.msgpack.encode(events)
    own = hashlib.sha256(prev + raw).digest()
    return {"agent_id": "a", "epoch": 1, "batch_no": number, "prev_digest": prev, "digest": own, "backlog": 0} | {
        "oldest_pending_us": None,
        "events": msgspec.Raw(raw),
    }


EVENT = ["1", "chat", "call", "acme", 0, None]


async def test_hello_then_a_batch_then_a_sync(plane: Doors) -> None:
    hello = answer(await send(plane, "hello", HELLO))
    assert hello.pop("generation").startswith("gen_")
    assert hello == {
        "status": "OK",
        "epoch": 1,
        "next_batch_no": 1,
        "sync_interval_ms": 1000,
        "max_batch_events": 5000,
        "max_batch_bytes": 1024 * 1024,
        "losses_stored": [],
    }
    counted = {"status": "OK", "next_batch_no": 2, "reason": None, "accepted": 1, "duplicates": 0, "dead_letters": 0}
    assert answer(await send(plane, "batch", batch(1, EVENT))) == counted
    assert answer(await send(plane, "batch", batch(1, EVENT)))["status"] == "DUPLICATE"
    assert answer(await send(plane, "batch", batch(3, EVENT)))["next_batch_no"] == 2
    sync = answer(await send(plane, "sync", SYNC))
    assert (sync["status"], sync["counted_batch_no"], sync["subjects"]) == ("OK", 1, {"acme": []})


async def test_an_answer_says_which_request_it_answers_if_that_had_a_name(plane: Doors) -> None:
    named = await send(plane, "hello", HELLO, **{"Sidemeter-Request": "0123456789abcdef"})
    assert named.headers["sidemeter-request"] == "0123456789abcdef"
    assert "sidemeter-request" not in (await send(plane, "hello", HELLO)).headers


async def test_a_batch_may_be_zipped(plane: Doors) -> None:
    await send(plane, "hello", HELLO)
    body = gzip.compress(msgspec.msgpack.encode(batch(1, EVENT)))
    assert answer(await send(plane, "batch", body, **{"Content-Encoding": "gzip"}))["accepted"] == 1


ZIPPED = gzip.compress(msgspec.msgpack.encode(HELLO))
REFUSED: dict[str, tuple[object, dict[str, str], int, str]] = {
    "another protocol": (HELLO, {"Sidemeter-Protocol": "2"}, 400, "protocol_unsupported"),
    "no protocol": (HELLO, {"Sidemeter-Protocol": ""}, 400, "protocol_unsupported"),
    "another media type": (HELLO, {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
    "another encoding": (HELLO, {"Content-Encoding": "br"}, 415, "unsupported_encoding"),
    "nothing": (b"", {}, 400, "malformed"),
    "no MessagePack": (b"\xc1", {}, 400, "malformed"),
    "cut short": (msgspec.msgpack.encode(HELLO)[:-1], {}, 400, "malformed"),
    "a tail": (msgspec.msgpack.encode(HELLO) + b"\xc0", {}, 400, "malformed"),
    "an array": ([1], {}, 400, "malformed"),
    "a missing field": ({"agent_id": "a"}, {}, 400, "malformed"),
    "a wrong type": (HELLO | {"agent_id": 1}, {}, 400, "malformed"),
    "an empty name": (HELLO | {"agent_id": ""}, {}, 400, "malformed"),
    "NUL in a name": (HELLO | {"service": "a\0"}, {}, 400, "malformed"),
    "depth": (b"\x91" * 100_000, {}, 400, "malformed"),
    "a length that is not there": (b"\xdd\xff\xff\xff\xff", {}, 400, "malformed"),
    "bytes that are no text": (
        msgspec.msgpack.encode(HELLO).replace(b"chat", b"\xff\xfe\xfd\xfc"),
        {},
        400,
        "malformed",
    ),
    "too much": (bytes(MAX_BATCH_BYTES + 65 * 1024), {}, 413, "too_large"),
    "no gzip": (b"hello", {"Content-Encoding": "gzip"}, 400, "malformed"),
    "half a gzip": (ZIPPED[:-4], {"Content-Encoding": "gzip"}, 400, "malformed"),
    "more than a gzip": (ZIPPED + b"x", {"Content-Encoding": "gzip"}, 400, "malformed"),
    "a bomb": (zlib.compress(bytes(64 * MAX_DECODED_BYTES), 9, 31), {"Content-Encoding": "gzip"}, 413, "too_large"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_broken_request_is_a_problem_and_the_next_one_is_served(plane: Doors, name: str) -> None:
    body, changed, status, code = REFUSED[name]
    response = await send(plane, "hello", body, **changed)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:sidemeter:problem:{code}"
    assert answer(await send(plane, "hello", HELLO))["epoch"] == 1


@pytest.mark.parametrize("name", ["hello", "hello_again", "batch", "sync", "sync_seen"])
async def test_every_recorded_message_of_an_agent_is_understood(plane: Doors, name: str) -> None:
    reply = answer(await send(plane, name.split("_", maxsplit=1)[0], (WIRE / f"{name}.msgpack").read_bytes()))
    assert reply["status"] == ("OK" if name.startswith("hello") else "UNKNOWN_EPOCH")


async def test_the_recorded_batch_is_counted_whole(plane: Doors) -> None:
    message = msgspec.msgpack.decode((WIRE / "batch.msgpack").read_bytes())
    for number in range(message["epoch"]):
        await send(plane, "hello", HELLO | {"agent_id": message["agent_id"], "hello_id": str(number)})
    reply = answer(await send(plane, "batch", (WIRE / "batch.msgpack").read_bytes()))
    assert (reply["status"], reply["accepted"], reply["dead_letters"]) == ("OK", len(message["events"]), 0)
