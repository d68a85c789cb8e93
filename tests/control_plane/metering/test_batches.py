"""What a batch is to the ones before it."""

import pytest

from sidemeter_control.metering.batches import NO_DIGEST, Batch, BatchStatus, Cursor, decide, digest

EVENTS = b"\x90"
FIRST = digest(NO_DIGEST, EVENTS)
SECOND = digest(FIRST, EVENTS)
OTHER = bytes(31) + b"\x01"


def batch(number: int, prev: bytes, own: bytes | None = None) -> Batch:
    return Batch("a", 1, number, prev, digest(prev, EVENTS) if own is None else own, EVENTS)


CASES = [
    ("the first", Cursor("a", 1), batch(1, NO_DIGEST), None, BatchStatus.OK),
    ("the next", Cursor("a", 1, 2, FIRST), batch(2, FIRST), None, BatchStatus.OK),
    ("no such epoch", None, batch(1, NO_DIGEST), None, BatchStatus.UNKNOWN_EPOCH),
    ("a wrong digest", Cursor("a", 1), batch(1, NO_DIGEST, OTHER), None, BatchStatus.DAMAGED),
    ("one too far", Cursor("a", 1), batch(2, FIRST), None, BatchStatus.GAP),
    ("again", Cursor("a", 1, 2, FIRST), batch(1, NO_DIGEST), FIRST, BatchStatus.DUPLICATE),
    ("again, long after", Cursor("a", 1, 9, OTHER), batch(2, FIRST), SECOND, BatchStatus.DUPLICATE),
    ("another of that number", Cursor("a", 1, 2, FIRST), batch(1, OTHER), FIRST, BatchStatus.FORK),
    ("one whose digest is lost", Cursor("a", 1, 2, FIRST), batch(1, NO_DIGEST), None, BatchStatus.FORK),
    ("the next of another line", Cursor("a", 1, 2, FIRST), batch(2, OTHER), None, BatchStatus.FORK),
]


@pytest.mark.parametrize(
    ("cursor", "arrived", "counted", "status"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_batch_is_known_for_what_it_is(
    cursor: Cursor | None, arrived: Batch, counted: bytes | None, status: BatchStatus
) -> None:
    assert decide(cursor, arrived, counted) is status
