"""The control plane of the simulation: the real messages, the real rules, over a store of one transaction at a time."""

import copy
import gzip
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Final

import msgspec

from sidemeter.events import Event as AgentEvent
from sidemeter.events import decode
from sidemeter.uplink import Answer
from sidemeter_control.api.agent_messages import (
    BatchMessage,
    BatchReply,
    CountedMessage,
    HelloMessage,
    HelloReply,
    LossMessage,
)
from sidemeter_control.limits.sync import SyncAnswer, SyncQuestion
from sidemeter_control.metering.batches import Batch, BatchStatus, Cursor, decide
from sidemeter_control.metering.counting import count, readers
from sidemeter_control.metering.events import Arrived, BadEvent, Event, read_array
from sidemeter_control.metering.identity import (
    NO_NONCES,
    Claim,
    Counted,
    Nonces,
    SyncStatus,
    decide_hello,
    decide_sync,
    lacks,
    was_rolled_back,
)
from sidemeter_control.metering.meters import Aggregation, Meter
from sidemeter_control.metering.pacing import Arrival, Entry, Pacer
from sidemeter_control.metering.rollups import EMPTY, Bucket, Rollup, merge

from .network import Request
from .oracle import CALL, ODD, POISON, Key, Oracle
from .world import World

__all__ = ["Books", "Plane", "Strain"]

_MAX_FUTURE_US: Final = 3_600_000_000
_SYNC_MS: Final = 3000
_STATE_VERSION: Final = 1
_COUNT: Final = Meter(1, "calls", None, CALL, Aggregation.COUNT, None, None, (), (), None, 0)
_SUM: Final = Meter(2, "units", None, CALL, Aggregation.SUM, "n", None, (), (), None, 0)
_READERS: Final = readers([_COUNT, _SUM])

Stored = tuple[str, str, str, str, int, str]


@dataclass(slots=True)
class Strain:
    """How often what goes wrong at the control plane does, for each request."""

    slow: float = 0.0
    crash_before: float = 0.0
    crash_after: float = 0.0


