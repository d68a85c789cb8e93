"""What credits in money pay for: the cost, line by line, each named by its charge."""

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.money import exact
from sidemeter_control.pricing.cost import Cost, cost
from sidemeter_control.pricing.credits.balances import UsedBetween
from sidemeter_control.pricing.credits.instants import ANYTHING, Line
from sidemeter_control.pricing.customers import Customer

__all__ = ["owed_between", "owed_lines"]


def owed_between(conn: AsyncConnection, customer: Customer, now_us: int, known: Cost | None = None) -> UsedBetween:
    """What the customer owes for an interval, of everything counted by `now_us`; `known` is not asked for again."""

    async def between(from_us: int, to_us: int) -> Sequence[Line]:
        if known is not None and (known.from_us, known.to_us) == (from_us, to_us):
            return owed_lines(known)
        return owed_lines(await cost(conn, customer, now_us, from_us, to_us))

    return between


@exact
def owed_lines(owed: Cost) -> list[Line]:
    """The rounded amounts of a cost by charge, in the order of its lines; last, what is owed for no charge."""
    by_charge: dict[str, Decimal] = {}
    for line in owed.lines:
        by_charge[line.charge] = by_charge.get(line.charge, Decimal(0)) + line.amount.rounded
    rest = owed.total.rounded - sum(by_charge.values(), Decimal(0))
    lines = [Line(amount, frozenset([charge])) for charge, amount in by_charge.items()]
    return [*lines, Line(rest, ANYTHING)] if rest else lines
