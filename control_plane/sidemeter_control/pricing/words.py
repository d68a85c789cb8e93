"""The words of a price: what a customer reads on a line, its numbers written as the language writes them.

The sentences themselves are in `sentences`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

from babel import Locale
from babel.dates import get_day_names
from babel.numbers import get_decimal_symbol, get_group_symbol

from sidemeter_control.metering.forecasts import Refusal
from sidemeter_control.money import NO_CURRENCY
from sidemeter_control.pricing.sentences import SENTENCES, Language, Sentences

__all__ = ["Language", "Words"]

_LOCALES = {Language.EN: "en", Language.DE: "de"}
_EVERY_DAY = frozenset(range(1, 8))


@dataclass(frozen=True, slots=True)
class Words:
    """What a line says, given the charge's currency, the unit of its meter (None: it has none) and the language.

    >>> Words("USD", "tokens").slice(1, Decimal(1_000_000), Decimal("0.0025"), Decimal(0))
    'first 1,000,000 tokens at 0.0025 USD'
    >>> Words("EUR", "Tokens", Language.DE).slice(2, Decimal("1000.5"), Decimal("0.0025"), Decimal(10))
    'die nächsten 1.000,5 Tokens zu je 0,0025 EUR zuzüglich 10 EUR pauschal'
    """

    currency: str
    unit: str | None = None
    language: Language = Language.EN

    def of_converted(self, divided_by: Decimal | None) -> "Words":
        """The same for a quantity after its conversion: so many thousands, or units of another kind."""
        if divided_by is None:
            return replace(self, unit=None)
        return replace(self, unit=f"× {self._amount(divided_by)}")

    def fee(self, amount: Decimal) -> str:
        """What is owed, or given back, once per period."""
        return self._say.fee if amount >= 0 else self._say.credit

    def included(self, quantity: Decimal) -> str:
        """Units that cost nothing."""
        return self._say.included.format(amount=self._amount(quantity))

    def usage_discount(self, quantity: Decimal) -> str:
        """Units that a discount takes off."""
        return self._say.usage_discount.format(amount=self._amount(quantity))

    def units(self, quantity: Decimal, unit_price: Decimal) -> str:
        """Units at one price."""
        return self._priced(self._say.each, quantity, unit_price)

    def packages(self, packages: Decimal, size: Decimal, price: Decimal) -> str:
        """Whole packages."""
        sentence = self._say.package if packages == 1 else self._say.packages
        return sentence.format(count=self._number(packages), amount=self._amount(size), at=self._at(price))

    def slice(self, tier: int, quantity: Decimal, unit_price: Decimal, flat_fee: Decimal) -> str:
        """The part of a quantity that falls in one tier (counted from 1)."""
        return self._priced(self._say.first if tier == 1 else self._say.next, quantity, unit_price, flat_fee)

    def rated_slice(self, tier: int, amount: Decimal, rate: Decimal, flat_fee: Decimal) -> str:
        """The part of an amount that falls in one tier with a rate; 0.025 is 2.5 %."""
        at = self._end(self.percent(rate.scaleb(2)) if rate else None, flat_fee)
        return (self._say.first if tier == 1 else self._say.next).format(amount=self._money(amount), at=at)

    def whole(self, quantity: Decimal, unit_price: Decimal, flat_fee: Decimal) -> str:
        """A whole quantity at the price of the tier it reaches."""
        return self._priced(self._say.whole, quantity, unit_price, flat_fee)

    def events_free(self, events: int, amount: Decimal) -> str:
        """Events within a free allowance, and what it covered of them."""
        return self._say.events_free.format(events=self._events(events), money=self._money(amount))

    def events_between(self, events: int, amount: Decimal, percentage: Decimal, fixed: Decimal) -> str:
        """Events that owe their rate, and something each."""
        each = self._say.fixed_each.format(fixed=self._money(fixed), events=self._events(events)) if fixed else ""
        return self._say.events_between.format(rate=self.percent(percentage), money=self._money(amount), fixed=each)

    def events_at_minimum(self, events: int, minimum: Decimal) -> str:
        """Events whose fee was raised."""
        return self._say.events_at_minimum.format(events=self._events(events), money=self._money(minimum))

    def events_at_maximum(self, events: int, maximum: Decimal) -> str:
        """Events whose fee was lowered."""
        return self._say.events_at_maximum.format(events=self._events(events), money=self._money(maximum))

    def matched(self, quantity: Decimal, match: Mapping[str, Sequence[str]], unit_price: Decimal) -> str:
        """Units with certain dimensions; none are named: all the others."""
        if not match:
            return self._priced(self._say.unmatched, quantity, unit_price)
        named = ", ".join(f"{key}: {self._say.any_of.join(values)}" for key, values in match.items())
        return self._say.matched.format(amount=self._amount(quantity), match=named, at=self._at(unit_price))

    def band(self, quantity: Decimal, days: frozenset[int], begin: str, end: str, unit_price: Decimal) -> str:
        """Units used in a band of the day, on certain days of the week (1 Monday to 7 Sunday)."""
        return self._say.band.format(
            amount=self._amount(quantity), days=self._days(days), begin=begin, end=end, at=self._at(unit_price)
        )

    def other_times(self, quantity: Decimal, unit_price: Decimal) -> str:
        """Units used when no band was."""
        return self._priced(self._say.other_times, quantity, unit_price)

    def dynamic(self, amount: Decimal, multiplier: Decimal) -> str:
        """What the events themselves said, times something."""
        text = self._say.dynamic.format(money=self._money(amount))
        return text if multiplier == 1 else f"{text} × {self._number(multiplier)}"

    def provisional(self, quantity: Decimal, unit_price: Decimal) -> str:
        """Units that a later event may still settle either way."""
        return self._priced(self._say.provisional, quantity, unit_price)

    def confirmed(self, quantity: Decimal, unit_price: Decimal) -> str:
        """Units that a later event confirmed."""
        return self._priced(self._say.confirmed, quantity, unit_price)

    def expired(self, quantity: Decimal, unit_price: Decimal) -> str:
        """Units that nothing settled in time; they stay owed."""
        return self._priced(self._say.expired, quantity, unit_price)

    def reversed(self, quantity: Decimal) -> str:
        """Units that a later event took back."""
        return self._say.reversed.format(amount=self._amount(quantity))

    def converted(
        self, quantity: Decimal, factors: Sequence[tuple[str, Decimal]], result: Decimal, rounded: str
    ) -> str:
        """A quantity times and divided by something; `rounded`: UP, DOWN, HALF_UP or nothing."""
        return self._say.converted.format(
            amount=self._amount(quantity),
            factors="".join(f" {sign} {self._number(factor)}" for sign, factor in factors),
            rounding={"UP": self._say.rounded_up, "DOWN": self._say.rounded_down, "HALF_UP": self._say.rounded}.get(
                rounded, ""
            ),
            result=self._number(result),
        )

    def discount(self, percentages: Sequence[Decimal]) -> str:
        """Percentages taken off a price, one after the other."""
        return self._say.discount.format(percentages=" + ".join(map(self.percent, percentages)))

    def maximum(self, amount: Decimal) -> str:
        """What is above the most that a period may cost."""
        return self._say.maximum.format(money=self._money(amount))

    def minimum(self, amount: Decimal) -> str:
        """What is missing to the least that a period costs."""
        return self._say.minimum.format(money=self._money(amount))

    def billed_before(self, quantity: Decimal) -> str:
        """What an earlier slice of the period has billed already."""
        return self._say.billed_before.format(amount=self._amount(quantity))

    @staticmethod
    def in_period(name: str, first: date, last: date, language: Language) -> str:
        """A line among others of the same name, told apart by its days."""
        say = SENTENCES[language]
        return say.in_period.format(name=name, first=first.strftime(say.date), last=last.strftime(say.date))

    def percent(self, percentage: Decimal) -> str:
        """A percentage as the language writes it: 2.5% or 2,5 %."""
        return self._number(percentage) + _percent_sign(self.language)

    # Changes, minimums, commitments, and what comes late.

    def fee_of_part(self, amount: Decimal, first: date, last: date) -> str:
        """A fee of a billing period that is cut, for the days that are billed."""
        return self.in_period(self.fee(amount), first, last, self.language)

    def unused_time(self, first: date, last: date) -> str:
        """What is given back of a fee that was paid in advance."""
        return self.in_period(self._say.unused_time, first, last, self.language)

    def minimum_spend(self) -> str:
        """The name of the line that brings a billing period to its minimum."""
        return self._say.minimum_spend

    def up_to_minimum(self, minimum: Decimal, spent: Decimal) -> str:
        """How far a billing period is from its minimum."""
        return self._say.up_to_minimum.format(minimum=self._money(minimum), spent=self._money(spent))

    def commitment(self) -> str:
        """The name of the line that settles what was committed with what was used."""
        return self._say.commitment

    def not_used(self, rest: Decimal, commitment: Decimal) -> str:
        """What is owed of a commitment that was not used."""
        return self._say.not_used.format(rest=self._money(rest), committed=self._money(commitment))

    def beyond_commitment(self, excess: Decimal, commitment: Decimal, factor: Decimal) -> str:
        """What use beyond a commitment costs more, or less, than its price."""
        return self._say.beyond_commitment.format(
            excess=self._money(excess), committed=self._money(commitment), factor=self._number(factor)
        )

    def commitment_discount(self, percentage: Decimal, base: Decimal) -> str:
        """What a commitment gives in exchange."""
        return self._say.commitment_discount.format(percentage=self.percent(percentage), committed=self._money(base))

    def counted_late(self, name: str, first: date, last: date) -> str:
        """A line for a closed billing period to which usage came late."""
        return self._say.counted_late.format(name=self.in_period(name, first, last, self.language))

    def billed_then(self) -> str:
        """What of a closed billing period is billed."""
        return self._say.billed_then

    # Alerts.

    def alert(
        self, sentence: str, name: str, threshold: int | None, of: tuple[Decimal, Decimal], day: date | None = None
    ) -> str:
        """What is to be said of a budget or a quota; `of`: what is used and what there is, in the currency if it has one."""
        percent = "" if threshold is None else self.percent(Decimal(threshold))
        used, amount = map(self._amount if self.currency == NO_CURRENCY else self._money, of)
        on = "" if day is None else day.strftime(self._say.date)
        return sentence.format(percent=percent, name=name, used=used, amount=amount, day=on)

    # Forecasts.

    @staticmethod
    def forecast(days: int, held: Collection[str], refusal: Refusal | None, language: Language) -> str:
        """What a forecast is based on: so many days of use, and of what is `held` the figure of now; or why there is none."""
        say = SENTENCES[language]
        match refusal:
            case None:
                basis = say.forecast_basis.format(days=days) if days else say.forecast_unused
                return basis + (say.forecast_held.format(names=", ".join(held)) if held else "")
            case Refusal.TOO_LITTLE_DATA:
                return say.forecast_too_little
            case Refusal.NOT_ADDITIVE:
                return say.forecast_not_additive
            case Refusal.NEGATIVE:
                return say.forecast_negative
            case Refusal.BEING_COUNTED:
                return say.forecast_being_counted
            case Refusal.TOO_FAR:
                return say.forecast_too_far

    @property
    def _say(self) -> Sentences:
        return SENTENCES[self.language]

    def _priced(self, sentence: str, quantity: Decimal, unit_price: Decimal, flat_fee: Decimal = Decimal(0)) -> str:
        return sentence.format(amount=self._amount(quantity), at=self._at(unit_price, flat_fee))

    def _at(self, unit_price: Decimal, flat_fee: Decimal = Decimal(0)) -> str:
        return self._end(self._money(unit_price) if unit_price else None, flat_fee)

    def _end(self, price: str | None, flat_fee: Decimal) -> str:
        say, flat = self._say, self._money(flat_fee)
        if price is None:
            return say.at_flat.format(flat=flat) if flat_fee else say.at_nothing
        return (say.at_plus if flat_fee else say.at).format(price=price, flat=flat)

    def _events(self, events: int) -> str:
        return (self._say.event if events == 1 else self._say.events).format(count=self._number(Decimal(events)))

    def _amount(self, quantity: Decimal) -> str:
        return f"{self._number(quantity)} {self.unit or self._say.units}"

    def _money(self, amount: Decimal) -> str:
        return f"{self._number(amount)} {self.currency}"

    def _number(self, value: Decimal) -> str:
        text = format(value, ",f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text.translate(_separators(self.language))

    def _days(self, days: frozenset[int]) -> str:
        if days >= _EVERY_DAY:
            return self._say.daily
        names = get_day_names("abbreviated", "stand-alone", _LOCALES[self.language])
        runs = [[day] for day in sorted(days)[:1]]
        for before, day in pairwise(sorted(days)):
            if day == before + 1:
                runs[-1].append(day)
            else:
                runs.append([day])
        return ", ".join("–".join(names[day - 1] for day in dict.fromkeys((run[0], run[-1]))) for run in runs)


@lru_cache(maxsize=len(Language))
def _separators(language: Language) -> dict[int, str]:
    # Babel's own formatting goes through a decimal context and would round or trap; only its signs are needed.
    locale = _LOCALES[language]
    return str.maketrans({",": get_group_symbol(locale), ".": get_decimal_symbol(locale)})


@lru_cache(maxsize=len(Language))
def _percent_sign(language: Language) -> str:
    pattern = Locale.parse(_LOCALES[language]).percent_formats[None]
    return str(pattern.suffix[0])
