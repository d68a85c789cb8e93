"""Whatever sequence of messages arrives, ingest counts what a set would: sent, repeated, ahead, forked, overlapping."""

import asyncio
import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from fakes import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st
from planes import open_database

from sidemeter_control.metering import usage
from sidemeter_control.metering.batches import NO_DIGEST, Batch, BatchStatus
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.ingest import Hello, Ingest
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.metering.rollups import DAY_US

NOW_US = 1_767_225_600_000_000
METERS = (
    new_meter("calls", "call", Aggregation.COUNT, now_us=0),
    new_meter("units", "call", Aggregation.SUM, value_property="n", now_us=0),
)
AGENTS = ("a", "b")

numbers = st.lists(st.integers(1, 12), min_size=1, max_size=5)
agent = st.sampled_from(AGENTS)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("send"), agent, numbers),
        st.tuples(st.just("lost on the way"), agent, numbers),
        st.tuples(st.just("repeat"), agent, st.integers(0, 20)),
        st.tuples(st.just("twin"), agent, numbers),
        st.tuples(st.just("hello"), agent, st.none()),
        st.tuples(st.just("direct"), agent, numbers),
    ),
    max_size=25,
)


@dataclass
class Sender:
    """An agent as it believes itself to be: its epoch, the batches that it sealed, the number and digest to go on from."""

    agent_id: str
    hellos: int = 0
    epoch: int = 0
    batch_no: int = 1
    last: bytes = NO_DIGEST
    sent: list[Batch] = field(default_factory=list)

    def sealed(self, chosen: list[int]) -> Batch:
        elements = [[f"e{n}", "chat", "call", "acme", NOW_US, f'{{"n":{n}}}'] for n in chosen]
        body = msgspec.msgpack.encode(elements)
        digest = hashlib.sha256(self.last + body).digest()
        return Batch(self.agent_id, self.epoch, self.batch_no, self.last, digest, body)

    def keep(self, batch: Batch) -> None:
        self.sent.append(batch)
        self.batch_no, self.last = batch.batch_no + 1, batch.digest


class World:
    """The ingest under test, and beside it the model: a set of numbers, and how far each epoch's cursor has come."""

    def __init__(self, ingest: Ingest) -> None:
        self.ingest = ingest
        self.senders = {name: Sender(name) for name in AGENTS}
        self.counted: set[int] = set()
        self.taken: dict[tuple[str, int], list[bytes]] = {}

    async def make(self, move: str, name: str, argument: object) -> None:
        sender = self.senders[name]
        if move == "hello" or not sender.epoch:
            await self.hello(sender)
        if move == "send":
            batch = sender.sealed(argument)  # type: ignore[arg-type]
            sender.keep(batch)
            await self.batch(batch)
        elif move == "lost on the way":
            sender.keep(sender.sealed(argument))  # type: ignore[arg-type]
        elif move == "repeat" and sender.sent:
            await self.batch(sender.sent[argument % len(sender.sent)])  # type: ignore[operator]
        elif move == "twin":
            await self.batch(sender.sealed(argument))  # type: ignore[arg-type]
        elif move == "direct":
            await self.direct(argument)  # type: ignore[arg-type]

    async def hello(self, sender: Sender) -> None:
        sender.hellos += 1
        hello = Hello(sender.agent_id, f"h{sender.hellos}", "boot", "chat", "1")
        begun, again = await self.ingest.hello(hello), await self.ingest.hello(hello)
        assert begun.cursor == again.cursor
        assert (begun.cursor.epoch, begun.cursor.next_batch_no) == (sender.hellos, 1)
        sender.epoch, sender.batch_no, sender.last = begun.cursor.epoch, 1, NO_DIGEST
        self.taken[sender.agent_id, sender.epoch] = []

    async def batch(self, batch: Batch) -> None:
        digests = self.taken[batch.agent_id, batch.epoch]
        answer = await self.ingest.batch(batch)
        assert answer.status is self.expected(batch, digests)
        chosen = {int(element[0][1:]) for element in msgspec.msgpack.decode(batch.events)}
        if answer.status is BatchStatus.OK:
            assert answer.recorded.accepted == len(chosen - self.counted)
            self.counted |= chosen
            digests.append(batch.digest)
        assert answer.next_batch_no == len(digests) + 1

    @staticmethod
    def expected(batch: Batch, digests: list[bytes]) -> BatchStatus:
        place = batch.batch_no - 1
        if place > len(digests):
            return BatchStatus.GAP
        if place < len(digests):
            return BatchStatus.DUPLICATE if digests[place] == batch.digest else BatchStatus.FORK
        return BatchStatus.OK if batch.prev_digest == (digests[-1] if digests else NO_DIGEST) else BatchStatus.FORK

    async def direct(self, chosen: list[int]) -> None:
        events = [Event(f"e{n}", "chat", "call", "acme", NOW_US, f'{{"n":{n}}}') for n in chosen]
        recorded = await self.ingest.record(events)
        assert recorded.accepted == len(set(chosen) - self.counted)
        self.counted |= set(chosen)


@settings(deadline=None, max_examples=25)
@given(moves)
def test_usage_is_that_of_a_set_after_every_sequence_of_messages(sequence: list[tuple[str, str, object]]) -> None:
    asyncio.run(_play(sequence))


async def _play(sequence: list[tuple[str, str, object]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_database(Path(directory)) as database:
            meters = [await create_meter(database, meter) for meter in METERS]
            world = World(Ingest(database, ManualClock(NOW_US)))
            for move in sequence:
                await world.make(*move)
            async with database.read() as conn:
                found = await usage.quantities(conn, meters, ["acme"], 0, NOW_US + DAY_US)
            told = [int(each.value or 0) for each in found]
            assert told == [len(world.counted), sum(world.counted)]
