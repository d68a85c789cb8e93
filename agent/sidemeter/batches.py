"""Batches: how many rows one takes, the digest that chains it to the one before, and what its answer means. Pure."""

import hashlib
from collections.abc import Sequence
from enum import Enum, auto
from itertools import accumulate
from typing import Final, Literal

import msgspec

__all__ = ["Batch", "BatchAnswer", "Row", "Step", "digest_of", "encode_events", "next_step", "seal"]

Row = tuple[int, bytes]
"""A row of the buffer: its number and the wire form of its event."""

FIRST_DIGEST: Final = bytes(32)
"""What the first batch of an epoch builds on."""


class Batch(msgspec.Struct, frozen=True):
    """Consecutive rows, sealed to be sent together: `first_seq` to `last_seq`, `size` bytes of `events` events.

    Never changes: whatever is sent again is sent byte for byte.
    """

    epoch: int
    batch_no: int
    first_seq: int
    last_seq: int
    events: int
    size: int
    prev_digest: bytes
    digest: bytes


class BatchAnswer(msgspec.Struct, frozen=True):
    """What the control plane said of a batch."""

    status: Literal["OK", "DUPLICATE", "GAP", "FORK", "UNKNOWN_EPOCH", "REFUSED"]
    next_batch_no: int
    reason: str | None = None
    accepted: int = 0
    duplicates: int = 0
    dead_letters: int = 0


class Step(Enum):
    """What an answer asks the agent to do."""

    SETTLE = auto()
    """It is counted: keep the rows only as long as the keep rule says."""
    RESEND = auto()
    """The control plane lacks earlier batches: send again from `next_batch_no`, or start over if they are gone."""
    START_OVER = auto()
    """It follows another history of this epoch, or none: take a new epoch and seal anew what is not settled."""
    SPLIT = auto()
    """It cannot be taken as a whole and was not stored: seal its rows anew, half as many at a time."""
    SET_ASIDE = auto()
    """Its only event can never be taken: keep it apart, with the reason, and go on."""


def seal(rows: Sequence[Row], previous: Batch | None, epoch: int, *, max_events: int, max_bytes: int) -> Batch:
    """A batch of as many of `rows` (at least one, oldest first) as fit; `previous` is the epoch's last batch.

    >>> batch = seal([(7, b"\\x90"), (8, b"\\x90"), (9, b"\\x90")], None, 1, max_events=2, max_bytes=100)
    >>> batch.batch_no, batch.first_seq, batch.last_seq
    (1, 7, 8)
    """
    fitting = sum(size <= max_bytes for size in accumulate(len(body) for _, body in rows[:max_events]))
    taken = rows[: max(fitting, 1)]
    follows = previous is not None and previous.epoch == epoch
    prev_digest = previous.digest if previous and follows else FIRST_DIGEST
    events = encode_events([body for _, body in taken])
    return Batch(
        epoch=epoch,
        batch_no=previous.batch_no + 1 if previous and follows else 1,
        first_seq=taken[0][0],
        last_seq=taken[-1][0],
        events=len(taken),
        size=sum(len(body) for _, body in taken),
        prev_digest=prev_digest,
        digest=digest_of(prev_digest, events),
    )


def encode_events(bodies: Sequence[bytes]) -> bytes:
    """The MessagePack array of wire forms: a header and the bodies as they are.

    >>> encode_events([b"\\x90", b"\\x90"]).hex()
    '929090'
    """
    count = len(bodies)
    if count < 1 << 4:
        header = bytes([0x90 | count])
    elif count < 1 << 16:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return header + b"".join(bodies)


def digest_of(prev_digest: bytes, events: bytes) -> bytes:
    """SHA-256 over the previous batch's digest and this one's encoded events."""
    return hashlib.sha256(prev_digest + events).digest()


def next_step(batch: Batch, answer: BatchAnswer) -> Step:
    """What to do after `answer` to `batch`."""
    match answer.status:
        case "OK" | "DUPLICATE":
            return Step.SETTLE
        case "GAP":
            return Step.RESEND if answer.next_batch_no < batch.batch_no else Step.START_OVER
        case "REFUSED":
            return Step.SPLIT if batch.events > 1 else Step.SET_ASIDE
        case _:
            return Step.START_OVER
