"""Meters and what they add up to, as GraphQL shows them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.scalars import Instant, Json, instant
from sidemeter_control.errors import NotFound
from sidemeter_control.metering import meters, usage
from sidemeter_control.metering.meters import Aggregation
from sidemeter_control.metering.windows import Window
from sidemeter_control.pricing.customers import Customer, check_time_zone

__all__ = [
    "Aggregation",
    "Backfill",
    "Dimension",
    "DimensionFilter",
    "DimensionInput",
    "Meter",
    "MeterInput",
    "PropertyFilter",
    "PropertyFilterInput",
    "UsageRow",
    "usage_rows",
]

strawberry.enum(Aggregation)
strawberry.enum(Window)


@strawberry.type
class Dimension:
    """A way to split a meter's quantity: its name in answers, and the dotted path in an event's data."""

    key: str
    property: str


@strawberry.type
class PropertyFilter:
    """Which events a meter takes, by the text of a property."""

    property: str
    is_in: list[str] | None = strawberry.field(name="in")
    not_in: list[str] | None


@strawberry.type
class Backfill:
    """How far a meter, or a new definition of one, has counted the events that were stored before it."""

    done: bool
    fraction: float

    @classmethod
    def of(cls, progress: meters.Progress, *, changing: bool) -> Self:
        """The noun in its GraphQL form; `changing`: it is about a definition that is not the one in force yet."""
        whole = 1.0 if progress.done else progress.filled_seq / progress.watermark_seq
        return cls(done=progress.done and not changing, fraction=whole)


@strawberry.type
class Meter:
    """Turns events of one type into a quantity."""

    key: strawberry.ID
    name: str | None
    event_type: str
    aggregation: Aggregation
    value_property: str | None
    percentile: Decimal | None
    group_by: list[Dimension]
    filters: list[PropertyFilter]
    unit: str | None
    created_at: Instant
    archived_at: Instant | None
    progress: strawberry.Private[meters.Progress]

    @classmethod
    def of(cls, meter: meters.Meter) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            key=strawberry.ID(meter.key),
            name=meter.name,
            event_type=meter.event_type,
            aggregation=meter.aggregation,
            value_property=meter.value_property,
            percentile=meter.percentile,
            group_by=[Dimension(key=each.key, property=each.property) for each in meter.dimensions],
            filters=[
                PropertyFilter(
                    property=each.property,
                    is_in=None if each.is_in is None else list(each.is_in),
                    not_in=None if each.not_in is None else list(each.not_in),
                )
                for each in meter.filters
            ],
            unit=meter.unit,
            created_at=Instant(meter.created_at_us),
            archived_at=instant(meter.archived_at_us),
            progress=meter.progress,
        )

    @strawberry.field
    async def backfill(self, info: Info) -> Backfill | None:
        """How far it has counted the events that were stored before it: before its new definition, where it has one.

        Until that is done a new meter answers what it has counted, and a changed one answers by its old definition.
        """
        change = await info.context.loaders.change.load(self.key)
        progress = self.progress if change is None else change.progress
        return Backfill.of(progress, changing=change is not None)


@strawberry.input
class DimensionInput:
    """See `Dimension`."""

    key: str
    property: str


@strawberry.input
class PropertyFilterInput:
    """See `PropertyFilter`."""

    property: str
    is_in: list[str] | None = strawberry.field(name="in", default=None)
    not_in: list[str] | None = None


@strawberry.input
class MeterInput:
    """A meter to create."""

    key: strawberry.ID
    name: str | None = None
    event_type: str
    aggregation: Aggregation
    value_property: str | None = None
    percentile: Decimal | None = None
    group_by: list[DimensionInput] | None = strawberry.field(default_factory=list)
    filters: list[PropertyFilterInput] | None = strawberry.field(default_factory=list)
    unit: str | None = None

    def noun(self, now_us: int) -> meters.Meter:
        """The meter it describes; InvalidInput names what is wrong."""
        return meters.new_meter(
            self.key,
            self.event_type,
            self.aggregation,
            name=self.name,
            value_property=self.value_property,
            percentile=self.percentile,
            dimensions=[meters.Dimension(each.key, each.property) for each in self.group_by or ()],
            filters=[
                meters.PropertyFilter(each.property, _texts(each.is_in), _texts(each.not_in))
                for each in self.filters or ()
            ],
            unit=self.unit,
            now_us=now_us,
        )


def _texts(texts: list[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts)


@strawberry.input
class DimensionFilter:
    """Groups to keep: those whose dimension has one of the values."""

    key: str
    is_in: list[str] = strawberry.field(name="in")


@strawberry.type
class UsageRow:
    """A meter's quantity in one window, of one customer (null: of subjects that are nobody's) and one group."""

    window_start: Instant
    window_end: Instant
    customer: strawberry.ID | None
    dimensions: Json
    value: Decimal | None
    events: int

    @classmethod
    def of(cls, row: usage.UsageRow) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            window_start=Instant(row.window_start_us),
            window_end=Instant(row.window_end_us),
            customer=None if row.customer is None else strawberry.ID(row.customer),
            dimensions=Json(row.dimensions),
            value=row.value,
            events=row.events,
        )


async def usage_rows(
    info: Info,
    meter_key: str,
    interval: tuple[Instant, Instant],
    *,
    customer: Customer | None,
    window: Window | None,
    time_zone: str,
    group_by: Sequence[str],
    filters: Sequence[DimensionFilter] = (),
) -> list[UsageRow]:
    """The answer to a usage question, of one customer or of all."""
    check_time_zone("timeZone", time_zone)
    meter = await info.context.loaders.meter.load(meter_key)
    if meter is None:
        raise NotFound("meter", meter_key)
    from_us, to_us = interval
    rows = await info.context.ask(
        lambda conn: usage.rows(
            conn,
            meter,
            subjects=None if customer is None else dict.fromkeys(customer.subjects, customer.key),
            from_us=from_us,
            to_us=to_us,
            window=None if window is None else window.value,
            time_zone=time_zone,
            group_by=group_by,
            filters={each.key: frozenset(each.is_in) for each in filters},
        )
    )
    return [UsageRow.of(row) for row in rows]
