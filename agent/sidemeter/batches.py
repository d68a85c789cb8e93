"""Batches: how many rows one takes, the digest that chains it to the one before, and what the answers mean. Pure."""

import hashlib
import zlib
from collections.abc import Sequence
from enum import Enum, auto
from itertools import accumulate
from typing import Final, Literal

import msgspec

__all__ = [
    "Batch",
    "BatchAnswer",
    "Counted",
    "Row",
    "Step",
    "SyncStatus",
    "after_hello",
    "after_sync",
    "checksum",
    "digest_of",
    "encode_events",
    "letter_of",
    "next_step",
    "seal",
    "sealed_as_letter",
]

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
    """What the control plane said of a batch. DAMAGED: it did not arrive as it was sealed; LATER: it was not looked at.

    `wait_ms` is how long to wait before the next batch, or before the same one again.
    """

    status: Literal["OK", "DUPLICATE", "GAP", "FORK", "UNKNOWN_EPOCH", "DAMAGED", "REFUSED", "LATER"]
    next_batch_no: int
    reason: str | None = None
    accepted: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    wait_ms: int = 0


class Counted(msgspec.Struct, frozen=True):
    """The last batch that this agent knows to be counted, under the name it had then, in the copy `generation`."""

    agent_id: str
    epoch: int
    batch_no: int
    digest: bytes
    generation: str


SyncStatus = Literal["OK", "FENCED", "UNKNOWN_EPOCH", "RECOVERING"]
"""RECOVERING is OK, but nothing more of a hard limit is handed out."""


class Step(Enum):
    """What an answer asks the agent to do."""

    GO_ON = auto()
    """Nothing: all is as it was."""
    AGAIN = auto()
    """Send the same again, once the wait is over."""
    SETTLE = auto()
    """It is counted: keep the rows only as long as the keep rule says."""
    RESEND = auto()
    """The control plane lacks batches that were counted: send again from there on, or start over if they are gone."""
    START_OVER = auto()
    """It knows nothing of this epoch: take a new one, and send again everything that is kept."""
    NEW_NAME = auto()
    """Another process lives under this agent's name: take a new one, and seal anew what is not settled."""
    SPLIT = auto()
    """It cannot be taken as a whole and was not stored: seal its rows anew, half as many at a time."""
    LETTER = auto()
    """Its only event is refused: send that as a letter, which the control plane keeps without reading it."""
    SET_ASIDE = auto()
    """Not even the letter gets through: keep the event apart, with the reason, and go on."""


def checksum(seq: int, body: bytes) -> int:
    """The CRC-32 that a row is kept with; the same bytes under another number have another one.

    >>> checksum(7, b"\\x90") == checksum(8, b"\\x90")
    False
    """
    return zlib.crc32(body, seq & 0xFFFFFFFF)


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


def letter_of(body: bytes, reason: str) -> bytes:
    """The events of a batch that carries one event unread: its bytes as a binary, and why they were refused.

    >>> letter_of(b"\\x90", "odd").hex()
    '9192c40190a36f6464'
    """
    return encode_events([msgspec.msgpack.encode((body, reason))])


def sealed_as_letter(batch: Batch, letter: bytes) -> Batch:
    """The batch that takes the place of a refused one of one event, and carries it as `letter_of` made it."""
    return msgspec.structs.replace(batch, digest=digest_of(batch.prev_digest, letter))


def digest_of(prev_digest: bytes, events: bytes) -> bytes:
    """SHA-256 over the previous batch's digest and this one's encoded events."""
    return hashlib.sha256(prev_digest + events).digest()


def next_step(batch: Batch, answer: BatchAnswer, *, as_letter: bool = False) -> Step:
    """What to do after `answer` to `batch`, which carried its event `as_letter` or its events as they are."""
    match answer.status:
        case "OK" | "DUPLICATE":
            return Step.SETTLE
        case "LATER" | "DAMAGED":
            return Step.AGAIN
        case "GAP":
            return Step.RESEND if answer.next_batch_no < batch.batch_no else Step.START_OVER
        case "FORK":
            return Step.NEW_NAME
        case "REFUSED":
            alone = Step.SET_ASIDE if as_letter else Step.LETTER
            return Step.SPLIT if batch.events > 1 else alone
        case _:
            return Step.START_OVER


def after_hello(epoch: int | None, answered_epoch: int, next_batch_no: int, *, settled: int, sealed: int) -> Step:
    """What to do after a hello that was said in `epoch`, of which batches are `settled` and `sealed` up to those numbers.

    >>> after_hello(3, 3, next_batch_no=5, settled=6, sealed=7)
    <Step.RESEND: 4>
    """
    if epoch is not None and epoch != answered_epoch:
        return Step.START_OVER
    if next_batch_no > sealed + 1:
        return Step.NEW_NAME
    return Step.RESEND if next_batch_no <= settled else Step.GO_ON


def after_sync(status: SyncStatus, counted_batch_no: int, *, settled: int) -> Step:
    """What to do after a sync, before which the epoch's batches were `settled` up to that number."""
    match status:
        case "FENCED":
            return Step.NEW_NAME
        case "UNKNOWN_EPOCH":
            return Step.START_OVER
        case _:
            return Step.RESEND if counted_batch_no < settled else Step.GO_ON
