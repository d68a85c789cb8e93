"""Outcomes: what was used and is confirmed or reversed by a later event about the same thing. Pure rules, no I/O.

Every event that bears on it is a mention of the thing: a use that a meter counts, or an outcome. A use is settled by
the first outcome, by time, source and id, that is not earlier than the use and less than the window later.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, TypeAlias

import msgspec

from sidemeter_control.metering.events import Data, Event
from sidemeter_control.metering.meters import (
    NANO,
    Aggregation,
    Dimension,
    Meter,
    Progress,
    Reader,
    Uncountable,
    finder,
    property_text,
)
from sidemeter_control.metering.rollups import HOUR_US, Bucket, Rollup

__all__ = [
    "NOT_BEHIND",
    "Mention",
    "Mentions",
    "OutcomeReader",
    "OutcomeRule",
    "Readers",
    "State",
    "Thing",
    "difference",
    "group_of",
    "outcome_readers",
    "plus",
    "settled",
    "sort",
    "state_of",
]

_group = msgspec.json.Encoder().encode
_ungroup = msgspec.json.Decoder(list[str]).decode


class State(Enum):
    """What an event says of a thing: it was used, its use is confirmed, its use is reversed."""

    USED = "USED"
    CONFIRMED = "CONFIRMED"
    REVERSED = "REVERSED"


NOT_BEHIND = Progress()


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """Which events settle what a meter counts. `named_by` is the dotted path of what names the thing in all of them.

    `id` is the store's own small number, 0 of a rule that nothing is kept for; `progress` is as of a meter.
    """

    id: int
    meter: Meter
    confirm_type: str
    reverse_type: str
    window_us: int
    named_by: str
    progress: Progress = NOT_BEHIND

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the events that it reads."""
        return tuple(dict.fromkeys((self.meter.event_type, self.confirm_type, self.reverse_type)))

    @property
    def settled(self) -> Meter:
        """The meter under which the settled quantities are kept, with the state as its only dimension."""
        return replace(
            self.meter, id=-self.id, aggregation=Aggregation.SUM, dimensions=(Dimension("state", "state"),), filters=()
        )


class Thing(NamedTuple):
    """What mentions are about, within one rule."""

    subject: str
    rule_id: int
    name: str


class Mention(NamedTuple):
    """One event about a thing, in the order in which outcomes take effect; `nano` is the quantity of a use."""

    time_us: int
    source: str
    id: str
    state: str
    nano: int


Mentions = Mapping[Thing, frozenset[Mention]]
"""Everything that is known about things."""


class OutcomeReader:
    """A rule made ready to read events."""

    def __init__(self, rule: OutcomeRule) -> None:
        self.rule = rule
        self._uses = Reader(rule.meter)
        self._named = finder(rule.named_by)
        self._states = {
            rule.meter.event_type: State.USED,
            rule.confirm_type: State.CONFIRMED,
            rule.reverse_type: State.REVERSED,
        }

    def read(self, event: Event, data: Data) -> tuple[Thing, Mention] | None:
        """What the event says of which thing; None when it names none, or when the meter does not count it."""
        state, name = self._states[event.type], property_text(self._named(data))
        if name is None:
            return None
        nano = self._quantity(event, data) if state is State.USED else 0
        if nano is None:
            return None
        thing = Thing(event.subject, self.rule.id, name)
        return thing, Mention(event.time_us, event.source, event.id, state.value, nano)

    def _quantity(self, event: Event, data: Data) -> int | None:
        try:
            found = self._uses.read(data, event.time_us, event.source, event.id)
        except Uncountable:
            return None
        if found is None or not isinstance(found[1], int):
            return None
        return NANO if self.rule.meter.aggregation is Aggregation.COUNT else found[1]


Readers: TypeAlias = Mapping[str, Sequence[OutcomeReader]]
"""The rules that settle, by the type of event."""


def outcome_readers(rules: Iterable[OutcomeRule]) -> Readers:
    """The rules, made ready, by the types of events that they read."""
    by_type: defaultdict[str, list[OutcomeReader]] = defaultdict(list)
    for rule in rules:
        reader = OutcomeReader(rule)
        for type_ in rule.types:
            by_type[type_].append(reader)
    return dict(by_type)


def sort(readers: Readers, events: Iterable[tuple[Event, Data]]) -> dict[Thing, set[Mention]]:
    """What events say, by thing; `readers` by the type of event that they read."""
    found: defaultdict[Thing, set[Mention]] = defaultdict(set)
    for event, data in events:
        for reader in readers.get(event.type, ()):
            read = reader.read(event, data)
            if read is not None:
                found[read[0]].add(read[1])
    return found


def settled(mentions: Iterable[Mention], window_us: int) -> list[tuple[Mention, str]]:
    """The uses of one thing that are settled, each with the state that it came to.

    >>> use, undo = Mention(0, "s", "1", "USED", 7), Mention(5, "s", "2", "REVERSED", 0)
    >>> settled([undo, use], window_us=6), settled([undo, use], window_us=5)
    ([(Mention(time_us=0, source='s', id='1', state='USED', nano=7), 'REVERSED')], [])
    """
    found: list[tuple[Mention, str]] = []
    uses: list[Mention] = []
    for mention in sorted(mentions, key=lambda each: (each.time_us, each.state != State.USED.value, *each)):
        if mention.state == State.USED.value:
            uses.append(mention)
        else:
            found += [(use, mention.state) for use in uses if mention.time_us < use.time_us + window_us]
            uses.clear()
    return found


def difference(rule: OutcomeRule, before: Mentions, after: Mentions) -> dict[Bucket, Rollup]:
    """What has to be added to the rule's rollups, by the hour of the use, when things change from one to the other."""
    changes: dict[Bucket, Rollup] = {}
    for sign, mentions in ((-1, before), (1, after)):
        for thing, known in mentions.items():
            for use, state in settled(known, rule.window_us):
                bucket = Bucket(thing.subject, -rule.id, 3600, use.time_us - use.time_us % HOUR_US, group_of(state))
                added = Rollup(sign, sum=sign * use.nano)
                changes[bucket] = plus(changes.get(bucket, Rollup(0)), added)
    return {bucket: rollup for bucket, rollup in changes.items() if rollup.events or rollup.sum}


def group_of(state: str) -> str:
    """Where quantities of that state are kept, as the group of a rollup."""
    return _group([state]).decode()


def state_of(group: str) -> str:
    """The inverse of `group_of`."""
    return _ungroup(group)[0]


def plus(one: Rollup, other: Rollup) -> Rollup:
    """The sums of both, one of which may take away what the other has."""
    return Rollup(one.events + other.events, sum=(one.sum or 0) + (other.sum or 0))
