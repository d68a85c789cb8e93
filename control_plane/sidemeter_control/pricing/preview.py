"""A price that somebody tries: a usage as it is written down, under a charge that need not exist."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sidemeter_control.errors import InvalidInput
from sidemeter_control.money import check_currency
from sidemeter_control.pricing.charges import Charge, ChargeSpec, Needs, Outcome, Price, Used, UsedLine
from sidemeter_control.pricing.charges.percentage import Percentage
from sidemeter_control.pricing.customers import check_time_zone
from sidemeter_control.pricing.periods import check_instant
from sidemeter_control.pricing.words import Language, Words

__all__ = ["MAX_PREVIEW_PARTS", "UsageLineSpec", "UsageSpec", "preview"]

MAX_PREVIEW_PARTS = 1_000
"""Events or lines of one preview: against as many rates they are priced in less than half a second."""

OUTCOME_KEY = "outcome"
"""The dimension of a written line that says what became of its events, for a charge by outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLineSpec:
    """A part of a usage, as somebody wrote it: `dimensions` is any JSON value until it is read."""

    dimensions: object
    quantity: Decimal
    at_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSpec:
    """A usage as somebody wrote it: its quantity, or the amounts of its events in order, or its lines.

    `previous_quantity`: price only what came on top of it. `final` false: an earlier slice of a billing period, which
    owes no minimum yet.
    """

    quantity: Decimal | None = None
    events: Sequence[Decimal] | None = None
    lines: Sequence[UsageLineSpec] | None = None
    previous_quantity: Decimal | None = None
    final: bool = True


def preview(
    currency: str, spec: ChargeSpec, usage: UsageSpec, *, language: Language = Language.EN, time_zone: str = "UTC"
) -> Price:
    """What a usage would cost under a charge, or what it would add to an earlier one of the same period.

    InvalidInput names what is wrong with the charge, or what of the usage the charge needs and does not have.

    >>> from sidemeter_control.pricing.charges import PricingModel
    >>> spec = ChargeSpec(key="x", meter="calls", model=PricingModel.PER_UNIT, unit_price=Decimal("0.2"))
    >>> preview("EUR", spec, UsageSpec(quantity=Decimal("1.5")), language=Language.DE).lines[0].text
    '1,5 Einheiten zu je 0,2 EUR'
    """
    check_currency("currency", currency)
    check_time_zone("timeZone", time_zone)
    charge, words = Charge.read("charge", spec), Words(currency, language=language)
    used = _read_usage(usage, charge, time_zone)
    if usage.previous_quantity is None:
        return charge.price(used, words, final=usage.final)
    if not _takes_quantity(charge):
        raise InvalidInput("usage.previousQuantity", f"must be absent: {spec.model.value} prices more than a quantity")
    return charge.price_since(Used.of(usage.previous_quantity), used, words, final=usage.final)


def _read_usage(usage: UsageSpec, charge: Charge, time_zone: str) -> Used:
    given = [name for name in ("quantity", "events", "lines") if getattr(usage, name) is not None]
    if len(given) > 1:
        raise InvalidInput(f"usage.{given[1]}", f"must be absent beside {given[0]}: a usage is written in one way")
    if usage.events is not None:
        _check_length("usage.events", usage.events)
        if not (_takes_quantity(charge) or charge.model.needs is Needs.AMOUNTS):
            raise InvalidInput("usage.events", f"must be absent: {charge.spec.model.value} prices lines")
        return Used.of_amounts(usage.events)
    if usage.lines is not None:
        _check_length("usage.lines", usage.lines)
        if charge.model.needs is Needs.AMOUNTS:
            raise InvalidInput("usage.lines", f"must be absent: {charge.spec.model.value} prices events")
        return Used.of_lines((_read_line(*each, charge) for each in enumerate(usage.lines)), time_zone)
    if usage.quantity is not None or charge.spec.meter is None:
        return _read_quantity(usage.quantity or Decimal(0), charge)
    wanted = "quantity" if _takes_quantity(charge) else _WANTED[charge.model.needs]
    raise InvalidInput(f"usage.{wanted}", "must be given: the charge prices a meter")


_WANTED: Mapping[Needs, str] = {
    Needs.AMOUNTS: "events",
    Needs.DIMENSIONS: "lines",
    Needs.BANDS: "lines",
    Needs.OUTCOMES: "lines",
}


def _read_quantity(quantity: Decimal, charge: Charge) -> Used:
    # Events whose outcome nobody told are provisional.
    if quantity and not (_takes_quantity(charge) or charge.model.needs is Needs.OUTCOMES):
        wanted = _WANTED[charge.model.needs]
        raise InvalidInput(f"usage.{wanted}", f"must be given: {charge.spec.model.value} needs more than a quantity")
    return Used.of(quantity)


def _takes_quantity(charge: Charge) -> bool:
    if isinstance(charge.model, Percentage):
        return charge.model.proportional
    return charge.model.needs is Needs.QUANTITY


def _read_line(index: int, line: UsageLineSpec, charge: Charge) -> UsedLine:
    path, needs = f"usage.lines[{index}]", charge.model.needs
    dimensions = _read_dimensions(f"{path}.dimensions", line.dimensions)
    outcome = None
    if needs is Needs.OUTCOMES:
        outcome = _read_outcome(f"{path}.dimensions.{OUTCOME_KEY}", dimensions.get(OUTCOME_KEY))
    if line.at_us is not None:
        check_instant(f"{path}.at", line.at_us)
    elif needs is Needs.BANDS:
        raise InvalidInput(f"{path}.at", f"must be given: {charge.spec.model.value} prices by the time of day")
    return UsedLine(line.quantity, dimensions, line.at_us, outcome)


def _read_dimensions(path: str, written: object) -> Mapping[str, str | None]:
    if not isinstance(written, Mapping):
        raise InvalidInput(path, "must be an object")
    for key, value in written.items():
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{path}.{key}", "must be a text or null")
    return written


def _read_outcome(path: str, text: str | None) -> Outcome:
    if text is None:
        return Outcome.PROVISIONAL
    if text not in Outcome.__members__:
        raise InvalidInput(path, f"must be one of {', '.join(Outcome.__members__)}")
    return Outcome[text]


def _check_length(path: str, parts: Sequence[object]) -> None:
    if len(parts) > MAX_PREVIEW_PARTS:
        raise InvalidInput(path, f"must be at most {MAX_PREVIEW_PARTS}")
