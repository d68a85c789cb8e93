"""Meters: how events of one type become a quantity. Pure rules, no I/O."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from sidemeter_control.errors import InvalidInput

__all__ = [
    "MAX_BREAKS",
    "MAX_DIGITS",
    "MAX_DIMENSIONS",
    "MAX_FILTERS",
    "MAX_FILTER_VALUES",
    "MAX_PERCENTILE_PLACES",
    "NANO",
    "UNGROUPED",
    "Aggregation",
    "Dimension",
    "Meter",
    "Progress",
    "PropertyFilter",
    "Reader",
    "Reading",
    "Uncountable",
    "band_of",
    "finder",
    "from_nano",
    "nano_of",
    "new_meter",
    "property_text",
    "to_nano",
    "values_of",
]

NANO = 10**9
"""Quantities are counted in nano-units, as ints: event values have up to 9 digits after the point."""

MAX_DIGITS = 18
"""Values have up to 18 digits before the point."""

# Each dimension multiplies rollups; each filter is looked at for every event.
MAX_DIMENSIONS = 10
MAX_FILTERS = 20
MAX_FILTER_VALUES = 1_000
MAX_TEXT = 256
MAX_PERCENTILE_PLACES = 9

MAX_BREAKS = 20
"""Each is one more rollup for every bucket and group; a fee with more breaks is reckoned event by event."""

UNGROUPED = "[]"
"""The group of a meter without dimensions."""

_BEYOND = 10**MAX_DIGITS
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_NUMERIC = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_EXACT = Context(prec=64, Emax=999_999, Emin=-999_999, traps=[Inexact, InvalidOperation])
_group = msgspec.json.Encoder().encode
_ungroup = msgspec.json.Decoder(list[str | None]).decode


class Aggregation(Enum):
    """How a meter adds up the values of its events.

    COUNT counts events whatever their value. LATEST is the value of the last event by (time, source, id). TIME_WEIGHTED is
    the mean over time of the running total of all values there ever were. PERCENTILE is the nearest rank: the smallest
    value that so many percent of the values do not exceed.
    """

    COUNT = "COUNT"
    SUM = "SUM"
    MIN = "MIN"
    MAX = "MAX"
    AVG = "AVG"
    LATEST = "LATEST"
    UNIQUE_COUNT = "UNIQUE_COUNT"
    TIME_WEIGHTED = "TIME_WEIGHTED"
    PERCENTILE = "PERCENTILE"


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
class Progress:
    """How far a meter is filled from the events that were there before it.

    Of the events up to `watermark_seq`, the last one when it was made, those up to `filled_seq` are counted. Every later
    one is counted as it arrives.

    >>> Progress(25, 100).counts(25), Progress(25, 100).counts(26), Progress(25, 100).counts(101)
    (True, False, True)
    """

    filled_seq: int = 0
    watermark_seq: int = 0

    @property
    def done(self) -> bool:
        """All of them are counted."""
        return self.filled_seq >= self.watermark_seq

    def counts(self, seq: int) -> bool:
        """Whether the event of that number is counted by now."""
        return seq <= self.filled_seq or seq > self.watermark_seq


_DONE = Progress()


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter's definition. `id` is the store's own small number; people and the API know the `key`.

    Rollups belong to the `id`: a meter that is given another definition gets another one.
    """

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
    progress: Progress = _DONE
    breaks: tuple[int, ...] = ()
    """Values of a SUM, in nano-units and in order, at which its rollups are told apart: the last element of each group."""

    def split_at(self, breaks: Iterable[int]) -> "Meter":
        """With these breaks beside its own; without any when it is no SUM, or when they are too many to be worth it."""
        wanted = sorted({*self.breaks, *breaks})
        if self.aggregation is not Aggregation.SUM or len(wanted) > MAX_BREAKS:
            wanted = list(self.breaks) if self.aggregation is Aggregation.SUM else []
        return replace(self, breaks=tuple(wanted))

    def only(self, values: Mapping[str, str]) -> "Meter":
        """One that takes the events of which these dimensions have these values, and no others. Nothing is kept for it."""
        properties = {each.key: each.property for each in self.dimensions}
        more = (PropertyFilter(properties[key], (value,)) for key, value in values.items())
        return replace(self, filters=(*self.filters, *more))

    def counts_like(self, other: "Meter") -> bool:
        """Whether both take the same events and make the same quantity of them, whatever they are called."""
        return replace(self, **_NAMES) == replace(other, **_NAMES)


