"""Ingest: every event counted exactly once, in one transaction with the cursor, the dedupe and the rollups (P4, P5)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.metering import holders
from sidemeter_control.metering.batches import Batch, BatchStatus, Cursor, decide
from sidemeter_control.metering.counting import Readers, readers
from sidemeter_control.metering.events import Arrived, BadEvent, Event, array_length, json_of, parse_data, read_array
from sidemeter_control.metering.identity import Counted, decide_hello, lacks, was_rolled_back
from sidemeter_control.metering.meters import Meter, Reader
from sidemeter_control.metering.outcomes import Readers as OutcomeReaders
from sidemeter_control.metering.outcomes import outcome_readers
from sidemeter_control.metering.pacing import MAX_BATCH_EVENTS
from sidemeter_control.metering.replay import replay
from sidemeter_control.metering.rollbacks import Rollbacks
from sidemeter_control.metering.storing import Refusal, Rules, store
from sidemeter_control.store import agents, audit, dead_letters, losses, meters, outcomes, state
from sidemeter_control.store.agents import Agent
from sidemeter_control.store.database import Database
from sidemeter_control.store.dead_letters import DeadLetter
from sidemeter_control.store.losses import LossDeclaration
from sidemeter_control.traces import NO_TRACES, Traces

__all__ = ["BatchAnswer", "Begun", "Hello", "Ingest", "Loss", "Recorded"]

_REASONS = {
    BatchStatus.UNKNOWN_EPOCH: "this database never gave out that epoch: say hello",
    BatchStatus.DAMAGED: "the digest does not match the bytes of the events: send them again",
    BatchStatus.GAP: "batches before this one have not arrived",
    BatchStatus.FORK: "the epoch went on differently from here: say hello anew",
}


class Loss(NamedTuple):
    """What an agent declares as lost: rows of its buffer, by their numbers; None where it is not known how far."""

    id: str
    first_row: int
    last_row: int | None
    events: int | None
    reason: str
    noticed_at_us: int


@dataclass(frozen=True, slots=True)
class Hello:
    """An agent that starts, or has losses to declare. The same `hello_id` always gets the same epoch.

    `previous_epoch` and `generation` are what it heard last, `counted` is the last batch it knows to be counted, if any.
    """

    agent_id: str
    hello_id: str
    boot_id: str
    service: str
    version: str
    previous_epoch: int | None = None
    generation: str | None = None
    losses: Sequence[Loss] = ()
    counted: Counted | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the agent goes on, which copy of the database said so, and the ids of the losses that are stored."""

    cursor: Cursor
    generation: str
    losses_stored: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of events: stored and counted, already stored before, or kept as dead letters."""

    accepted: int = 0
    duplicates: int = 0
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What became of a batch. `recorded` is all zero unless it is counted now."""

    status: BatchStatus
    next_batch_no: int
    reason: str | None = None
    recorded: Recorded = Recorded()


