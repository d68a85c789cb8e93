"""Meters: how events of one type become a quantity. Pure rules, no I/O."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

__all__ = ["Aggregation", "Dimension", "Meter", "PropertyFilter"]


class Aggregation(Enum):
    """How a meter adds up the values of its events (5-pricing, Meters)."""

    COUNT = "COUNT"
    SUM = "SUM"
    MIN = "MIN"
    MAX = "MAX"
    AVG = "AVG"
    LATEST = "LATEST"
    UNIQUE_COUNT = "UNIQUE_COUNT"


@dataclass(frozen=True, slots=True)
class Dimension:
    """A way to split a meter: `key` names it in answers, `property` is the dotted path in the event's data."""

    key: str
    property: str


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """Which events count: the property's text is one of `is_in`, and none of `not_in`. None: no such rule."""

    property: str
    is_in: tuple[str, ...] | None = None
    not_in: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter's definition. `id` is the store's own small number; people and the API know the `key`."""

    id: int
    key: str
    name: str | None
    event_type: str
    aggregation: Aggregation
    value_property: str | None
    percentile: Decimal | None
    dimensions: tuple[Dimension, ...]
    filters: tuple[PropertyFilter, ...]
    unit: str | None
    created_at_us: int
    archived_at_us: int | None = None