_NAMES: Mapping[str, Any] = {
    "id": 0,
    "name": None,
    "unit": None,
    "created_at_us": 0,
    "archived_at_us": None,
    "progress": _DONE,
}


def new_meter(
    key: str,
    event_type: str,
    aggregation: Aggregation,
    *,
    name: str | None = None,
    value_property: str | None = None,
    percentile: Decimal | None = None,
    dimensions: Sequence[Dimension] = (),
    filters: Sequence[PropertyFilter] = (),
    unit: str | None = None,
    now_us: int,
) -> Meter:
    """A meter that keeps every rule, else InvalidInput naming the field. Its `id` is 0 until it is stored.

    >>> new_meter("tokens", "llm.completion", Aggregation.SUM, now_us=0)
    Traceback (most recent call last):
    sidemeter_control.errors.InvalidInput: valueProperty: SUM needs the property to add up
    """
    if not _KEY.fullmatch(key):
        raise InvalidInput("key", "must be 1 to 128 letters, digits and . _ : -, beginning with a letter or digit")
    _check_text("eventType", event_type, 128)
    for field, text in (("name", name), ("unit", unit)):
        if text is not None:
            _check_text(field, text)
    if value_property is not None:
        _check_path("valueProperty", value_property)
    elif aggregation is not Aggregation.COUNT:
        raise InvalidInput("valueProperty", f"{aggregation.value} needs the property to add up")
    _check_percentile(aggregation, percentile)
    _check_dimensions(dimensions)
    _check_filters(filters)
    value_property = None if aggregation is Aggregation.COUNT else value_property
    return Meter(
        0,
        key,
        name,
        event_type,
        aggregation,
        value_property,
        percentile,
        tuple(dimensions),
        tuple(filters),
        unit,
        now_us,
    )


def _check_percentile(aggregation: Aggregation, percentile: Decimal | None) -> None:
    if aggregation is not Aggregation.PERCENTILE:
        if percentile is not None:
            raise InvalidInput("percentile", f"must be absent: {aggregation.value} has none")
        return
    if percentile is None:
        raise InvalidInput("percentile", "must be given: PERCENTILE needs to know which, in percent")
    if not 0 < percentile <= 100:
        raise InvalidInput("percentile", "must be more than 0 and at most 100")
    if -int(percentile.as_tuple().exponent) > MAX_PERCENTILE_PLACES:
        raise InvalidInput("percentile", f"must have at most {MAX_PERCENTILE_PLACES} digits after the point")


def _check_dimensions(dimensions: Sequence[Dimension]) -> None:
    if len(dimensions) > MAX_DIMENSIONS:
        raise InvalidInput("groupBy", f"must be at most {MAX_DIMENSIONS}")
    for index, dimension in enumerate(dimensions):
        _check_text(f"groupBy[{index}].key", dimension.key)
        _check_path(f"groupBy[{index}].property", dimension.property)
    if len({dimension.key for dimension in dimensions}) < len(dimensions):
        raise InvalidInput("groupBy", "must not name a key twice")


def _check_filters(filters: Sequence[PropertyFilter]) -> None:
    if len(filters) > MAX_FILTERS:
        raise InvalidInput("filters", f"must be at most {MAX_FILTERS}")
    for index, each in enumerate(filters):
        _check_path(f"filters[{index}].property", each.property)
        if each.is_in is None and each.not_in is None:
            raise InvalidInput(f"filters[{index}]", "needs `in` or `notIn`")
        for field, texts in (("in", each.is_in), ("notIn", each.not_in)):
            if texts is not None and not 1 <= len(texts) <= MAX_FILTER_VALUES:
                raise InvalidInput(f"filters[{index}].{field}", f"must be 1 to {MAX_FILTER_VALUES} values")


def _check_path(field: str, path: str) -> None:
    _check_text(field, path)
    if "" in path.split("."):
        raise InvalidInput(field, "must be names joined by dots")


def _check_text(field: str, text: str, longest: int = MAX_TEXT) -> None:
    if not 1 <= len(text) <= longest:
        raise InvalidInput(field, f"must be 1 to {longest} characters")
    if not text.isprintable():
        raise InvalidInput(field, "must be printable")


