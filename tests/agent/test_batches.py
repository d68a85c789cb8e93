"""Batches: what fits, the chain of digests, and what an answer asks for."""

import hashlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.batches import FIRST_DIGEST, Batch, BatchAnswer, Row, Step, digest_of, encode_events, next_step, seal

bodies = st.lists(st.binary(max_size=40).map(lambda data: bytes(msgpack.packb(data))), min_size=1, max_size=60)


def chain(rows: list[Row], max_events: int, max_bytes: int) -> list[Batch]:
    batches: list[Batch] = []
    while rows:
        batches.append(seal(rows, batches[-1] if batches else None, 1, max_events=max_events, max_bytes=max_bytes))
        rows = rows[batches[-1].events :]
    return batches


@given(bodies, st.integers(1, 20), st.integers(1, 200))
def test_sealing_takes_every_row_once_in_order_and_within_its_bounds(
    bodies: list[bytes], max_events: int, max_bytes: int
) -> None:
    rows = list(enumerate(bodies, 5))
    batches = chain(rows, max_events, max_bytes)
    taken = [seq for batch in batches for seq in range(batch.first_seq, batch.last_seq + 1)]
    assert taken == [seq for seq, _ in rows]
    assert [batch.batch_no for batch in batches] == list(range(1, len(batches) + 1))
    assert all(batch.events <= max_events and (batch.size <= max_bytes or batch.events == 1) for batch in batches)


@given(bodies, st.integers(1, 20))
def test_each_digest_covers_the_one_before_and_the_encoded_events(bodies: list[bytes], max_events: int) -> None:
    digest = FIRST_DIGEST
    for batch in chain(list(enumerate(bodies)), max_events, 1 << 20):
        events = msgpack.packb([msgpack.unpackb(body) for body in bodies[batch.first_seq : batch.last_seq + 1]])
        assert batch.prev_digest == digest
        digest = hashlib.sha256(digest + events).digest()
        assert batch.digest == digest


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_joined_bodies_are_the_array_that_an_encoder_would_write(count: int) -> None:
    assert encode_events([b"\x01"] * count) == msgpack.packb([1] * count)


def test_a_new_epoch_starts_its_own_chain() -> None:
    before = seal([(1, b"\x90")], None, 1, max_events=1, max_bytes=1)
    after = seal([(2, b"\x90")], before, 2, max_events=1, max_bytes=1)
    assert (after.batch_no, after.prev_digest) == (1, FIRST_DIGEST)
    assert after.digest == digest_of(FIRST_DIGEST, b"\x91\x90")


@pytest.mark.parametrize(
    ("status", "next_batch_no", "events", "step"),
    [
        ("OK", 6, 2, Step.SETTLE),
        ("DUPLICATE", 9, 2, Step.SETTLE),
        ("GAP", 3, 2, Step.RESEND),
        ("GAP", 7, 2, Step.START_OVER),
        ("FORK", 6, 2, Step.NEW_NAME),
        ("UNKNOWN_EPOCH", 1, 2, Step.START_OVER),
        ("REFUSED", 5, 2, Step.SPLIT),
        ("REFUSED", 5, 1, Step.LETTER),
        ("DAMAGED", 5, 2, Step.AGAIN),
        ("LATER", 5, 2, Step.AGAIN),
    ],
)
def test_an_answer_asks_for_one_step(status: str, next_batch_no: int, events: int, step: Step) -> None:
    batch = Batch(1, 5, 10, 9 + events, events, 20, bytes(32), bytes(32))
    assert next_step(batch, BatchAnswer(status, next_batch_no)) is step  # type: ignore[arg-type]
