"""The agents' door: hello, batch and sync in MessagePack. A transport error is a problem, all else a 200 with a status."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sidemeter_control.api.agent_messages import (
    MAX_BATCH_BYTES,
    PROTOCOL,
    BatchMessage,
    BatchReply,
    HelloMessage,
    HelloReply,
    array_length,
)
from sidemeter_control.api.auth import Gate, Narrow
from sidemeter_control.api.bodies import read_body
from sidemeter_control.api.problems import Refused
from sidemeter_control.clock import Clock
from sidemeter_control.errors import Forbidden
from sidemeter_control.limits.denials import Denials
from sidemeter_control.limits.denying import raise_denied
from sidemeter_control.limits.sync import sync
from sidemeter_control.limits.sync_messages import SyncAnswer, SyncQuestion
from sidemeter_control.logs import about
from sidemeter_control.metering.batches import Batch
from sidemeter_control.metering.identity import Counted, SyncStatus
from sidemeter_control.metering.ingest import BatchAnswer, Begun, Hello, Ingest, Loss
from sidemeter_control.metering.pacing import Arrival, Entry, Pacer
from sidemeter_control.store import agents
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope

__all__ = ["ARRIVES_WITHIN_S", "MAX_DECODED_BYTES", "SLACK_BYTES", "AgentDoor"]

MAX_DECODED_BYTES = 8 * 1024 * 1024
ARRIVES_WITHIN_S = 30
"""For a whole body: a batch that drips in would keep its place for as long as it likes."""
# The rest of a batch's message, and events that do not shrink when zipped.
SLACK_BYTES = 64 * 1024
_LONGEST_WAIT_S = 3600

_EXPECTED = {"OK", "DUPLICATE"}

T = TypeVar("T")

_log = logging.getLogger(__name__)


class AgentDoor:
    """`POST /agent/v1/hello`, `batch` and `sync`, for keys with the scope AGENT.

    `syncs` counts answers by status, `lease_syncs` those to syncs that told of leases, `sent_away` batches that were to come
    later, `denials` what agents say they refused, since the start.
    """

    def __init__(
        self, database: Database, gate: Gate, ingest: Ingest, clock: Clock, pacer: Pacer, *, sync_interval_ms: int
    ) -> None:
        self._database = database
        self._gate = gate
        self._ingest = ingest
        self._clock = clock
        self._sync_interval_ms = sync_interval_ms
        self.pacer = pacer
        self.syncs: Counter[SyncStatus] = Counter(dict.fromkeys(SyncStatus, 0))
        self.lease_syncs: Counter[SyncStatus] = Counter(dict.fromkeys(SyncStatus, 0))
        self.denials = Denials()
        self.sent_away: Counter[str] = Counter(busy=0, paced=0)

    def routes(self) -> list[BaseRoute]:
        """The three routes."""
        hello, question = msgspec.msgpack.Decoder(HelloMessage).decode, msgspec.msgpack.Decoder(SyncQuestion).decode
        decode_batch = msgspec.msgpack.Decoder(BatchMessage).decode

        async def batch(request: Request) -> Response:
            return await self._batch(request, decode_batch)

        return [
            Route("/agent/v1/hello", self._door(hello, self._hello), methods=["POST"]),
            Route("/agent/v1/sync", self._door(question, self._sync), methods=["POST"]),
            Route("/agent/v1/batch", batch, methods=["POST"]),
        ]

    def _door(
        self, decode: Callable[[bytes], T], verb: Callable[[T], Awaitable[object]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def door(request: Request) -> Response:
            key = await self._let_in(request)
            message = await _read(request, decode)
            await self._check_service(key, message)
            with about(request_id=request.headers.get("sidemeter-request")):
                return _reply(request, await verb(message))

        return door

    async def _let_in(self, request: Request) -> Key:
        key = await self._gate.let_in(request, Scope.AGENT, heeds=(Narrow.SERVICE,))
        if request.headers.get("sidemeter-protocol") != PROTOCOL:
            spoken = {"Sidemeter-Protocol": PROTOCOL}
            raise Refused(
                400, "protocol_unsupported", f"this control plane speaks Sidemeter-Protocol: {PROTOCOL}", spoken
            )
        if request.headers.get("content-type") != "application/msgpack":
            raise Refused(415, "unsupported_media_type", "send application/msgpack")
        return key

    async def _check_service(self, key: Key, message: Any) -> None:
        """Forbidden, when the key is for one service, and the agent says or is known to be beside another."""
        if key.service is None:
            return
        async with self._database.read() as conn:
            known = await agents.get(conn, message.agent_id)
        said = {message.service} if isinstance(message, HelloMessage) else set()
        if ({known.service} if known else set()) | said != {key.service}:
            raise Forbidden(f"the key is for agents of the service {key.service!r} alone")

    async def _hello(self, message: HelloMessage) -> HelloReply:
        with about(agent_id=message.agent_id):
            begun = await self._begin(message)
            _log.info("epoch %d of %s %s", begun.cursor.epoch, message.service, message.version)
        self.pacer.share(self._database.replicas)
        return HelloReply(
            begun.cursor.epoch,
            begun.cursor.next_batch_no,
            begun.generation,
            self._sync_interval_ms,
            begun.losses_stored,
            self.pacer.announced_events_per_s,
            self.pacer.max_batch_events,
        )

    async def _begin(self, message: HelloMessage) -> Begun:
        return await self._ingest.hello(
            Hello(
                message.agent_id,
                message.hello_id,
                message.boot_id,
                message.service,
                message.version,
                message.previous_epoch,
                message.generation,
                [Loss(*msgspec.structs.astuple(each)) for each in message.losses],
                None if message.counted is None else Counted(*msgspec.structs.astuple(message.counted)),
            )
        )

    async def _sync(self, question: SyncQuestion) -> SyncAnswer:
        with about(agent_id=question.agent_id, epoch=question.epoch):
            answer = await sync(
                self._database, self._ingest.rollbacks, question, self._clock.now_us(), self._sync_interval_ms
            )
            if answer.status in {SyncStatus.OK, SyncStatus.RECOVERING}:
                self.denials.tell(question.agent_id, question.denials)
                await raise_denied(self._database, self._clock, question.denied)
        self.syncs[answer.status] += 1
        if question.leases:
            self.lease_syncs[answer.status] += 1
        return answer

    async def _batch(self, request: Request, decode: Callable[[bytes], BatchMessage]) -> Response:
        key = await self._let_in(request)
        announced = _announced(request)
        if announced is None and self.pacer.is_full:  # an agent from before batches were announced
            self._send_away(Entry(1.0, busy=True))
        async with self._inside(announced) as arrival:
            message = await _read(request, decode)
            await self._check_service(key, message)
            if arrival is not None:
                return await self._counted(request, message)
        async with self._inside(_arrival(message)):
            return await self._counted(request, message)

    async def _counted(self, request: Request, message: BatchMessage) -> Response:
        """The answer to a batch whose turn it is. What is logged meanwhile is about this batch."""
        name = request.headers.get("sidemeter-request")
        with about(agent_id=message.agent_id, epoch=message.epoch, batch_no=message.batch_no, request_id=name):
            answer = await self._count(message)
            log = _log.debug if answer.status in _EXPECTED else _log.warning
            log("batch %d of epoch %d: %s", message.batch_no, message.epoch, answer.status)
            return _reply(request, answer)

    @asynccontextmanager
    async def _inside(self, arrival: Arrival | None) -> AsyncIterator[Arrival | None]:
        """The place of a batch among those that are worked on; Refused when it is not its turn."""
        if arrival is None:
            yield None
            return
        self.pacer.share(self._database.replicas)
        entry = self.pacer.admit(arrival, self._clock.monotonic_s())
        if not entry.admitted:
            self._send_away(entry)
        try:
            yield arrival
        finally:
            self.pacer.finish(entry, self._clock.monotonic_s())

    def _send_away(self, entry: Entry) -> None:
        self.sent_away["busy" if entry.busy else "paced"] += 1
        wait_s = min(entry.wait_s, _LONGEST_WAIT_S)
        later = {"Retry-After": str(math.ceil(wait_s)), "Sidemeter-Wait-Ms": str(math.ceil(wait_s * 1000))}
        if entry.busy:
            raise Refused(503, "busy", "as many batches are worked on as may be at once; this one was not read", later)
        raise Refused(429, "paced", "all agents together keep to the announced rate; this batch was not read", later)

    async def _count(self, message: BatchMessage) -> BatchReply:
        answer = await self._ingest.batch(
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
        wait_s = self.pacer.next_wait_s(message.agent_id, message.backlog, self._clock.monotonic_s())
        return _batch_reply(answer, min(wait_s, _LONGEST_WAIT_S))


def _batch_reply(answer: BatchAnswer, wait_s: float) -> BatchReply:
    done = answer.recorded
    return BatchReply(
        answer.status.value,
        answer.next_batch_no,
        answer.reason,
        done.accepted,
        done.duplicates,
        done.dead_letters,
        math.ceil(wait_s * 1000),
    )


def _announced(request: Request) -> Arrival | None:
    """What the headers of a batch say of it, so that it can be sent away unread; None when they do not."""
    agent_id = request.headers.get("sidemeter-agent", "")
    numbers = [request.headers.get(f"sidemeter-{name}", "") for name in ("events", "waiting")]
    if not agent_id or not all(text.isascii() and text.isdigit() and len(text) <= 19 for text in numbers):
        return None
    return Arrival(agent_id, *map(int, numbers))


def _arrival(message: BatchMessage) -> Arrival:
    events = array_length(bytes(memoryview(message.events)[:5]))
    return Arrival(message.agent_id, events, events + message.backlog)


async def _read(request: Request, decode: Callable[[bytes], T]) -> T:
    try:
        async with asyncio.timeout(ARRIVES_WITHIN_S):
            body = await read_body(
                request, max_bytes=MAX_BATCH_BYTES + SLACK_BYTES, max_decoded_bytes=MAX_DECODED_BYTES
            )
    except TimeoutError as exc:
        raise Refused(408, "too_slow", f"a body arrives within {ARRIVES_WITHIN_S} s") from exc
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise Refused(400, "malformed", f"not the message of this route: {exc}") from exc


def _reply(request: Request, answer: Any) -> Response:
    reply = Response(msgspec.msgpack.encode(answer), media_type="application/msgpack")
    if name := request.headers.get("sidemeter-request"):
        reply.headers["sidemeter-request"] = name  # so that nothing between can pass it off as another's answer
    return reply
