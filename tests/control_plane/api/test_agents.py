"""The agents' door: what is refused before a verb, and the statuses of what is not."""

import asyncio
import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fakes import eventually
from planes import Doors, open_doors

from sidemeter_control.api.agent_messages import MAX_BATCH_BYTES, MAX_LOSSES
from sidemeter_control.api.agents import MAX_DECODED_BYTES
from sidemeter_control.store import dead_letters, losses
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
        "rate_events_per_s": 100_000,
    }
    counted = {"status": "OK", "next_batch_no": 2, "reason": None, "accepted": 1, "duplicates": 0, "dead_letters": 0}
    counted["wait_ms"] = 0
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
    "a bomb": (zlib.compress(bytes(2 * MAX_DECODED_BYTES), 9, 31), {"Content-Encoding": "gzip"}, 413, "too_large"),
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


RECORDED = ["hello", "hello_again", "hello_losses", "hello_counted", "batch", "batch_generation", "batch_letter"]
RECORDED += ["sync", "sync_seen", "sync_nonce", "sync_settled"]


@pytest.mark.parametrize("name", RECORDED)
async def test_every_recorded_message_of_an_agent_is_understood(plane: Doors, name: str) -> None:
    reply = answer(await send(plane, name.split("_", maxsplit=1)[0], (WIRE / f"{name}.msgpack").read_bytes()))
    assert reply["status"] == ("OK" if name.startswith("hello") else "UNKNOWN_EPOCH")


async def test_the_recorded_batch_is_counted_whole(plane: Doors) -> None:
    message = msgspec.msgpack.decode((WIRE / "batch.msgpack").read_bytes())
    for number in range(message["epoch"]):
        await send(plane, "hello", HELLO | {"agent_id": message["agent_id"], "hello_id": str(number)})
    reply = answer(await send(plane, "batch", (WIRE / "batch.msgpack").read_bytes()))
    assert (reply["status"], reply["accepted"], reply["dead_letters"]) == ("OK", len(message["events"]), 0)


async def test_the_recorded_losses_are_stored_however_often_they_come(plane: Doors) -> None:
    for _ in range(2):
        reply = answer(await send(plane, "hello", (WIRE / "hello_losses.msgpack").read_bytes()))
        assert reply["losses_stored"] == ["l1", "l2"]
    async with plane.database.read() as conn:
        found = await losses.page(conn, 10)
    assert [(each.id, each.epoch, each.first_row, each.last_row, each.events) for each in found] == [
        ("l2", 3, 12, None, None),
        ("l1", 3, 7, 9, 2),
    ]


async def test_the_recorded_letter_becomes_a_dead_letter_with_the_bytes_of_its_event(plane: Doors) -> None:
    message = msgspec.msgpack.decode((WIRE / "batch_letter.msgpack").read_bytes())
    ((raw, reason),) = message["events"]
    for number in range(message["epoch"]):
        await send(plane, "hello", HELLO | {"agent_id": message["agent_id"], "hello_id": str(number)})
    reply = answer(await send(plane, "batch", (WIRE / "batch_letter.msgpack").read_bytes()))
    assert (reply["status"], reply["accepted"], reply["dead_letters"]) == ("OK", 0, 1)
    async with plane.database.read() as conn:
        (letter,) = await dead_letters.page(conn, 10)
    assert (letter.code, letter.raw) == ("refused", raw)
    assert reason in letter.reason


async def test_too_many_losses_in_one_hello_are_refused_and_none_is_stored(plane: Doors) -> None:
    loss = {"id": "l", "first_seq": 1, "last_seq": 2, "events": 1, "reason": "gone", "noticed_at_us": 5}
    for count, status in ((MAX_LOSSES, 200), (MAX_LOSSES + 1, 400)):
        declared = [loss | {"id": f"{count}-{number}"} for number in range(count)]
        assert (await send(plane, "hello", HELLO | {"losses": declared})).status_code == status
    async with plane.database.read() as conn:
        assert (await losses.known(conn)).declarations == MAX_LOSSES


