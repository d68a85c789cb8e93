"""TIME_OF_DAY: a price by bands of the day and week, on the clock of the customer's time zone."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import ClassVar

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges.bands import Band, BandWindow, Week
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.used import Group, Needs, Used, UsedLine
from sidemeter_control.pricing.words import Words

__all__ = ["TimeOfDay"]


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """Everything at the price of the band in which it was used, what is in no band at the default."""

    metered: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.BANDS
    unowed: ClassVar[frozenset[int]] = frozenset()
    bands: tuple[Band, ...]
    default_unit_price: Decimal | None = None

    def check(self, path: str) -> None:
        """Without a default the bands must cover the whole week."""
        gap = _week(self.bands).uncovered()
        if gap is not None and self.default_unit_price is None:
            raise InvalidInput(f"{path}.defaultUnitPrice", f"must be given: no band covers {gap}")

    def bands_within(self, from_us: int, to_us: int, time_zone: str) -> list[BandWindow]:
        """`[from_us, to_us)` cut where the price changes, each part with the number of its band (None: the default).

        A usage line of each part, with the part's beginning as `at_us`, is what `lines` prices.
        """
        return list(_windows(self.bands, from_us, to_us, time_zone))

    def number_of(self, line: UsedLine, time_zone: str) -> int:
        """The number of the band; one more than the last: the default. ValueError for a line without an instant."""
        if line.at_us is None:
            raise ValueError("a price by the time of day needs the instant of every line")
        band = _week(self.bands).band_at(line.at_us, time_zone)
        return len(self.bands) if band is None else band

    def lines(self, used: Used, words: Words) -> tuple[PriceLine, ...]:
        """One line per band that anything was used in, in the order of the price list, then the default."""
        return tuple(self._line(group, words) for group in used.groups or () if group.quantity)

    def _line(self, group: Group, words: Words) -> PriceLine:
        if group.number < len(self.bands):
            band = self.bands[group.number]
            unit_price = band.unit_price
            text = words.band(group.quantity, band.days, band.begin, band.end, unit_price)
        else:
            unit_price = self.default_unit_price or Decimal(0)
            text = words.other_times(group.quantity, unit_price)
        return PriceLine(text, group.quantity * unit_price, quantity=group.quantity, unit_price=unit_price)


@lru_cache(maxsize=256)
def _week(bands: tuple[Band, ...]) -> Week:
    return Week.of(bands)


@lru_cache(maxsize=256)
def _windows(bands: tuple[Band, ...], from_us: int, to_us: int, time_zone: str) -> Sequence[BandWindow]:
    """Remembered: of a billing period they are the same at every look at its cost."""
    return tuple(_week(bands).windows(from_us, to_us, time_zone))
