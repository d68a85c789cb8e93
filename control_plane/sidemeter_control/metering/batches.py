"""Batches: what the one that arrived is to the ones before it. Pure rules, no I/O."""

import hashlib
from dataclasses import dataclass
from enum import Enum

__all__ = ["NO_DIGEST", "Batch", "BatchStatus", "Cursor", "decide", "digest"]

NO_DIGEST = bytes(32)
"""What the first batch of an epoch builds on."""


class BatchStatus(Enum):
    """What becomes of a batch. DAMAGED: it did not arrive as it was sealed. REFUSED: it can never be taken as it is."""

    OK = "OK"
    DUPLICATE = "DUPLICATE"
    GAP = "GAP"
    FORK = "FORK"
    UNKNOWN_EPOCH = "UNKNOWN_EPOCH"
    DAMAGED = "DAMAGED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far an agent's epoch has come: the number of the batch expected next, and the digest of the last one."""

    agent_id: str
    epoch: int
    next_batch_no: int = 1
    last_digest: bytes = NO_DIGEST


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it arrived: its place, its digests, and the MessagePack bytes of its events."""

    agent_id: str
    epoch: int
    batch_no: int
    prev_digest: bytes
    digest: bytes
    events: bytes


def digest(prev_digest: bytes, events: bytes) -> bytes:
    """What a batch's digest must be: SHA-256 over that of the one before it and the bytes of its events."""
    return hashlib.sha256(prev_digest + events).digest()


def decide(cursor: Cursor | None, batch: Batch, counted_digest: bytes | None) -> BatchStatus:
    """What to do with a batch. `counted_digest` is what the batch of its number had when it was counted, if it was.

    No clock and no cache take part: the cursor and the digest come from the transaction that counts the batch.

    >>> first = Batch("a", 1, 1, NO_DIGEST, digest(NO_DIGEST, b""), b"")
    >>> decide(Cursor("a", 1), first, None)
    <BatchStatus.OK: 'OK'>
    """
    if cursor is None:
        return BatchStatus.UNKNOWN_EPOCH
    if batch.digest != digest(batch.prev_digest, batch.events):
        return BatchStatus.DAMAGED
    if batch.batch_no > cursor.next_batch_no:
        return BatchStatus.GAP
    if batch.batch_no < cursor.next_batch_no:
        return BatchStatus.DUPLICATE if counted_digest == batch.digest else BatchStatus.FORK
    return BatchStatus.OK if batch.prev_digest == cursor.last_digest else BatchStatus.FORK