class Ingest:
    """Takes events from agents and from callers without one.

    `max_future_s`: an event whose time is further ahead of the clock than that becomes a dead letter.
    `reader`: what a meter reads events with.
    `events` and `batches` count what became of them since the start.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        max_future_s: int = 3600,
        *,
        reader: Callable[[Meter], Reader] = Reader,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._database = database
        self._clock = clock
        self._max_future_us = max_future_s * 1_000_000
        self._reader = reader
        self._traces = traces
        self._readers: tuple[state.State | None, tuple[Readers, OutcomeReaders]] = (None, ({}, {}))
        self.rollbacks = Rollbacks(clock, database.witness)
        self.events: Counter[str] = Counter(accepted=0, duplicate=0, dead_letter=0, replayed=0)
        self.batches: Counter[BatchStatus] = Counter(dict.fromkeys(BatchStatus, 0))

    async def hello(self, hello: Hello) -> Begun:
        """The epoch of this hello, new or as it was given before; what it declares as lost is stored."""
        now_us = self._clock.now_us()
        async with self._database.write() as conn:
            generation = (await state.get(conn)).generation
            given = await agents.cursor_of_hello(conn, hello.agent_id, hello.hello_id)
            known = await agents.get(conn, hello.agent_id)
            decided = decide_hello(
                given,
                None if known is None else known.epoch,
                previous_epoch=hello.previous_epoch,
                generation=hello.generation,
                current=generation,
                lacking=await _lacks(conn, hello.counted, generation),
            )
            if decided.rolled_back:
                generation = await self.rollbacks.notice(conn, hello.agent_id)
            cursor = given or Cursor(hello.agent_id, decided.epoch)
            if decided.begins:
                await agents.put(conn, _agent(hello, cursor.epoch, now_us))
                await agents.add_epoch(conn, cursor, hello.hello_id, hello.boot_id, now_us)
                await holders.joined(conn, (hello.agent_id, hello.hello_id), cursor.epoch)
            if hello.losses:
                declared = [_declaration(hello.agent_id, cursor.epoch, each, now_us) for each in hello.losses]
                await losses.add(conn, declared)
                await state.losses_stored(conn)
            said = await holders.witnessed(conn, self._database.witness)
        await self._database.witness.keep(said)
        return Begun(cursor, generation, [each.id for each in hello.losses])

    async def batch(
        self, batch: Batch, *, backlog: int = 0, oldest_pending_us: int | None = None, generation: str | None = None
    ) -> BatchAnswer:
        """Count the batch if it is the one its epoch's cursor expects; else say what it is.

        An epoch that is no longer the agent's newest is taken as well, at its own cursor: facts are never dropped.
        `generation` is the one that the agent heard of last.
        """
        about: dict[str, str | int] = {"agent_id": batch.agent_id, "epoch": batch.epoch, "batch_no": batch.batch_no}
        with self._traces.ingesting(array_length(batch.events[:5]), about):
            answer = await self._answer(batch, backlog, oldest_pending_us, generation)
        self.batches[answer.status] += 1
        self._noted(answer.recorded)
        return answer

    async def _answer(
        self, batch: Batch, backlog: int, oldest_pending_us: int | None, generation: str | None
    ) -> BatchAnswer:
        now_us = self._clock.now_us()
        arrived = _read(batch)
        async with self._database.write() as conn:
            cursor = await agents.cursor(conn, batch.agent_id, batch.epoch)
            counted = await agents.digest_of(conn, batch.agent_id, batch.epoch, batch.batch_no)
            status = decide(cursor, batch, counted)
            expected = 1 if cursor is None else cursor.next_batch_no
            if was_rolled_back(status, generation, (await state.get(conn)).generation):
                await self.rollbacks.notice(conn, batch.agent_id)
            if status is BatchStatus.OK and isinstance(arrived, BadEvent):
                return BatchAnswer(BatchStatus.REFUSED, expected, str(arrived))
            if status is not BatchStatus.OK or isinstance(arrived, BadEvent):
                return BatchAnswer(status, expected, _REASONS.get(status))
            recorded = await self._record(conn, arrived, now_us, batch)
            await agents.advance(conn, batch, len(arrived.events) + len(arrived.unreadable), now_us)
            await agents.report(
                conn, batch.agent_id, backlog=backlog, oldest_pending_us=oldest_pending_us, now_us=now_us
            )
        return BatchAnswer(BatchStatus.OK, batch.batch_no + 1, None, recorded)

    async def record(self, checked: Sequence[Event]) -> Recorded:
        """Count events that came straight from a caller; they are durable when this returns."""
        arrived = Arrived(list(checked), [parse_data(event.data) for event in checked], [])
        with self._traces.ingesting(len(checked), {}):
            async with self._database.write() as conn:
                recorded = await self._record(conn, arrived, self._clock.now_us(), None)
        self._noted(recorded)
        return recorded

    async def replay(self, ids: Sequence[int], by: str) -> dict[int, Refusal]:
        """Count dead letters anew, in one transaction; see `replay.replay`. `by`: the id of the key that asks."""
        async with self._database.write() as conn:
            now_us = self._clock.now_us()
            refused = await replay(conn, await self._rules(conn, now_us), ids, by)
            counted = [id_ for place, id_ in enumerate(ids) if place not in refused]
            if counted:
                await audit.add(conn, now_us, by, "replayDeadLetters", "dead letters", replayed=counted)
        self.events["replayed"] += len(ids) - len(refused)
        return refused

    def _noted(self, recorded: Recorded) -> None:
        self.events["accepted"] += recorded.accepted
        self.events["duplicate"] += recorded.duplicates
        self.events["dead_letter"] += recorded.dead_letters

    async def _record(self, conn: AsyncConnection, arrived: Arrived, now_us: int, batch: Batch | None) -> Recorded:
        rules = await self._rules(conn, now_us)
        agent_id = None if batch is None else batch.agent_id
        with self._traces.rolling_up(len(arrived.events)):
            stored = await store(conn, rules, arrived.events, arrived.data, batch=batch, agent_id=agent_id)
        letters = [
            DeadLetter.of(each.error.code, str(each.error), each.raw, now_us, batch) for each in arrived.unreadable
        ]
        letters += [
            DeadLetter.of(refusal.code, refusal.reason, json_of(arrived.events[place]), now_us, batch)
            for place, refusal in stored.refused.items()
        ]
        await dead_letters.add(conn, letters)
        duplicates = len(arrived.events) - len(stored.new) - len(stored.refused)
        return Recorded(len(stored.new), duplicates, len(letters))

    async def _rules(self, conn: AsyncConnection, now_us: int) -> Rules:
        counting, settling = await self._current_readers(conn)
        closed_until_us = (await state.get(conn)).closed_until_us
        return Rules(counting, now_us, self._max_future_us, self._clock.new_id, closed_until_us, settling)

    async def _current_readers(self, conn: AsyncConnection) -> tuple[Readers, OutcomeReaders]:
        """The meters and outcome rules as this transaction sees them; read anew only when the configuration has changed."""
        now = await state.get(conn)
        if self._readers[0] != now:
            known = {each.key: each for each in await meters.list_all(conn, archived=True)}
            settling = outcome_readers(await outcomes.rules(conn, known))
            self._readers = now, (readers(await meters.counting(conn), self._reader), settling)
        return self._readers[1]


async def _lacks(conn: AsyncConnection, counted: Counted | None, generation: str) -> bool:
    if counted is None:
        return False
    return lacks(counted, await agents.digest_of(conn, counted.agent_id, counted.epoch, counted.batch_no), generation)


def _read(batch: Batch) -> Arrived | BadEvent:
    if array_length(batch.events[:5]) > MAX_BATCH_EVENTS:
        return BadEvent("events", f"must be at most {MAX_BATCH_EVENTS}", "too_many")
    try:
        return read_array(batch.events)
    except BadEvent as exc:
        return exc


def _agent(hello: Hello, epoch: int, now_us: int) -> Agent:
    return Agent(
        agent_id=hello.agent_id, service=hello.service, version=hello.version, epoch=epoch, last_seen_us=now_us
    )


def _declaration(agent_id: str, epoch: int, loss: Loss, now_us: int) -> LossDeclaration:
    return LossDeclaration(agent_id=agent_id, epoch=epoch, received_at_us=now_us, **loss._asdict())
