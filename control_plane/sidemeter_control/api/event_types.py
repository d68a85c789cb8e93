"""Events, as GraphQL shows and takes them, and the way from a cost line back to them."""

import re
from collections.abc import Sequence
from typing import Self

import msgspec
import strawberry

from sidemeter_control.api.bounds import page_size
from sidemeter_control.api.context import Info
from sidemeter_control.api.pages import Connection, PageInfo, connection, cursor_of, numbers
from sidemeter_control.api.scalars import Instant, Json, json_text
from sidemeter_control.clock import Clock
from sidemeter_control.metering import events
from sidemeter_control.metering.corrections import CorrectionKind
from sidemeter_control.metering.explain import counted_events
from sidemeter_control.pricing.bills import EventsBehind
from sidemeter_control.store.events import Position, StoredEvent

__all__ = [
    "Correction",
    "Event",
    "EventInput",
    "IngestResult",
    "Rejection",
    "ReplayResult",
    "data_text",
    "event_place",
    "event_position",
    "explained",
    "letter_number",
    "read_events",
]


_LETTER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


strawberry.enum(CorrectionKind)


@strawberry.type
class Correction:
    """What was said of an event later: that it is void, or what it says instead."""

    kind: CorrectionKind
    reason: str
    at: Instant
    actor: strawberry.ID = strawberry.field(description="The id of the key that it was said with.")


@strawberry.type
class Event:
    """One fact about one subject, as it counts now: with the data of its last correction, if there is any."""

    id: str
    source: str
    type: str
    subject: str
    time: Instant
    received_at: Instant
    data: Json
    voided: bool = strawberry.field(description="It counts nowhere.")
    seq: strawberry.Private[int]

    @classmethod
    def of(cls, event: StoredEvent) -> Self:
        """The noun in its GraphQL form. Data goes out as it came in, digit for digit."""
        return cls(
            id=event.id,
            source=event.source,
            type=event.type,
            subject=event.subject,
            time=Instant(event.time_us),
            received_at=Instant(event.received_at_us),
            data=Json({} if event.data is None else msgspec.Raw(event.data.encode())),
            voided=event.voided,
            seq=event.seq,
        )

    @strawberry.field
    async def customer(self, info: Info) -> strawberry.ID | None:
        """Whose usage it is now; null when the subject is nobody's."""
        owner = await info.context.loaders.owner.load(self.subject)
        return None if owner is None else strawberry.ID(owner)

    @strawberry.field
    async def corrections(self, info: Info) -> list[Correction]:
        """What was said of it later, the oldest first."""
        found = await info.context.loaders.corrections.load((self.subject, self.seq))
        return [
            Correction(kind=each.kind, reason=each.reason, at=Instant(each.at_us), actor=strawberry.ID(each.actor))
            for each in found or ()
        ]


def event_place(event: StoredEvent) -> str:
    """Where an event stands in the order of pages, as a cursor holds it."""
    return f"{event.time_us}:{event.seq}"


def event_position(after: str | None) -> Position | None:
    """The inverse, of a cursor; None for none."""
    found = numbers(after, 2)
    return None if found is None else Position(*found)


async def explained(info: Info, behind: EventsBehind | None, first: int | None, after: str | None) -> Connection[Event]:
    """The events behind a line, newest first. A page may hold fewer than asked for and still not be the last."""
    size, start = page_size(first), event_position(after)
    if behind is None:
        return connection([], size, Event.of, event_place)
    found, next_ = await info.context.ask(
        lambda conn: counted_events(
            conn, behind.meter, behind.subjects, behind.from_us, behind.to_us, limit=size, after=start
        )
    )
    page = connection(found, size, Event.of, event_place)
    if next_ is not None:
        page.page_info = PageInfo(has_next_page=True, end_cursor=cursor_of(f"{next_.time_us}:{next_.seq}"))
    return page


@strawberry.input
class EventInput:
    """One event. Without id one is minted, without source it is "graphql", without time it is now."""

    id: str | None = None
    source: str | None = None
    type: str
    subject: str
    time: Instant | None = None
    data: Json | None = None

    def event(self, clock: Clock) -> events.Event:
        """The event it describes; BadEvent names the rule that it breaks."""
        event = events.Event(
            clock.new_id("event") if self.id is None else self.id,
            "graphql" if self.source is None else self.source,
            self.type,
            self.subject,
            clock.now_us() if self.time is None else self.time,
            None if self.data is None else data_text(self.data),
        )
        events.check_fields(event)
        events.check(event)
        return event


def data_text(data: Json) -> str:
    """An event's data as it is stored; BadEvent when it nests beyond all measure."""
    try:
        return json_text(data)
    except RecursionError as exc:
        raise events.BadEvent("data", f"must not nest deeper than {events.MAX_DEPTH} levels", "too_deep") from exc


@strawberry.type
class Rejection:
    """An event that was not accepted: its place in the call, a stable code, and the rule."""

    index: int
    code: str
    message: str


@strawberry.type
class IngestResult:
    """What became of the events of a call."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]


@strawberry.type
class ReplayResult:
    """How many dead letters are counted now, and why the others are not, by their place in the call."""

    replayed: int
    failed: list[Rejection]


def letter_number(id_: str) -> int:
    """The number of the dead letter with that id; 0, which none has, for what is no id of one."""
    return int(id_) if _LETTER.fullmatch(id_) else 0


def read_events(given: Sequence[EventInput], clock: Clock) -> tuple[list[events.Event], list[Rejection]]:
    """The events that keep every rule, and the others by their place."""
    good: list[events.Event] = []
    bad: list[Rejection] = []
    for index, each in enumerate(given):
        try:
            good.append(each.event(clock))
        except events.BadEvent as exc:
            bad.append(Rejection(index=index, code=exc.code, message=str(exc)))
    return good, bad