class Uncountable(Exception):
    """An event that one meter cannot count: `code` is stable, the text is for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


Reading: TypeAlias = int | str | tuple[int, str, str, int] | tuple[int, int]
"""What one event gives a meter: its value in nano-units (0 for COUNT), the value's text (UNIQUE_COUNT),
`(time_us, source, id, value in nano-units)` (LATEST), or the value in nano-units and the value times `time_us`
(TIME_WEIGHTED)."""


_ADDED_UP = {Aggregation.COUNT, Aggregation.SUM, Aggregation.AVG}


class Reader:
    """A meter made ready to read events; `counts_all`: it takes every one, whatever its data.

    >>> meter = new_meter("tokens", "call", Aggregation.SUM, value_property="n", now_us=0)
    >>> Reader(meter).read({"n": Decimal("1.5")}, 0, "chat", "1")
    ('[]', 1500000000)
    """

    __slots__ = (
        *("_adds", "_breaks", "_dimensions", "_filters", "_is_timed", "_measure", "_names", "_value"),
        *("counts_all", "meter"),
    )

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._value = finder(meter.value_property) if meter.value_property else None
        self._measure = _distinct if meter.aggregation is Aggregation.UNIQUE_COUNT else to_nano
        self._is_timed = meter.aggregation in {Aggregation.LATEST, Aggregation.TIME_WEIGHTED}
        self._dimensions = [finder(dimension.property) for dimension in meter.dimensions]
        self._breaks = meter.breaks
        self._filters = [
            (
                finder(each.property),
                None if each.is_in is None else frozenset(each.is_in),
                frozenset(each.not_in or ()),
            )
            for each in meter.filters
        ]
        self.counts_all = not (self._value or self._dimensions or self._filters)
        self._names = [dimension.property for dimension in meter.dimensions]
        is_deep = "." in "".join([meter.value_property or "", *self._names])
        self._adds = meter.aggregation in _ADDED_UP and not (self._breaks or self._filters or is_deep)

    def added_up(self, data: Sequence[Mapping[str, object]]) -> Mapping[str, tuple[int, int]] | None:
        """What `read` gives for data of several events, by group: how many, and their sum. A third of what those take.

        Only of plain ones: numbers that it can add up, and texts, by names without a dot. None where one is not.

        >>> meter = new_meter("tokens", "call", Aggregation.SUM, value_property="n", now_us=0)
        >>> Reader(meter).added_up([{"n": 2}, {"n": 3}]), Reader(meter).added_up([{"n": "2"}])
        ({'[]': (2, 5000000000)}, None)
        """
        if not self._adds:
            return None
        values: Sequence[Any] = [0] * len(data)
        try:
            if self.meter.value_property is not None:
                values = _nanos([each[self.meter.value_property] for each in data])
            if not self._names:
                return {UNGROUPED: (len(values), sum(values))}
            columns = [[each[name] for each in data] for name in self._names]
        except (KeyError, Uncountable):
            return None
        if any(set(map(type, column)) != {str} for column in columns):
            return None
        found: dict[tuple[object, ...], list[int]] = {}
        for texts, value in zip(zip(*columns, strict=True), values, strict=True):
            found.setdefault(texts, []).append(value)
        return {_group(texts).decode(): (len(some), sum(some)) for texts, some in found.items()}

    def read(self, data: Mapping[str, object], time_us: int, source: str, id_: str) -> tuple[str, Reading] | None:
        """The event's group (JSON array of dimension values) and what it gives; None when a filter keeps it out.

        Raises Uncountable when the value is missing, or not what the aggregation can add up.
        """
        for find, is_in, not_in in self._filters:
            text = property_text(find(data))
            if (is_in is not None and text not in is_in) or text in not_in:
                return None
        group = UNGROUPED
        if self._dimensions:
            group = _group([property_text(find(data)) for find in self._dimensions]).decode()
        if self._value is None:
            return group, 0
        value = self._value(data)
        if value is None:
            raise Uncountable("value_missing", f"data.{self.meter.value_property} is missing")
        try:
            measured = self._measure(value)
        except Uncountable as exc:
            raise Uncountable(exc.code, f"data.{self.meter.value_property} {exc}") from None
        if self._breaks:
            return _with_band(group, bisect_right(self._breaks, int(measured))), measured
        if not self._is_timed:
            return group, measured
        if self.meter.aggregation is Aggregation.LATEST:
            return group, (time_us, source, id_, int(measured))
        return group, (int(measured), int(measured) * time_us)


def _with_band(group: str, band: int) -> str:
    return f'{group[:-1]}{"," if group != UNGROUPED else ""}"{band}"]'


def band_of(group: str) -> int:
    """The band that a group of a meter with breaks ends with.

    >>> band_of('["eu","2"]')
    2
    """
    return int(_ungroup(group)[-1] or 0)


def values_of(meter: Meter, group: str) -> Mapping[str, str | None]:
    """What a group of that meter says of each of its dimensions, by key.

    >>> team = Dimension("team", "org.team")
    >>> dict(values_of(new_meter("calls", "call", Aggregation.COUNT, dimensions=[team], now_us=0), '["a"]'))
    {'team': 'a'}
    """
    return dict(zip((each.key for each in meter.dimensions), _ungroup(group), strict=False))  # a band may follow


def finder(path: str) -> Callable[[Mapping[str, object]], object]:
    """Takes data to the property at a dotted path; most paths are one name, and every event is asked."""
    name, *more = path.split(".")
    names = (name, *more)
    return (lambda data: _find(data, names)) if more else (lambda data: data.get(name))


def _find(data: object, path: tuple[str, ...]) -> object:
    for name in path:
        if not isinstance(data, dict):
            return None
        data = data.get(name)
    return data


def property_text(value: object) -> str | None:
    """A property as filters and dimensions compare it; None for one that is missing, null, an object or an array.

    >>> [property_text(value) for value in ("x", True, 7, Decimal("1.50"), None)]
    ['x', 'true', '7', '1.5', None]
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            if abs(value.adjusted()) > MAX_TEXT:
                return str(value)  # written out, 1e999999999 would take all memory
            text = format(value, "f")
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return "0" if text == "-0" else text
        case _:
            return None


