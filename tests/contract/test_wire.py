"""The wire, held by recorded bytes: `tests/contract/wire/<message>.msgpack`, one request or answer body per file.

What the agent encodes must say what the recording says, in its order, and what is recorded must stay readable for ever:
agents in the field are older than the control plane they talk to. A new form of a message is a new file; no file changes.
"""

from decimal import Decimal
from pathlib import Path

import msgpack
import msgspec
import pytest

from sidemeter.batches import BatchAnswer, Counted, encode_events, letter_of, seal, sealed_as_letter
from sidemeter.denials import Denied
from sidemeter.events import Event
from sidemeter.events import encode as encode_event
from sidemeter.holder import LeaseGrant, LeaseReport
from sidemeter.losses import Loss
from sidemeter.meters import Filter, Meter, PriceCap
from sidemeter.uplink import BatchMessage, Hello, HelloAnswer, Seen, Sync, SyncAnswer, encode

WIRE = Path(__file__).parent / "wire"

EVENTS = [
    Event("0011223344556677-0000000001", "chat", "llm.completion", "acme", 1_767_225_600_000_001, '{"tokens":812}'),
    Event("order-ü", "chat", "order", "café", 1_767_225_600_000_002, '{"price":0.10,"big":12345678901234567890.5}'),
    Event("0011223344556677-0000000002", "chat", "ping", "acme", -1, None),
]
BODIES = [encode_event(event) for event in EVENTS]
BATCH = seal([(4, BODIES[0]), (5, BODIES[1]), (7, BODIES[2])], None, 3, max_events=5000, max_bytes=1 << 20)
LETTER = letter_of(BODIES[2], "the data cannot be read")
LOSSES = (
    Loss("l1", 7, 9, 2, "a page of the buffer could not be read", 1_767_225_600_000_003),
    Loss("l2", 12, None, None, "the buffer is gone", 1_767_225_600_000_004),
)

REQUESTS = {
    "hello": Hello("a" * 32, "b" * 32, "c" * 32, None, "chat", "0.1.0"),
    "hello_again": Hello("a" * 32, "d" * 32, "c" * 32, 2, "chat", "0.1.0"),
    "hello_losses": Hello("a" * 32, "b" * 32, "c" * 32, 2, "chat", "0.2.0", "g1", LOSSES),
    "hello_counted": Hello(
        "e" * 32,
        "d" * 32,
        "c" * 32,
        2,
        "chat",
        "0.2.0",
        "g1",
        counted=Counted("a" * 32, 2, 41, BATCH.digest, "g1"),
    ),
    "batch": BatchMessage.of(
        "a" * 32, BATCH, encode_events(BODIES), backlog=12, oldest_pending_us=1_767_225_600_000_001
    ),
    "batch_generation": BatchMessage.of(
        "a" * 32, BATCH, encode_events(BODIES), backlog=0, oldest_pending_us=None, generation="g1"
    ),
    "batch_letter": BatchMessage.of(
        "a" * 32,
        sealed_as_letter(seal([(7, BODIES[2])], None, 3, max_events=1, max_bytes=1), LETTER),
        LETTER,
        backlog=0,
        oldest_pending_us=None,
    ),
    "sync": Sync("a" * 32, 3, 1, None, None, ("acme", "café"), (), 0, None),
    "sync_seen": Sync("a" * 32, 3, 2, None, Seen("g1", 41), ("acme",), (), 12, 1_767_225_600_000_001),
    "sync_nonce": Sync("a" * 32, 3, 3, bytes(range(24)), Seen("g1", 41), ("acme",), (), 12, None, "0123456789abcdef"),
    "sync_leases": Sync(
        "a" * 32,
        3,
        4,
        bytes(range(24)),
        Seen("g1", 41),
        ("acme",),
        (
            LeaseReport("acme/tokens", 1_767_225_600_000_000, 1000, 100, 400, 50, 7, 3, 600, 20),
            LeaseReport("acme/calls", 0, want_free=1, need=1),
        ),
        12,
        1_767_225_600_000_001,
        "0123456789abcdef",
        17,
        "d" * 32,
        True,
    ),
    "sync_denied": Sync(
        "a" * 32,
        3,
        4,
        bytes(range(24)),
        Seen("g1", 41),
        ("acme",),
        (),
        12,
        None,
        "0123456789abcdef",
        17,
        "d" * 32,
        True,
        (Denied("acme/tokens", 1_767_225_600_000_000, "1000.5"), Denied("café/@team:0123456789ab", 0, "10")),
        {"limit_reached": 12, "lease_short": 3},
    ),
    "sync_prices": Sync(
        "a" * 32,
        3,
        5,
        None,
        None,
        ("acme",),
        (),
        0,
        None,
        "0123456789abcdef",
        17,
        "d" * 32,
        knows_prices=True,
    ),
    "sync_settled": Sync("a" * 32, 3, 3, None, None, (), (), 0, None, "0123456789abcdef", 17),
}

