"""Between the two programs, which share no types: what one says, as the other reads it. And a network that loses and
repeats it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from sidemeter.holder import LeaseAnswer, LeaseGrant, LeaseSync
from sidemeter_control.limits.leases import Granted, Key, Report, Sync, Taken

from ..simulation.world import World

__all__ = [
    "Asked",
    "Batch",
    "Hello",
    "HelloAnswer",
    "Informed",
    "Network",
    "Row",
    "Said",
    "Storm",
    "as_answer",
    "as_sync",
]

TYPICAL_S: Final = 0.004
MAX_RECORDED: Final = 20


class Hello(NamedTuple):
    """A holder introduces itself; `previous_epoch` is what it remembers of the agent's last one."""

    agent_id: str
    hello_id: str
    previous_epoch: int


class HelloAnswer(NamedTuple):
    """Its epoch, which period of each limit counts now, and the price cap of each limit in money."""

    hello_id: str
    epoch: int
    periods: dict[str, int]
    caps: dict[str, int]


class Row(NamedTuple):
    """An event, as an agent's database keeps it: by limit in money, what was debited for it, and what it costs in truth.

    `hello_id` is that of the holder whose leases were debited.
    """

    id: str
    hello_id: str
    debits: tuple[tuple[Key, int], ...]
    costs: tuple[tuple[Key, int], ...]


class Batch(NamedTuple):
    """Events to be counted; nobody waits for an answer."""

    rows: tuple[Row, ...]


class Asked(NamedTuple):
    """A sync, from a database with these events: the answer says how many of the first of them are counted."""

    message: LeaseSync
    rows: tuple[Row, ...]


class Informed(NamedTuple):
    """The answer: all events up to `last_id`, the `counted`-th, are on the bill by then; and the price caps."""

    answer: LeaseAnswer
    counted: int
    last_id: str
    caps: dict[str, int]


Said = Hello | Batch | Asked
Answered = HelloAnswer | Informed | None


def as_sync(message: LeaseSync) -> Sync:
    """What the control plane reads."""
    return Sync(
        (message.agent_id, message.hello_id),
        message.epoch,
        message.sync_id,
        message.nonce,
        message.generation,
        message.state_version,
        tuple(Report(*msgspec.structs.astuple(each)) for each in message.leases),
        message.complete,
    )


def as_answer(taken: Taken, message: LeaseSync, generation: str, state_version: int) -> LeaseAnswer:
    """What the agent reads."""
    return LeaseAnswer(
        taken.status,
        message.sync_id,
        taken.nonces.current,
        generation,
        state_version,
        tuple(LeaseGrant(*_fields_of(each)) for each in taken.grants),
        taken.next_sync_ms,
    )


_fields_of: Final = attrgetter(*(each.name for each in dataclasses.fields(Granted)))


@dataclass(slots=True)
class Storm:
    """How often what goes wrong on the way does, for each message that it could happen to."""

    lost: float = 0.0
    answer_lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    repeated: float = 0.0


class Network:
    """Carries messages to `serve`, and answers back. `cut_there` and `cut_back` name the machines whose vanish."""

    def __init__(self, world: World, storm: Storm) -> None:
        self.world = world
        self.storm = storm
        self.serve: Callable[[Said], Answered] = lambda message: None
        self.cut_there: set[str] = set()
        self.cut_back: set[str] = set()
        self._recorded: list[tuple[Said, str, Callable[[Answered], None]]] = []

    def send(self, name: str, message: Said, reply: Callable[[Answered], None]) -> None:
        """Send a message from the machine `name`; `reply` may be called never, once, or more often."""
        world, storm = self.world, self.storm
        if name in self.cut_there:
            world.fault("message into a partition", name)
            return
        if world.strikes("message lost", storm.lost, name):
            return
        if len(self._recorded) < MAX_RECORDED:
            self._recorded.append((message, name, reply))
        elif world.chance(0.1):
            self._recorded[int(world.rng.random() * MAX_RECORDED)] = (message, name, reply)
        self._deliver(name, message, reply)
        if world.strikes("message doubled", storm.doubled, name):
            self._deliver(name, message, reply)
        if world.strikes("old message repeated", storm.repeated, name):
            old, its_name, its_reply = world.rng.choice(self._recorded)
            self._deliver(its_name, old, its_reply)

    def _deliver(self, name: str, message: Said, reply: Callable[[Answered], None]) -> None:
        self.world.later(self._delay_s(name), lambda: self._arrive(name, message, reply))

    def _arrive(self, name: str, message: Said, reply: Callable[[Answered], None]) -> None:
        answer = self.serve(message)
        if answer is None:
            return
        if name in self.cut_back:
            self.world.fault("answer into a partition", name)
        elif not self.world.strikes("answer lost", self.storm.answer_lost, name):
            self.world.later(self._delay_s(name), lambda: reply(answer))

    def _delay_s(self, name: str) -> float:
        if self.world.strikes("message late", self.storm.late, name):
            return self.world.rng.uniform(0.2, 6.0)
        return self.world.rng.expovariate(1 / TYPICAL_S)