ANNOUNCED = {"Sidemeter-Agent": "a", "Sidemeter-Events": "1", "Sidemeter-Waiting": "1"}


def wait_ms(response: httpx.Response, status: int, code: str) -> int:
    """How long a batch that was sent away has to wait; old agents are told in whole seconds."""
    assert (response.status_code, response.json()["code"]) == (status, code)
    wait = int(response.headers["sidemeter-wait-ms"])
    assert int(response.headers["retry-after"]) == -(-wait // 1000)
    return wait


async def test_as_many_batches_as_may_be_are_worked_on_and_the_next_is_sent_away_unread(tmp_path: Path) -> None:
    async with open_doors(tmp_path, max_batches_at_once=2) as plane:
        answer(await send(plane, "hello", HELLO))
        go_on, read = asyncio.Event(), 0

        async def dripping() -> AsyncIterator[bytes]:
            nonlocal read
            read += 1
            await go_on.wait()
            yield msgspec.msgpack.encode(batch(1, EVENT))

        async def drip() -> httpx.Response:
            return await plane.http.post("/agent/v1/batch", content=dripping(), headers=headers(plane, **ANNOUNCED))

        slow = [asyncio.create_task(drip()) for _ in range(2)]
        await eventually(lambda: read == 2)
        for changed in (ANNOUNCED, {}):  # an agent that says what comes, and one from before that
            assert 100 <= wait_ms(await send(plane, "batch", b"not even read", **changed), 503, "busy") <= 1000
        assert answer(await send(plane, "hello", HELLO))["epoch"] == 1
        assert answer(await send(plane, "sync", SYNC))["status"] == "OK"
        go_on.set()
        assert {answer(each)["status"] for each in await asyncio.gather(*slow)} == {"OK", "DUPLICATE"}
        assert answer(await send(plane, "batch", batch(1, EVENT), **ANNOUNCED))["status"] == "DUPLICATE"


async def test_who_drains_waits_for_its_turn_and_who_is_up_to_date_does_not(tmp_path: Path) -> None:
    async with open_doors(tmp_path, rate_events_per_s=1000) as plane:
        hello = answer(await send(plane, "hello", HELLO))
        assert (hello["rate_events_per_s"], hello["max_batch_events"]) == (1000, 100)
        draining = ANNOUNCED | {"Sidemeter-Events": "100", "Sidemeter-Waiting": "5000"}
        rows = [[f"{number}", "chat", "call", "acme", 0, None] for number in range(100)]
        first = batch(1, *rows) | {"backlog": 4900}
        assert 50 <= answer(await send(plane, "batch", first, **draining))["wait_ms"] <= 250
        assert 0 < wait_ms(await send(plane, "batch", b"unread", **draining), 429, "paced") <= 250
        others = [draining | {"Sidemeter-Agent": str(number)} for number in range(20)]
        waits = [wait_ms(await send(plane, "batch", b"unread", **each), 429, "paced") for each in others]
        assert waits == sorted(waits)
        assert 1500 <= waits[-1] <= 4000
        fresh = ANNOUNCED | {"Sidemeter-Agent": "fresh"}
        answer(await send(plane, "hello", HELLO | {"agent_id": "fresh"}))
        assert answer(await send(plane, "batch", batch(1, EVENT) | {"agent_id": "fresh"}, **fresh))["wait_ms"] == 0


async def test_an_agent_from_before_there_was_a_pace_is_told_by_retry_after(tmp_path: Path) -> None:
    async with open_doors(tmp_path, rate_events_per_s=100) as plane:
        answer(await send(plane, "hello", HELLO))
        rows = [[f"{number}", "chat", "call", "acme", 0, None] for number in range(50)]
        first = batch(1, *rows) | {"backlog": 4900}
        assert answer(await send(plane, "batch", first))["accepted"] == 50
        second = batch(2, *rows, prev=first["digest"]) | {"backlog": 4850}  # type: ignore[arg-type]
        response = await send(plane, "batch", second)
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
