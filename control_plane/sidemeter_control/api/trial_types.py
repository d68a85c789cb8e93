"""What a meter would make of stored events, as GraphQL shows it."""

from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.event_types import Event
from sidemeter_control.api.scalars import Json
from sidemeter_control.metering import trying

__all__ = ["MeterPreview", "PreviewedEvent"]


@strawberry.type
class PreviewedEvent:
    """One event, as a meter would read it."""

    event: Event
    gives: str | None = strawberry.field(
        description="A decimal, or a text where distinct values are counted; null: it does not count."
    )
    dimensions: Json | None = strawberry.field(description="Its group; null where it does not count.")
    problem: str | None = strawberry.field(description="Why it cannot be counted; it would be a dead letter.")

    @classmethod
    def of(cls, tried: trying.TriedEvent) -> Self:
        """The noun in its GraphQL form."""
        dimensions = None if tried.dimensions is None else Json(dict(tried.dimensions))
        return cls(event=Event.of(tried.event), gives=tried.gives, dimensions=dimensions, problem=tried.problem)


@strawberry.type
class MeterPreview:
    """What a meter would make of the newest events of its type."""

    value: Decimal | None = strawberry.field(
        description="What these events come to; null where none counts, and for TIME_WEIGHTED, which is about a time."
    )
    events: list[PreviewedEvent]

    @classmethod
    def of(cls, trial: trying.Trial) -> Self:
        """The noun in its GraphQL form."""
        return cls(value=trial.value, events=[PreviewedEvent.of(each) for each in trial.events])
