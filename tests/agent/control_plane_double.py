"""A small control plane on a real port: cursor, dedupe and totals as the wire says, and faults on request."""

import asyncio
import gzip
import hashlib
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgpack
from agent.lease_double import LeaseBooks

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "smk_test"
Message = dict[str, Any]


@dataclass
class Epoch:
    hello_id: str
    next_batch_no: int = 1
    digests: list[bytes] = field(default_factory=lambda: [bytes(32)])


class ControlPlaneDouble:
    """`events` is every event counted, by (source, id). `faults` are used up by hello and batch, one for each request:

    "lose" takes the message and hangs up before the answer; a number is an HTTP status; a map replaces the answer.
    While `answers_again`, every request gets the last answer once more.
    `letters` are events that came unread, after `refuses` said so of them; `losses` what was declared, by agent and id.
    While `counts` is false, no sync is answered: what is sent is stored, and no total that is known holds it.
    """

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], list[Any]] = {}
        self.epochs: dict[tuple[str, int], Epoch] = {}
        self.generation = "g1"
        self.faults: deque[str | int | Message] = deque()
        self.requests: list[tuple[str, Message]] = []
        self.bodies: list[bytes] = []
        self.headers: dict[str, str] = {}
        self.traceparents: list[str] = []
        self.subjects: dict[str, list[str]] = {}
        self.limits: dict[str, Message] = {}
        self.letters: list[tuple[bytes, str]] = []
        self.losses: dict[tuple[str, str], Message] = {}
        self.stores_losses = True
        self.knows_previous_epochs = True
        self.wait_ms = 0
        self.max_batch_events = 5000
        self.refuses: Callable[[list[Any]], bool] = lambda event: False
        self.retry_after_s: int | None = None
        self.held = asyncio.Event()
        self.held.set()
        self.names_requests = True
        self.answers_again = False
        self._answered = b""
        self.counts = True
        self.books = LeaseBooks()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        self.held.set()
        self._server.close()
        await self._server.wait_closed()

    def messages(self, name: str) -> list[Message]:
        return [message for path, message in self.requests if path == f"/agent/v1/{name}"]

    def meter(self, subject: str, feature: str, limit: str | None, **changes: Any) -> None:
        """Give `subject` a hard limit on the sum of `tokens` of its calls."""
        limit_id = f"{subject}/{feature}"
        meter = {"event_type": "call", "aggregation": "SUM", "value_property": "tokens", "filters": []}
        self.subjects.setdefault(subject, []).append(limit_id)
        self.limits[limit_id] = {
            "id": limit_id,
            "customer": subject,
            "feature": feature,
            "kind": "METERED",
            "enforcement": "HARD",
            "value": None,
            "limit": limit,
            "used": "0",
            "meter": meter,
            "period_start_us": None,
            "resets_at_us": None,
            "policy_version": 1,
        } | changes

    def lease(self, subject: str, feature: str, limit: int, scale: int = 0, **changes: Any) -> str:
        """`meter`, with a limit that is handed out in leases; its id."""
        limit_id, period = f"{subject}/{feature}", changes.get("period_start_us") or 0
        if limit_id not in self.limits:
            self.meter(subject, feature, None)
        self.limits[limit_id] |= {"limit": str(limit), "scale": scale, "period": period} | changes
        self.books.pools[limit_id], self.books.periods[limit_id] = limit * 10**scale, period
        return limit_id

    def answer(self, path: str, message: Message) -> Message:
        """What the control plane says; the rules of the wire."""
        return {"hello": self._hello, "batch": self._batch, "sync": self._sync}[path.rsplit("/", 1)[1]](message)

    def _hello(self, message: Message) -> Message:
        agent_id = message["agent_id"]
        previous = message.get("previous_epoch") or 0 if self.knows_previous_epochs else 0
        mine = [number for (agent, number) in self.epochs if agent == agent_id]
        known = [number for number in mine if self.epochs[agent_id, number].hello_id == message["hello_id"]]
        number = known[0] if known else max([*mine, previous]) + 1
        epoch = self.epochs.setdefault((agent_id, number), Epoch(message["hello_id"]))
        self.books.hello((agent_id, message["hello_id"]), number)
        declared = message.get("losses", []) if self.stores_losses else []
        self.losses.update({(agent_id, loss["id"]): loss for loss in declared})
        return {
            "status": "OK",
            "epoch": number,
            "next_batch_no": epoch.next_batch_no,
            "generation": self.generation,
            "sync_interval_ms": 10,
            "max_batch_events": self.max_batch_events,
            "max_batch_bytes": 1 << 20,
        } | ({"losses_stored": [loss["id"] for loss in declared]} if self.stores_losses else {})

    def _batch(self, message: Message) -> Message:
        epoch = self.epochs.get((message["agent_id"], message["epoch"]))
        if epoch is None:
            return _verdict("UNKNOWN_EPOCH", 1)
        status = self._judge(epoch, message)
        if status == "OK":
            for event in message["events"]:
                if isinstance(event[0], bytes):
                    self.letters.append((event[0], event[1]))
                else:
                    self.events.setdefault((event[1], event[0]), event)
            epoch.next_batch_no += 1
            epoch.digests.append(message["digest"])
        return _verdict(status, epoch.next_batch_no) | {"wait_ms": self.wait_ms}

    def _judge(self, epoch: Epoch, message: Message) -> str:
        number = message["batch_no"]
        encoded = msgpack.packb(message["events"])
        if hashlib.sha256(message["prev_digest"] + encoded).digest() != message["digest"]:
            return "REFUSED"
        if number > epoch.next_batch_no:
            return "GAP"
        if number < epoch.next_batch_no:
            return "DUPLICATE" if epoch.digests[number] == message["digest"] else "FORK"
        if epoch.digests[-1] != message["prev_digest"]:
            return "FORK"
        return "REFUSED" if any(self.refuses(event) for event in message["events"]) else "OK"

    def _sync(self, message: Message) -> Message:
        epoch = self.epochs.get((message["agent_id"], message["epoch"]))
        used = Counter[str]()
        for event in self.events.values():
            begins_us = max((each["period_start_us"] or 0 for each in self.limits.values()), default=0)
            if event[4] >= begins_us:
                used[event[3]] += json.loads(event[5] or "{}").get("tokens", 0)
        subjects = {subject: self.subjects.get(subject, []) for subject in message["subjects"]}
        limits = [self.limits[each] for ids in subjects.values() for each in ids]
        leases = self.books.sync(message, self.generation) if self.books.concerns(message) else {}
        return {
            "status": "OK" if epoch else "UNKNOWN_EPOCH",
            "nonce": None,
            "generation": self.generation,
            "state_version": 1,
            "as_of_us": 1,
            "counted_batch_no": epoch.next_batch_no - 1 if epoch else 0,
            "next_sync_ms": 10,
            "grants": [],
            "recalls": [],
            "subjects": subjects,
            "limits": [limit | {"used": str(used[limit["customer"]])} for limit in limits],
            "sync_id": message["sync_id"],
        } | leases

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up = True
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = lines[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:]) if name}
        self.headers = headers
        self.traceparents += [headers["traceparent"]] if "traceparent" in headers else []
        body = await reader.readexactly(int(headers["content-length"]))
        body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        await self.held.wait()
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["sidemeter-protocol"] == "1"
        message = msgpack.unpackb(body)
        self.requests.append((path, message))
        self.bodies.append(body)
        is_sync = path.endswith("sync")
        fault = self.faults.popleft() if self.faults and not is_sync else 503 if is_sync and not self.counts else None
        if isinstance(fault, int):
            retry = f"Retry-After: {self.retry_after_s}\r\n" if self.retry_after_s is not None else ""
            writer.write(f"HTTP/1.1 {fault} Fault\r\n{retry}Content-Length: 0\r\n\r\n".encode())
            return True
        answer = fault if isinstance(fault, dict) else self.answer(path, message)
        if fault == "lose":
            return False
        if not self.answers_again:
            packed = msgpack.packb(answer)
            names = f"Sidemeter-Request: {headers['sidemeter-request']}\r\n" if self.names_requests else ""
            self._answered = f"HTTP/1.1 200 OK\r\n{names}Content-Length: {len(packed)}\r\n\r\n".encode() + packed
        writer.write(self._answered)
        return True


def _verdict(status: str, next_batch_no: int) -> Message:
    return {"status": status, "next_batch_no": next_batch_no, "reason": "poison" if status == "REFUSED" else None}
