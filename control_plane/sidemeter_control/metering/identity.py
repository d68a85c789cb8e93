"""Identity: the epoch that a hello gets, whether a sync comes from the one process that has it, and how a database
notices that it is an older copy of itself. Pure rules, no I/O.

A nonce is what a sync is answered with and the next one brings back. It holds how many came before it in its epoch, so
that one which is too old (another process lives under this identity) is told from one which this database has not yet
given (it was restored from a backup, and does not remember).
"""

import hashlib
from dataclasses import dataclass
from enum import Enum

from sidemeter_control.metering.batches import BatchStatus, Cursor

__all__ = [
    "NONCE_BYTES",
    "NO_NONCES",
    "Claim",
    "Counted",
    "HelloDecision",
    "Nonces",
    "SyncDecision",
    "SyncStatus",
    "decide_hello",
    "decide_sync",
    "lacks",
    "next_nonce",
    "was_rolled_back",
]

_COUNT_BYTES = 8
NONCE_BYTES = _COUNT_BYTES + 16


class SyncStatus(Enum):
    """FENCED: another process speaks for this agent. UNKNOWN_EPOCH: this database never gave the epoch out. RECOVERING: as
    OK, but nothing more is granted of hard limits until all that was granted is known again."""

    OK = "OK"
    RECOVERING = "RECOVERING"
    FENCED = "FENCED"
    UNKNOWN_EPOCH = "UNKNOWN_EPOCH"


@dataclass(frozen=True, slots=True)
class Nonces:
    """The nonce that the next sync of an epoch should bring, and the one before, which it brings if its answer was lost."""

    current: bytes | None = None
    previous: bytes | None = None


NO_NONCES = Nonces()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a sync shows of what its agent heard before. `sync_id` None: an agent from before there were nonces.

    `settled_batch_no` is the last batch of its epoch that it was told is counted.
    """

    epoch: int
    nonce: bytes | None = None
    sync_id: str | None = None
    generation: str | None = None
    state_version: int | None = None
    settled_batch_no: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """The last batch that an agent knows to be counted, under the name it had then, in which copy of the database."""

    agent_id: str
    epoch: int
    batch_no: int
    digest: bytes
    generation: str


@dataclass(frozen=True, slots=True)
class HelloDecision:
    """The epoch of a hello, and whether it begins now."""

    epoch: int
    begins: bool
    rolled_back: bool


@dataclass(frozen=True, slots=True)
class SyncDecision:
    """What a sync is answered, and the nonces to keep before the answer leaves."""

    status: SyncStatus
    nonces: Nonces
    rolled_back: bool = False


def decide_hello(
    given: Cursor | None,
    newest_epoch: int | None,
    *,
    previous_epoch: int | None,
    generation: str | None,
    current: str,
    lacking: bool = False,
) -> HelloDecision:
    """The epoch for a hello: `given` if it was said before, else one above every epoch that either side remembers.

    `newest_epoch` is the agent's newest one here; `previous_epoch` and `generation` are what the agent heard last,
    `current` is this database's generation. `lacking`: it is seen to lack what it counted (see `lacks`).

    >>> decide_hello(None, 2, previous_epoch=7, generation="g1", current="g2")
    HelloDecision(epoch=8, begins=True, rolled_back=False)
    """
    if given is not None:
        return HelloDecision(given.epoch, begins=False, rolled_back=lacking)
    remembered, heard = newest_epoch or 0, previous_epoch or 0
    forgotten = heard > remembered and generation == current
    return HelloDecision(max(remembered, heard) + 1, begins=True, rolled_back=forgotten or lacking)


def lacks(counted: Counted | None, digest_here: bytes | None, current: str) -> bool:
    """Whether a database of the generation `current` has another batch, or none, where an agent knows one to be counted.

    The digest stands for every batch of its epoch up to that one. An epoch and a number alone do not: of two copies that
    go on from one backup, both may have given them out.
    """
    return counted is not None and counted.generation == current and counted.digest != digest_here


def decide_sync(
    newest_epoch: int | None,
    held: Nonces | None,
    claim: Claim,
    *,
    generation: str,
    state_version: int,
    counted_batch_no: int = 0,
) -> SyncDecision:
    """What to answer a sync. `held` are the nonces of its epoch, None when this database never gave that epoch out.

    `counted_batch_no` is the last batch of that epoch which is counted here.

    >>> decide_sync(1, NO_NONCES, Claim(1, None, "s1"), generation="g", state_version=1).status
    <SyncStatus.OK: 'OK'>
    """
    same = claim.generation == generation
    if held is None or newest_epoch is None:
        return SyncDecision(SyncStatus.UNKNOWN_EPOCH, NO_NONCES, rolled_back=same)
    if claim.epoch != newest_epoch:
        return SyncDecision(SyncStatus.FENCED, held)
    lacking = claim.settled_batch_no > counted_batch_no or (claim.state_version or 0) > state_version
    rolled_back = same and lacking
    if claim.sync_id is None:
        return SyncDecision(SyncStatus.OK, held, rolled_back)
    not_given_yet = _count(claim.nonce) > _count(held.current)
    if not not_given_yet and claim.nonce not in {held.current, held.previous}:
        return SyncDecision(SyncStatus.FENCED, held)
    # The same sync twice (a network that repeats) gets the same nonce, so that nothing has changed for its agent.
    nonces = Nonces(next_nonce(claim.nonce, claim.sync_id), claim.nonce)
    return SyncDecision(SyncStatus.OK, nonces, rolled_back or (same and not_given_yet))


def next_nonce(nonce: bytes | None, sync_id: str) -> bytes:
    """What the answer to that sync brings; `sync_id` is random, so no two syncs get the same."""
    kept = hashlib.sha256((nonce or b"") + sync_id.encode()).digest()
    count = min(_count(nonce) + 1, (1 << 8 * _COUNT_BYTES) - 1)
    return count.to_bytes(_COUNT_BYTES, "big") + kept[: NONCE_BYTES - _COUNT_BYTES]


def _count(nonce: bytes | None) -> int:
    return 0 if nonce is None else int.from_bytes(nonce[:_COUNT_BYTES], "big")


def was_rolled_back(status: BatchStatus, generation: str | None, current: str) -> bool:
    """Whether a batch shows that this database is an older copy: it lacks what its own `current` generation counted.

    An agent sends a batch only after the one before it was counted, and names the `generation` that it heard of last.
    """
    return status in {BatchStatus.GAP, BatchStatus.UNKNOWN_EPOCH} and generation == current
