"""What a customer used of a feature and nothing but credits allowed, from what is counted now."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import accumulate, pairwise

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.beyond import Past
from sidemeter_control.metering import usage
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.windows import Interval
from sidemeter_control.money import exact

__all__ = ["unallowed"]


async def unallowed(
    conn: AsyncConnection, past: Past, meter: Meter, subjects: Sequence[str], instants: Sequence[int]
) -> Sequence[Decimal]:
    """What those subjects used from each of the instants to the next beyond what was allowed, as `Past.beyond` tells.

    The meter adds up: COUNT or SUM. Mostly one usage question for all; another one for each time that the answer makes
    the rule look further back for what was carried over.
    """
    counted = _Counted()
    while True:
        found = past.beyond(instants, counted.between)
        if not counted.asked:
            return found
        await counted.learn(conn, meter, subjects)


class _Counted:
    """What was used up to each instant that anybody asked for; 0 until it is learned."""

    def __init__(self) -> None:
        self.asked: set[int] = set()
        self._until: dict[int, Decimal] = {}

    @exact
    def between(self, from_us: int, to_us: int) -> Decimal:
        """What was used in `[from_us, to_us)`, if both instants are known; else they are to be learned."""
        unknown = {from_us, to_us} - self._until.keys()
        self.asked |= unknown
        return Decimal(0) if unknown else self._until[to_us] - self._until[from_us]

    async def learn(self, conn: AsyncConnection, meter: Meter, subjects: Sequence[str]) -> None:
        """Count up to every instant that was asked for. The time before is mostly long: it is read as a whole."""
        instants = sorted(self.asked | self._until.keys())
        cut = [Interval(*each) for each in pairwise(instants)]
        first = [await usage.quantity(conn, meter, subjects, *each) for each in cut[:1]]
        counted = [*first, *(await usage.series(conn, meter, subjects, cut[1:]) if cut[1:] else ())]
        self._until = dict(zip(instants, _running(each.value or Decimal(0) for each in counted), strict=True))
        self.asked = set()


@exact
def _running(counted: Iterable[Decimal]) -> list[Decimal]:
    return list(accumulate(counted, initial=Decimal(0)))
