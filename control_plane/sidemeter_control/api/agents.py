"""The agents' door: hello, batch and sync in MessagePack. A transport error is a problem, all else a 200 with a status."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.bodies import read_body
from sidemeter_control.api.problems import Refused
from sidemeter_control.clock import Clock
from sidemeter_control.limits.sync import SyncQuestion, sync
from sidemeter_control.metering.batches import Batch
from sidemeter_control.metering.events import LAST_US
from sidemeter_control.metering.ingest import Hello, Ingest, Loss
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_EVENTS", "MAX_DECODED_BYTES", "MAX_LOSSES", "PROTOCOL", "agent_routes"]

PROTOCOL = "1"
MAX_BATCH_EVENTS = 5_000
MAX_BATCH_BYTES = 1024 * 1024
"""Of a batch's events, as agents are asked to seal them."""
MAX_DECODED_BYTES = 8 * 1024 * 1024
MAX_LOSSES = 1_000
"""In one hello; an agent with more declares them in turns."""
# The rest of a batch's message, and events that do not shrink when zipped.
_SLACK_BYTES = 64 * 1024

T = TypeVar("T")
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


class HelloReply(msgspec.Struct, frozen=True):
    """The epoch to send batches in, where in it to go on, how large and how often; and the losses that are stored."""

    epoch: int
    next_batch_no: int
    generation: str
    sync_interval_ms: int
    losses_stored: Sequence[str]
    status: Literal["OK"] = "OK"
    max_batch_events: int = MAX_BATCH_EVENTS
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
    """What became of the batch, and which one is expected next."""

    status: str
    next_batch_no: int
    reason: str | None
    accepted: int
    duplicates: int
    dead_letters: int


def agent_routes(
    database: Database, gate: Gate, ingest: Ingest, clock: Clock, *, sync_interval_ms: int
) -> list[BaseRoute]:
    """`POST /agent/v1/hello`, `batch` and `sync`, for keys with the scope AGENT."""

    async def hello(message: HelloMessage) -> HelloReply:
        begun = await ingest.hello(
            Hello(
                message.agent_id,
                message.hello_id,
                message.boot_id,
                message.service,
                message.version,
                message.previous_epoch,
                message.generation,
                [Loss(*msgspec.structs.astuple(each)) for each in message.losses],
            )
        )
        cursor = begun.cursor
        return HelloReply(cursor.epoch, cursor.next_batch_no, begun.generation, sync_interval_ms, begun.losses_stored)

    async def batch(message: BatchMessage) -> BatchReply:
        answer = await ingest.batch(
            Batch(
                message.agent_id,
                message.epoch,
                message.batch_no,
                message.prev_digest,
                message.digest,
                bytes(message.events),
            ),
            backlog=message.backlog,
            oldest_pending_us=message.oldest_pending_us,
            generation=message.generation,
        )
        done = answer.recorded
        return BatchReply(
            answer.status.value,
            answer.next_batch_no,
            answer.reason,
            done.accepted,
            done.duplicates,
            done.dead_letters,
        )

    async def ask(question: SyncQuestion) -> object:
        return await sync(database, ingest.rollbacks, question, clock.now_us(), sync_interval_ms)

    return [
        _route(gate, "/agent/v1/hello", HelloMessage, hello),
        _route(gate, "/agent/v1/batch", BatchMessage, batch),
        _route(gate, "/agent/v1/sync", SyncQuestion, ask),
    ]


def _route(gate: Gate, path: str, message: type[T], verb: Callable[[T], Awaitable[object]]) -> BaseRoute:
    decode = msgspec.msgpack.Decoder(message).decode

    async def door(request: Request) -> Response:
        await gate.admit(request.headers.get("authorization"), Scope.AGENT)
        if request.headers.get("sidemeter-protocol") != PROTOCOL:
            raise Refused(400, "protocol_unsupported", f"this control plane speaks Sidemeter-Protocol: {PROTOCOL}")
        if request.headers.get("content-type") != "application/msgpack":
            raise Refused(415, "unsupported_media_type", "send application/msgpack")
        body = await read_body(request, max_bytes=MAX_BATCH_BYTES + _SLACK_BYTES, max_decoded_bytes=MAX_DECODED_BYTES)
        reply = _encoded(await verb(_read(decode, body)))
        if name := request.headers.get("sidemeter-request"):
            reply.headers["sidemeter-request"] = name  # so that nothing between can pass it off as another's answer
        return reply

    return Route(path, door, methods=["POST"])


def _read(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise Refused(400, "malformed", f"not the message of this route: {exc}") from exc


def _encoded(reply: Any) -> Response:
    return Response(msgspec.msgpack.encode(reply), media_type="application/msgpack")
