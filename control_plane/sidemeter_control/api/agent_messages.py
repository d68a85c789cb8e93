"""What agents say and are answered, as it stands on the wire."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from sidemeter_control.metering.events import LAST_US, array_length

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_LOSSES",
    "PROTOCOL",
    "BatchMessage",
    "BatchReply",
    "CountedMessage",
    "HelloMessage",
    "HelloReply",
    "LossMessage",
    "array_length",
]

PROTOCOL = "1"
MAX_BATCH_BYTES = 1024 * 1024
"""Of a batch's events, as agents are asked to seal them."""
MAX_LOSSES = 1_000
"""In one hello; an agent with more declares them in turns."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern="^[^\x00]*$")]
_Number = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Time = Annotated[int, msgspec.Meta(ge=-LAST_US, le=LAST_US)]


class LossMessage(msgspec.Struct, frozen=True):
    """Rows of the agent's buffer that are gone; null where it does not know how far."""

    id: _Name
    first_seq: _Count
    last_seq: _Count | None
    events: _Count | None
    reason: Annotated[str, msgspec.Meta(max_length=1024)]
    noticed_at_us: _Time


class CountedMessage(msgspec.Struct, frozen=True):
    """The last batch that the agent knows to be counted, under the name it had then, and in which copy of this."""

    agent_id: _Name
    epoch: _Number
    batch_no: _Number
    digest: _Digest
    generation: _Name


class HelloMessage(msgspec.Struct, frozen=True):
    """What an agent says when it starts, and again while it has losses that nobody has stored."""

    agent_id: _Name
    hello_id: _Name
    boot_id: _Name
    service: _Name
    version: _Name
    previous_epoch: _Number | None = None
    generation: _Name | None = None
    losses: Annotated[tuple[LossMessage, ...], msgspec.Meta(max_length=MAX_LOSSES)] = ()
    counted: CountedMessage | None = None


class HelloReply(msgspec.Struct, frozen=True):
    """The epoch to send batches in, where in it to go on, how large and how often; and the losses that are stored."""

    epoch: int
    next_batch_no: int
    generation: str
    sync_interval_ms: int
    losses_stored: Sequence[str]
    rate_events_per_s: int
    max_batch_events: int
    status: Literal["OK"] = "OK"
    max_batch_bytes: int = MAX_BATCH_BYTES


class BatchMessage(msgspec.Struct, frozen=True):
    """A sealed batch; `events` stays as it was sent, because the digest is over those bytes."""

    agent_id: _Name
    epoch: _Number
    batch_no: _Number
    prev_digest: _Digest
    digest: _Digest
    backlog: _Count
    events: msgspec.Raw
    oldest_pending_us: _Time | None = None
    generation: _Name | None = None


class BatchReply(msgspec.Struct, frozen=True):
    """What became of the batch, which one is expected next, and how long to wait before sending it."""

    status: str
    next_batch_no: int
    reason: str | None
    accepted: int
    duplicates: int
    dead_letters: int
    wait_ms: int
