"""Denials: what was refused here, by reason; and at which limits, for the control plane to tell their customers. Pure."""

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from sidemeter.tracked import Limit

if TYPE_CHECKING:
    from sidemeter.leases import Key

__all__ = ["MAX_DENIED", "MAX_DENIED_PER_SYNC", "Denials", "Denied"]

MAX_DENIED: Final = 10_000
"""Limits that something was refused at, remembered so that each is told once; the oldest is forgotten, and told again when it
happens again."""

MAX_DENIED_PER_SYNC: Final = 100
"""The control plane works out the totals of each."""


class Denied(msgspec.Struct, frozen=True):
    """Something was refused at this limit in this period, while it was `amount`: decimal text in the meter's unit."""

    limit: str
    period: int
    amount: str


class Denials:
    """Refusals since the start of this process; counts only ever rise.

    A limit is told once for each amount that it had: whoever raises it wants to know when it is reached again.
    """

    def __init__(self) -> None:
        self.by_reason: dict[str, int] = {}
        self._amounts: dict[Key, Decimal] = {}
        self._untold: dict[Key, Decimal] = {}

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.by_reason.values())

    def add(self, reason: str, limit: Limit | None) -> None:
        """Count one, by the limit that it is due to."""
        self.by_reason[reason] = self.by_reason.get(reason, 0) + 1
        if reason != "limit_reached" or limit is None or limit.limit is None:
            return
        key = limit.id, limit.period
        if self._amounts.get(key) == limit.limit:
            return
        self._amounts[key] = self._untold[key] = limit.limit
        if len(self._amounts) > MAX_DENIED:
            oldest = next(iter(self._amounts))
            del self._amounts[oldest]
            self._untold.pop(oldest, None)

    def to_tell(self) -> tuple[Denied, ...]:
        """What the next sync tells of them."""
        some = list(self._untold.items())[:MAX_DENIED_PER_SYNC]
        return tuple(Denied(*key, format(amount, "f")) for key, amount in some)

    def told(self, denied: Iterable[Denied]) -> None:
        """The sync that told these was answered."""
        for each in denied:
            key = each.limit, each.period
            if self._untold.get(key) == Decimal(each.amount):
                del self._untold[key]

    def tell_anew(self) -> None:
        """The control plane's database is another copy, which may not have heard of them."""
        self._untold = dict(self._amounts)
