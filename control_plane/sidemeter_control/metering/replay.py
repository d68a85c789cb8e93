"""Replaying dead letters: what could not be counted is read and counted anew, under the rules of now, and only once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.counting import count
from sidemeter_control.metering.events import BadEvent, Data, Event, parse_data, read_event
from sidemeter_control.metering.formats import Form, read_events
from sidemeter_control.metering.outside import note_outside
from sidemeter_control.metering.storing import Refusal, Rules, all_that_can, store
from sidemeter_control.metering.totals import fold_in
from sidemeter_control.store import dead_letters
from sidemeter_control.store.dead_letters import StoredDeadLetter

__all__ = ["MAX_REPLAYED", "replay"]

MAX_REPLAYED = 500
"""Letters in one call, which is one transaction: it keeps ingest waiting for some 50 ms."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A letter that can be read: the event it holds."""

    letter: StoredDeadLetter
    event: Event
    data: Data


async def replay(conn: AsyncConnection, rules: Rules, ids: Sequence[int], by: str) -> dict[int, Refusal]:
    """Count the events of those letters; answers, by place in `ids`, why some still cannot be.

    A letter of one meter is folded into that meter alone; any other is an event like one that arrives now: when it was
    stored meanwhile, it is counted already. A letter that is counted leaves the list, and says when and `by` whom; the
    others stay in it, with the reason of now. InvalidInput for more than MAX_REPLAYED, or one named twice.
    """
    if len(ids) > MAX_REPLAYED:
        raise InvalidInput("ids", f"must be at most {MAX_REPLAYED}")
    if len(set(ids)) < len(ids):
        raise InvalidInput("ids", "must not name a letter twice")
    letters = {each.id: each for each in await dead_letters.get(conn, ids)}
    refused = _not_waiting(ids, letters)
    readable: dict[int, _Read] = {}
    for place, id_ in enumerate(ids):
        if place not in refused:
            read = _read(letters[id_], rules)
            if isinstance(read, Refusal):
                refused[place] = read
            else:
                readable[place] = read
    still = {ids[place]: refusal for place, refusal in refused.items() if ids[place] in letters}
    for (meter_id, agent_id), places in _alike(readable).items():
        failed = await _count(conn, rules, meter_id, agent_id, [readable[place] for place in places])
        refused |= {places[index]: refusal for index, refusal in failed.items()}
        still |= {ids[places[index]]: refusal for index, refusal in failed.items()}
    await dead_letters.say_why(conn, {id_: (each.code, each.reason) for id_, each in still.items()})
    counted = [ids[place] for place in readable if place not in refused]
    await dead_letters.leave(conn, counted, rules.now_us, by)
    return refused


def _not_waiting(ids: Sequence[int], letters: dict[int, StoredDeadLetter]) -> dict[int, Refusal]:
    refused = {}
    for place, id_ in enumerate(ids):
        if id_ not in letters:
            refused[place] = Refusal("not_found", f"there is no dead letter {id_}")
        elif letters[id_].replayed_at_us is not None:
            refused[place] = Refusal("already_replayed", f"the dead letter {id_} was counted before")
    return refused


def _read(letter: StoredDeadLetter, rules: Rules) -> _Read | Refusal:
    """The letter's event, from the bytes it came in: JSON from callers and from us, else MessagePack from an agent."""
    try:
        if letter.raw[:1] != b"{" or len(letter.raw) == 1:  # alone, it is a number in MessagePack
            return _Read(letter, *read_event(letter.raw))
        found = read_events(Form.JSON, letter.raw, lambda: rules.new_id("event"), rules.now_us)
    except BadEvent as exc:
        return Refusal(exc.code, str(exc))
    if found.rejected:
        return Refusal(found.rejected[0].code, found.rejected[0].message)
    return _Read(letter, found.events[0], parse_data(found.events[0].data))


def _alike(readable: dict[int, _Read]) -> dict[tuple[int | None, str | None], list[int]]:
    """The places of letters by the meter they are of, and the agent that brought them."""
    places: defaultdict[tuple[int | None, str | None], list[int]] = defaultdict(list)
    for place, read in readable.items():
        places[read.letter.meter_id, read.letter.agent_id].append(place)
    return dict(places)


async def _count(
    conn: AsyncConnection, rules: Rules, meter_id: int | None, agent_id: str | None, some: Sequence[_Read]
) -> dict[int, Refusal]:
    """Count events of whole letters, or of one meter's; why some of them, by place, still cannot be."""
    events, data = [each.event for each in some], [each.data for each in some]
    if meter_id is None:
        return (await store(conn, rules, events, data, agent_id=agent_id)).refused
    readers = [each for each in rules.readers.get(events[0].type, ()) if each.meter.id == meter_id]
    counting = {events[0].type: readers}
    missed: dict[int, Refusal] = {}

    async def fold(part: Sequence[int]) -> None:
        places = {id(events[place]): place for place in part}
        those, theirs = [events[place] for place in part], [data[place] for place in part]
        for each in await fold_in(conn, counting, those, theirs):
            missed[places[id(each.event)]] = Refusal(each.code, each.reason)
        await note_outside(conn, counting, those, theirs, agent_id)

    def alone(place: int) -> None:
        count(counting, [events[place]], [data[place]])

    return missed | await all_that_can(conn, range(len(some)), fold, alone, rules.new_id)
