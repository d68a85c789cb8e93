"""The wire, held by recorded bytes: `tests/contract/wire/<message>.msgpack`, one request or answer body per file.

What the agent encodes must equal the recording byte for byte, and what is recorded must stay readable for ever: agents
in the field are older than the control plane they talk to. A new form of a message is a new file; no file changes.
"""

from pathlib import Path

import msgspec
import pytest

from sidemeter.batches import BatchAnswer, encode_events, seal
from sidemeter.events import Event
from sidemeter.events import encode as encode_event
from sidemeter.uplink import BatchMessage, Hello, HelloAnswer, Seen, Sync, SyncAnswer, encode

WIRE = Path(__file__).parent / "wire"

EVENTS = [
    Event("0011223344556677-0000000001", "chat", "llm.completion", "acme", 1_767_225_600_000_001, '{"tokens":812}'),
    Event("order-ü", "chat", "order", "café", 1_767_225_600_000_002, '{"price":0.10,"big":12345678901234567890.5}'),
    Event("0011223344556677-0000000002", "chat", "ping", "acme", -1, None),
]
BODIES = [encode_event(event) for event in EVENTS]
BATCH = seal([(4, BODIES[0]), (5, BODIES[1]), (7, BODIES[2])], None, 3, max_events=5000, max_bytes=1 << 20)

REQUESTS = {
    "hello": Hello("a" * 32, "b" * 32, "c" * 32, None, "chat", "0.1.0"),
    "hello_again": Hello("a" * 32, "d" * 32, "c" * 32, 2, "chat", "0.1.0"),
    "batch": BatchMessage.of(
        "a" * 32, BATCH, encode_events(BODIES), backlog=12, oldest_pending_us=1_767_225_600_000_001
    ),
    "sync": Sync("a" * 32, 3, 1, None, None, ("acme", "café"), (), 0, None),
    "sync_seen": Sync("a" * 32, 3, 2, None, Seen("g1", 41), ("acme",), (), 12, 1_767_225_600_000_001),
}

ANSWERS: dict[str, type[msgspec.Struct]] = {
    "hello_answer": HelloAnswer,
    "batch_answer": BatchAnswer,
    "batch_answer_gap": BatchAnswer,
    "sync_answer": SyncAnswer,
}


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_the_agent_sends_what_is_recorded(name: str) -> None:
    assert encode(REQUESTS[name]) == (WIRE / f"{name}.msgpack").read_bytes()


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_agent_reads_what_is_recorded(name: str) -> None:
    recorded = (WIRE / f"{name}.msgpack").read_bytes()
    read = msgspec.msgpack.decode(recorded, type=ANSWERS[name])
    everything = msgspec.msgpack.decode(recorded)
    assert msgspec.convert(everything, ANSWERS[name]) == read
    assert {field.name for field in msgspec.structs.fields(read)} <= everything.keys()


def test_the_batch_carries_its_rows_unchanged() -> None:
    message = msgspec.msgpack.decode((WIRE / "batch.msgpack").read_bytes())
    assert [msgspec.convert(row, Event) for row in message["events"]] == EVENTS
    assert message["digest"] == BATCH.digest