def _distinct(value: object) -> str:
    text = property_text(value)
    if text is None:
        raise Uncountable("value_not_a_text", "must be a string, a number, true or false")
    return text


def to_nano(value: object) -> int:
    """The value of a JSON number or numeric string in nano-units, exactly; Uncountable for anything else.

    >>> to_nano(2), to_nano(Decimal("0.5")), to_nano("1e-9")
    (2000000000, 500000000, 1)
    """
    if type(value) is int:
        if -_BEYOND < value < _BEYOND:
            return value * NANO
        raise _out_of_range()
    if isinstance(value, str) and len(value) <= MAX_TEXT and _NUMERIC.fullmatch(value):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise Uncountable("value_not_a_number", "must be a number")
    if not value:
        return 0
    if value.adjusted() >= MAX_DIGITS:
        raise _out_of_range()
    try:
        nano = _EXACT.multiply(value, NANO)  # traps when it is not exact: too many digits
    except (Inexact, InvalidOperation) as exc:
        raise _out_of_range() from exc
    if nano != nano.to_integral_value():
        raise _out_of_range()
    return int(nano)


def _nanos(values: Sequence[Any]) -> Sequence[int]:
    """See `to_nano`; a text is none that it is worth to look for."""
    kinds = set(map(type, values))
    if kinds == {int} and min(values) > -_BEYOND and max(values) < _BEYOND:
        return [value * NANO for value in values]
    if kinds <= {int, Decimal}:
        return list(map(to_nano, values))
    raise Uncountable("value_not_a_number", "must be a number")


def _out_of_range() -> Uncountable:
    return Uncountable("value_out_of_range", "must have up to 18 digits before and 9 after the point")


def from_nano(nano: int) -> Decimal:
    """The exact quantity of so many nano-units, without trailing zeros after the point.

    >>> from_nano(1_500_000_000), from_nano(-1), from_nano(20 * NANO)
    (Decimal('1.5'), Decimal('-1E-9'), Decimal('20'))
    """
    whole, rest = divmod(nano, NANO)
    if not rest:
        return Decimal(whole)
    places = 9
    while not nano % 10:
        nano //= 10
        places -= 1
    return Decimal(f"{nano}E-{places}")


def nano_of(amount: Decimal) -> int:
    """What `from_nano` made the amount from.

    >>> nano_of(Decimal("1.5"))
    1500000000
    """
    return int(_EXACT.multiply(amount, NANO))