@dataclass(slots=True)
class Books:
    """Everything that the control plane's database holds."""

    generation: str
    events: dict[Key, Stored] = field(default_factory=dict)
    letters: dict[Key, Stored] = field(default_factory=dict)
    rollups: dict[Bucket, Rollup] = field(default_factory=dict)
    cursors: dict[tuple[str, int], Cursor] = field(default_factory=dict)
    hellos: dict[tuple[str, str], int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    digests: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    nonces: dict[tuple[str, int], Nonces] = field(default_factory=dict)
    losses: dict[tuple[str, str], LossMessage] = field(default_factory=dict)

    def copy(self) -> "Books":
        """The same, for a transaction to change."""
        other = copy.copy(self)
        for name in _TABLES:
            setattr(other, name, getattr(self, name).copy())
        return other

    def has(self, key: Key) -> bool:
        """Whether it holds that event, counted or as a dead letter."""
        return key in self.events or key in self.letters

    def totals(self) -> tuple[int, int]:
        """What the meters say: events, and the sum in nano-units."""
        events = total = 0
        for bucket, rollup in self.rollups.items():
            if bucket.meter_id == _COUNT.id:
                events += rollup.events
            else:
                total += rollup.sum or 0
        return events, total


_TABLES: Final = tuple(each.name for each in fields(Books) if each.name != "generation")


class Plane:
    """Serves requests one transaction at a time. It may crash before or after a commit, and come back as it was.

    Not every one `takes_letters`, which bring a refused event unread: an older one does not.
    """

    def __init__(self, world: World, oracle: Oracle, strain: Strain, wall_us: Callable[[], int]) -> None:
        self.world = world
        self.oracle = oracle
        self.strain = strain
        self.books = Books(self._new_generation())
        self.takes_letters = world.rng.random() < 0.7
        self.up = True
        self._pace = world.rng.choice((10, 200, 60_000)), world.rng.choice((1, 8, 64))
        self.pacer = self._new_pacer()
        self._admitted: deque[tuple[float, int]] = deque()
        self._life = 0
        self._wall_us = wall_us

    # Its life

    def crash(self) -> None:
        """Stop at once. What was committed stays; requests under way get no answer."""
        self.up = False
        self._life += 1

    def start(self) -> None:
        """Go on from what was committed."""
        if not self.up:
            self.up = True
            self.pacer = self._new_pacer()
            self._admitted.clear()

    def restore(self, books: Books | None, *, by_hand: bool = False) -> None:
        """Become an older copy of itself, or an empty database; under a new generation, unless files were put back `by_hand`."""
        before, self.books = self.books, Books(self._new_generation()) if books is None else books.copy()
        if not by_hand:
            self.books.generation = self._new_generation()
        self.oracle.rolled_back(before)

    def serve(self, request: Request, reply: Callable[[Answer | None], None]) -> None:
        """Work on a request for a while, then answer it."""
        if not self.up:
            self.world.later(0.001, lambda: reply(None))
            return
        entry = self._let_in(request)
        if not entry.admitted:
            self.world.fault(
                "batch sent away by the pacer", request.headers["Sidemeter-Agent"][:6], round(entry.wait_s, 3)
            )
            headers = {
                "retry-after": str(math.ceil(entry.wait_s)),
                "sidemeter-wait-ms": str(math.ceil(1000 * entry.wait_s)),
            }
            self.world.later(0.001, lambda: reply(Answer(503 if entry.busy else 429, headers, b"")))
            return
        work_s = self.world.rng.expovariate(500.0)
        if self.world.strikes("slow answer", self.strain.slow, request.path):
            work_s = self.world.rng.uniform(0.5, 20.0)
        life = self._life
        self.world.later(work_s, lambda: self._work(request, reply, life, entry))

    def _let_in(self, request: Request) -> Entry:
        """Whether it is this batch's turn, by what its headers say; the announced rate is never exceeded."""
        if request.path != "/agent/v1/batch":
            return Entry()
        events, waiting = int(request.headers["Sidemeter-Events"]), int(request.headers["Sidemeter-Waiting"])
        entry = self.pacer.admit(Arrival(request.headers["Sidemeter-Agent"], events, waiting), self.world.now_s)
        if entry.admitted:
            while self._admitted and self._admitted[0][0] <= self.world.now_s - 1.0:
                self._admitted.popleft()
            self._admitted.append((self.world.now_s, events))
            together, rate = sum(each for _, each in self._admitted), self.pacer.rate_events_per_s
            if together > rate and len(self._admitted) > 1:
                self.world.violated(f"{together} events were let in within a second, the rate is {rate}")
        return entry

    def _work(self, request: Request, reply: Callable[[Answer | None], None], life: int, entry: Entry) -> None:
        world = self.world
        if life == self._life and request.path == "/agent/v1/batch":
            self.pacer.finish(entry, self.world.now_s)
        if life != self._life:
            reply(None)
            return
        if world.strikes("control plane crashes before its commit", self.strain.crash_before):
            self._crash_and_return()
            reply(None)
            return
        answer = self._answer(request)
        if world.strikes("control plane crashes after its commit", self.strain.crash_after):
            self._crash_and_return()
            reply(None)
            return
        reply(answer)

    def _crash_and_return(self) -> None:
        self.crash()
        self.world.later(self.world.rng.uniform(0.1, 10.0), self.start)

    # What it answers

    def _answer(self, request: Request) -> Answer:
        body = gzip.decompress(request.body) if request.headers.get("Content-Encoding") == "gzip" else request.body
        match request.path:
            case "/agent/v1/hello":
                said: Any = self.hello(_HELLO(body))
            case "/agent/v1/batch":
                said = self.batch(_BATCH(body))
            case _:
                said = self.sync(_SYNC(body))
        return Answer(200, {"sidemeter-request": request.headers["Sidemeter-Request"]}, _encode(said))

    @contextmanager
    def transaction(self) -> Iterator[Books]:
        """All or nothing."""
        books = self.books.copy()
        yield books
        new = books.events.keys() - self.books.events.keys()
        self.books = books
        if new:
            self.oracle.counted(books, sorted(new))

    def hello(self, message: HelloMessage) -> HelloReply:
        """The epoch of this hello."""
        agent_id = message.agent_id
        with self.transaction() as books:
            given = books.hellos.get((agent_id, message.hello_id))
            decided = decide_hello(
                None if given is None else books.cursors[agent_id, given],
                books.newest.get(agent_id),
                previous_epoch=message.previous_epoch,
                generation=message.generation,
                current=books.generation,
                lacking=_lacks(books, message.counted),
            )
            if decided.rolled_back:
                self._notice_rollback(books)
            if decided.begins:
                books.newest[agent_id] = books.hellos[agent_id, message.hello_id] = decided.epoch
                books.cursors[agent_id, decided.epoch] = Cursor(agent_id, decided.epoch)
                books.nonces[agent_id, decided.epoch] = NO_NONCES
            for loss in message.losses:
                books.losses.setdefault((agent_id, loss.id), loss)
            cursor = books.cursors[agent_id, decided.epoch]
        stored = [loss.id for loss in message.losses]
        self.world.note("hello", agent_id[:6], "epoch", decided.epoch, "next", cursor.next_batch_no, *stored)
        pace = self.pacer.rate_events_per_s, self.pacer.max_batch_events
        return HelloReply(decided.epoch, cursor.next_batch_no, books.generation, _SYNC_MS, stored, *pace)

    def batch(self, message: BatchMessage) -> BatchReply:
        """Count the batch, if it is the one its cursor expects."""
        batch = Batch(
            message.agent_id,
            message.epoch,
            message.batch_no,
            message.prev_digest,
            message.digest,
            bytes(message.events),
        )
        arrived = _read(batch)
        with self.transaction() as books:
            cursor = books.cursors.get((batch.agent_id, batch.epoch))
            status = decide(cursor, batch, books.digests.get((batch.agent_id, batch.epoch, batch.batch_no)))
            before = len(books.events)
            if was_rolled_back(status, message.generation, books.generation):
                self._notice_rollback(books)
            if status is BatchStatus.OK and (arrived is None or self.refuses(arrived)):
                status = BatchStatus.REFUSED
            if status is BatchStatus.OK and arrived is not None:
                self.count(books, arrived)
                cursor = self.advance(books, batch)
        self.world.note(
            "batch", message.agent_id[:6], batch.epoch, batch.batch_no, status.value, len(books.events) - before, "new"
        )
        if arrived is not None and status in {BatchStatus.OK, BatchStatus.DUPLICATE}:
            letters = [decode(each.raw) for each in arrived.unreadable]
            self.oracle.settled(
                self.books, [(str(event.source), str(event.id)) for event in [*arrived.events, *letters]]
            )
        expected = 1 if cursor is None else cursor.next_batch_no
        wait_ms = math.ceil(1000 * self.pacer.next_wait_s(batch.agent_id, message.backlog, self.world.now_s))
        return BatchReply(
            status.value, expected, f"simulated {status.value}", len(books.events) - before, 0, 0, wait_ms
        )

    def refuses(self, arrived: Arrived) -> bool:
        """Whether it takes nothing of a batch because of one event in it."""
        if arrived.unreadable and not self.takes_letters:
            self.world.fault("letter refused")
            return True
        return any(event.type == POISON for event in arrived.events)

    def count(self, books: Books, arrived: Arrived) -> None:
        """Store what is new, add it up, and keep what cannot be read as dead letters."""
        latest_us = self._wall_us() + _MAX_FUTURE_US
        new: list[Event] = []
        for each in arrived.unreadable:
            letter = decode(each.raw)
            books.letters[str(letter.source), str(letter.id)] = _stored(letter)
        for event in arrived.events:
            key = (event.source, event.id)
            if event.type == ODD or event.time_us > latest_us:
                books.letters[key] = _stored(event)
            elif key not in books.events:
                books.events[key] = _stored(event)
                new.append(event)
        for bucket, rollup in count(_READERS, new).hours.items():
            books.rollups[bucket] = merge(books.rollups.get(bucket, EMPTY), rollup)

    def advance(self, books: Books, batch: Batch) -> Cursor:
        """Past this batch, in the same transaction."""
        cursor = Cursor(batch.agent_id, batch.epoch, batch.batch_no + 1, batch.digest)
        books.cursors[batch.agent_id, batch.epoch] = cursor
        books.digests[batch.agent_id, batch.epoch, batch.batch_no] = batch.digest
        return cursor

    def sync(self, question: SyncQuestion) -> SyncAnswer:
        """How far this epoch is counted, for the one process that lives in it."""
        which, seen = (question.agent_id, question.epoch), question.seen
        claim = Claim(
            question.epoch,
            question.nonce,
            question.sync_id,
            None if seen is None else seen.generation,
            None if seen is None else seen.state_version,
            question.settled_batch_no,
        )
        with self.transaction() as books:
            newest, held = books.newest.get(question.agent_id), books.nonces.get(which)
            cursor = books.cursors.get(which)
            decided = decide_sync(
                newest,
                held,
                claim,
                generation=books.generation,
                state_version=_STATE_VERSION + len(books.losses),
                counted_batch_no=0 if cursor is None else cursor.next_batch_no - 1,
            )
            if decided.rolled_back:
                self._notice_rollback(books)
            if decided.status is SyncStatus.OK:
                books.nonces[which] = decided.nonces
        self.world.note("sync", question.agent_id[:6], question.epoch, decided.status.value)
        answer = SyncAnswer(
            status=decided.status,
            nonce=question.nonce if question.sync_id is None else decided.nonces.current,
            generation=books.generation,
            state_version=_STATE_VERSION + len(books.losses),
            as_of_us=self._wall_us(),
            counted_batch_no=0,
            next_sync_ms=_SYNC_MS,
        )
        if decided.status is not SyncStatus.OK:
            return answer
        subjects = dict.fromkeys(question.subjects, ())
        return msgspec.structs.replace(
            answer, counted_batch_no=books.cursors[which].next_batch_no - 1, subjects=subjects
        )

    def _notice_rollback(self, books: Books) -> None:
        """A message shows that this is an older copy, which nobody said: from now on it is a generation of its own."""
        self.world.fault("rollback noticed by what an agent said")
        books.generation = self._new_generation()

    def _new_pacer(self) -> Pacer:
        rate, batches = self._pace
        return Pacer(rate_events_per_s=rate, max_batches=batches)

    def _new_generation(self) -> str:
        return f"g{self.world.rng.getrandbits(32):08x}"


_HELLO: Final = msgspec.msgpack.Decoder(HelloMessage).decode
_BATCH: Final = msgspec.msgpack.Decoder(BatchMessage).decode
_SYNC: Final = msgspec.msgpack.Decoder(SyncQuestion).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def _read(batch: Batch) -> Arrived | None:
    try:
        return read_array(batch.events)
    except BadEvent:
        return None


def _lacks(books: Books, said: CountedMessage | None) -> bool:
    if said is None:
        return False
    counted = Counted(*msgspec.structs.astuple(said))
    return lacks(counted, books.digests.get((said.agent_id, said.epoch, said.batch_no)), books.generation)


def _stored(event: Event | AgentEvent) -> Stored:
    return (event.id or "", event.source or "", event.type, event.subject, event.time_us or 0, event.data or "")
