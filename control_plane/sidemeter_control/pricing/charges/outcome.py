"""OUTCOME: a charge that a later event confirms or takes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.outcomes import OutcomeRule
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.spec import OutcomeSpec
from sidemeter_control.pricing.charges.used import Needs, Outcome, Used, UsedLine
from sidemeter_control.pricing.words import Words

__all__ = ["MAX_OUTCOME_WINDOW_HOURS", "OutcomeCharge", "read_outcome"]

MAX_OUTCOME_WINDOW_HOURS = 8_784
"""A leap year: no dispute is settled later, and usage of a window is looked at until it is over."""

_MAX_TYPE_CHARS = 128
_MAX_PROPERTY_CHARS = 256

# What is settled comes first: free units are taken from it first.
_ORDER: Mapping[Outcome, int] = {
    Outcome.CONFIRMED: 0,
    Outcome.EXPIRED: 1,
    Outcome.PROVISIONAL: 2,
    Outcome.REVERSED: 3,
}
_STATES = tuple(_ORDER)


@dataclass(frozen=True, slots=True)
class OutcomeCharge:
    """`unit_price` for each event, owed at once and provisionally, until one of `outcome`'s types comes in its window.

    Reversed: nothing is owed any more. Confirmed, or not reversed in time: it stays owed. Usage without a state is
    provisional.
    """

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.OUTCOMES
    unowed: ClassVar[frozenset[int]] = frozenset({_ORDER[Outcome.REVERSED]})
    unit_price: Decimal
    outcome: OutcomeSpec

    def rule(self, meter: Meter) -> OutcomeRule:
        """By which events what the meter counts is settled."""
        spec = self.outcome
        return OutcomeRule(0, meter, spec.confirm_type, spec.reverse_type, spec.window_hours * HOUR_US, spec.property)

    def number_of(self, line: UsedLine, time_zone: str) -> int:  # noqa: ARG002 -- no clock is looked at
        """The place of the state among the lines."""
        return _ORDER[line.outcome or Outcome.PROVISIONAL]

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line per state that anything is in."""
        return tuple(
            self._line(_STATES[group.number], group.quantity, words) for group in used.groups or () if group.quantity
        )

    def _line(self, state: Outcome, quantity: Decimal, words: Words) -> PriceLine:
        if state is Outcome.REVERSED:
            return PriceLine(words.reversed(quantity), Decimal(0), quantity=quantity, unit_price=Decimal(0))
        say = {
            Outcome.PROVISIONAL: words.provisional,
            Outcome.CONFIRMED: words.confirmed,
            Outcome.EXPIRED: words.expired,
        }[state]
        text, amount = say(quantity, self.unit_price), quantity * self.unit_price
        return PriceLine(text, amount, quantity=quantity, unit_price=self.unit_price)


def read_outcome(path: str, spec: OutcomeSpec) -> OutcomeSpec:
    """The rule, checked; InvalidInput names its field."""
    for field, name in (("confirmType", spec.confirm_type), ("reverseType", spec.reverse_type)):
        if not 1 <= len(name) <= _MAX_TYPE_CHARS:
            raise InvalidInput(f"{path}.{field}", f"must be 1 to {_MAX_TYPE_CHARS} characters")
    if spec.confirm_type == spec.reverse_type:
        raise InvalidInput(f"{path}.reverseType", "must differ from confirmType")
    if not 1 <= spec.window_hours <= MAX_OUTCOME_WINDOW_HOURS:
        raise InvalidInput(f"{path}.windowHours", f"must be from 1 to {MAX_OUTCOME_WINDOW_HOURS}")
    if len(spec.property) > _MAX_PROPERTY_CHARS or "" in spec.property.split("."):
        raise InvalidInput(f"{path}.property", "must be names joined by dots")
    return spec