ANSWERS: dict[str, type[msgspec.Struct]] = {
    "hello_answer": HelloAnswer,
    "hello_answer_losses": HelloAnswer,
    "batch_answer": BatchAnswer,
    "batch_answer_gap": BatchAnswer,
    "batch_answer_damaged": BatchAnswer,
    "batch_answer_wait": BatchAnswer,
    "sync_answer": SyncAnswer,
    "sync_answer_leases": SyncAnswer,
    "sync_answer_nonce": SyncAnswer,
    "sync_answer_prices": SyncAnswer,
}


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_the_agent_sends_what_is_recorded(name: str) -> None:
    """Field by field and value by value; only a map's head may be longer, where a message has more fields by now."""
    sent, recorded = encode(REQUESTS[name]), (WIRE / f"{name}.msgpack").read_bytes()
    assert list(msgpack.unpackb(sent).items()) == list(msgpack.unpackb(recorded).items())
    assert len(sent) - len(recorded) in {0, 2}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_agent_reads_what_is_recorded(name: str) -> None:
    recorded = (WIRE / f"{name}.msgpack").read_bytes()
    read = msgspec.msgpack.decode(recorded, type=ANSWERS[name])
    everything = msgspec.msgpack.decode(recorded)
    assert msgspec.convert(everything, ANSWERS[name]) == read
    assert {field.name for field in msgspec.structs.fields(read) if field.required} <= everything.keys()


def test_an_answer_from_before_a_field_was_there_says_nothing_about_it() -> None:
    hello = msgspec.msgpack.decode((WIRE / "hello_answer.msgpack").read_bytes(), type=HelloAnswer)
    assert (hello.losses_stored, hello.rate_events_per_s) == ((), None)
    batch = msgspec.msgpack.decode((WIRE / "batch_answer.msgpack").read_bytes(), type=BatchAnswer)
    assert batch.wait_ms == 0
    sync = msgspec.msgpack.decode((WIRE / "sync_answer.msgpack").read_bytes(), type=SyncAnswer)
    assert (sync.nonce, sync.sync_id, sync.grants, sync.limits[0].scale) == (None, "", (), None)


def test_a_grant_is_read_as_it_is_recorded() -> None:
    sync = msgspec.msgpack.decode((WIRE / "sync_answer_leases.msgpack").read_bytes(), type=SyncAnswer)
    assert (sync.status, sync.sync_id, sync.limits[0].period, sync.limits[0].scale) == (
        "RECOVERING",
        "0123456789abcdef",
        1_767_225_600_000_000,
        6,
    )
    assert sync.grants == (
        LeaseGrant("acme/tokens", 1_767_225_600_000_000, 1000, "lease", 10**9, 10**4, 3, 1_767_225_600_000_000, None),
        LeaseGrant("acme/calls", 0, 1, "closed", 10, 1, 4, 0, 0),
    )


def test_a_limit_in_money_is_read_as_it_is_recorded_and_a_limit_from_before_there_were_any_has_no_prices() -> None:
    sync = msgspec.msgpack.decode((WIRE / "sync_answer_prices.msgpack").read_bytes(), type=SyncAnswer)
    (limit,) = sync.limits
    assert (limit.id, limit.limit, limit.used, limit.meter, limit.scale) == (
        "acme/@all:c8ed9abf1e05",
        Decimal(60),
        Decimal("49.25"),
        None,
        9,
    )
    meter = Meter("llm.completion", "SUM", "tokens", (Filter("mode", not_in=("test",)),))
    assert limit.prices == (PriceCap(meter, Decimal("0.000030"), Decimal("0.01")),)
    before = msgspec.msgpack.decode((WIRE / "sync_answer_leases.msgpack").read_bytes(), type=SyncAnswer)
    assert {each.prices for each in before.limits} == {()}


def test_the_batch_carries_its_rows_unchanged() -> None:
    message = msgspec.msgpack.decode((WIRE / "batch.msgpack").read_bytes())
    assert [msgspec.convert(row, Event) for row in message["events"]] == EVENTS
    assert message["digest"] == BATCH.digest
