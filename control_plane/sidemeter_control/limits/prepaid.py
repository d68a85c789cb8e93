"""Prepaid: customers whose credits in money are all that may be spent.

What credits cover of the billing period is what is owed of it by now and what they have left, without what nobody paid. It
is kept like a budget of that amount: usage is debited at price caps, and what is counted is known exactly. Credits have no
periods, so neither has the limit: what is leased is of the balance, whatever happens to the bill's periods meanwhile.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.units import CREDITS, limit_id
from sidemeter_control.money import exact
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.cost import Cost, cost, current_period
from sidemeter_control.pricing.credits.balances import CreditBalance, balance
from sidemeter_control.pricing.credits.balances import Holding as Held
from sidemeter_control.pricing.credits.grants import MONEY
from sidemeter_control.pricing.credits.instants import Line
from sidemeter_control.pricing.credits.owed import owed_lines
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.price_caps import PriceCaps, price_caps, taken

__all__ = ["Prepaid", "prepaid"]

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Prepaid:
    """What credits allow a customer now, in `currency`: they `cover` so much of the current billing period, of which so much
    is `owed` by now; `taken` of it cannot be spent any more. `held` are the grants that count, and `filled_us` is when one of
    them recurred last.

    `caps` are those of this billing period and the next: an agent may hear of that one late.
    """

    customer_key: str
    currency: str
    covers: Decimal
    owed: Decimal
    taken: Decimal
    caps: PriceCaps
    period: Period
    held: Sequence[Held]
    filled_us: int

    @property
    def limit_id(self) -> str:
        """What agents call the limit."""
        return limit_id(self.customer_key, CREDITS)

    @property
    @exact
    def granted(self) -> Decimal:
        """All that grants which have something left were given; where none has, of those in force."""
        return sum((each.grant.amount for each in self.counted), _NOTHING)

    @property
    @exact
    def spent(self) -> Decimal:
        """How much of that is burned."""
        return self.granted - sum((each.balance for each in self.counted), _NOTHING)

    @property
    def counted(self) -> Sequence[Held]:
        """The grants that `granted` is of."""
        return [each for each in self.held if each.balance > 0] or self.held


async def prepaid(conn: AsyncConnection, customers: Collection[Customer], now_us: int) -> Mapping[str, Prepaid]:
    """What credits allow those of the customers that are prepaid, by key."""
    return {each.key: await _prepaid(conn, each, now_us) for each in customers if each.prepaid}


async def _prepaid(conn: AsyncConnection, customer: Customer, now_us: int) -> Prepaid:
    own = (await subscribed(conn, [customer]))[customer.key]
    whole = await cost(conn, customer, now_us)
    owed = _Owed(conn, customer, now_us)
    stood = await balance(conn, customer, MONEY, now_us, owed.between)
    by_now = sum((each.amount for each in await owed.between(whole.from_us, now_us)), _NOTHING)
    after = current_period(own, customer, whole.to_us)
    caps = price_caps(own, Period(whole.from_us, max(after.end_us, whole.to_us)))
    return _answer(customer, whole, stood, by_now, caps, now_us)


@exact
def _answer(  # noqa: PLR0917 -- what is owed, what is there, and what usage costs
    customer: Customer, whole: Cost, stood: CreditBalance, by_now: Decimal, caps: PriceCaps, now_us: int
) -> Prepaid:
    held = [each for each in stood.holdings if each.grant.burns(customer.time_zone).is_active_at(now_us)]
    held = [each for each in held if _pays_all(each, caps)]
    covers = by_now + sum((each.balance for each in held), _NOTHING) - stood.overage
    return Prepaid(
        customer.key,
        whole.total.currency,
        max(covers, _NOTHING),
        by_now,
        taken(caps, covers, whole.total, whole.lines) if covers > 0 else _NOTHING,
        caps,
        Period(whole.from_us, whole.to_us),
        held,
        max((_filled_us(each, customer, now_us) for each in held), default=0),
    )


def _filled_us(held: Held, customer: Customer, now_us: int) -> int:
    """When the balance of a grant was set back to its amount last; 0: never."""
    recurs = held.grant.burns(customer.time_zone).recurrence
    if recurs is None:
        return 0
    since_us = recurs.period_at(now_us).start_us
    return since_us if since_us > held.grant.effective_at_us else 0


def _pays_all(held: Held, caps: PriceCaps) -> bool:
    """Whether a grant pays for whatever may be used. One that is for some charges only pays them, and allows nothing more:
    nobody knows which charge a debit will be on."""
    charges = held.grant.charges
    return charges is None or {each.charge.spec.key for each in caps.priced} <= set(charges)


class _Owed:
    """What is owed between instants, each asked for once."""

    def __init__(self, conn: AsyncConnection, customer: Customer, now_us: int) -> None:
        self._conn, self._customer, self._now_us = conn, customer, now_us
        self._known: dict[tuple[int, int], Sequence[Line]] = {}

    async def between(self, from_us: int, to_us: int) -> Sequence[Line]:
        if from_us >= to_us:
            return ()
        if (from_us, to_us) not in self._known:
            self._known[from_us, to_us] = owed_lines(
                await cost(self._conn, self._customer, self._now_us, from_us, to_us)
            )
        return self._known[from_us, to_us]
