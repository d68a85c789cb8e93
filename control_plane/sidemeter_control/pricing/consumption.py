"""What a subscription's charges have to price: how much was used in a period, in the parts that each model needs."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import breakdown, usage
from sidemeter_control.metering.breakdown import Settled
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.outcomes import NOT_BEHIND, OutcomeRule
from sidemeter_control.metering.usage import Quantity
from sidemeter_control.metering.windows import Interval
from sidemeter_control.pricing.charges import Charge, Needs, Outcome, Used, UsedLine
from sidemeter_control.pricing.charges.matrix import Matrix
from sidemeter_control.pricing.charges.outcome import OutcomeCharge
from sidemeter_control.pricing.charges.percentage import Percentage
from sidemeter_control.pricing.charges.time_of_day import TimeOfDay
from sidemeter_control.pricing.charges.used import Pieces, Tally
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.store import outcomes

__all__ = ["by_outcome", "in_figures", "of_figures", "used"]

FEW = 100
"""Events that are looked at first for an allowance of an amount, which says nothing of their number."""


async def used(
    conn: AsyncConnection, own: Subscribed, customer: Customer, period: Period, now_us: int
) -> Mapping[str, Used]:
    """What was used of every metered charge, by charge key; zero where the meter has nothing to say.

    One usage question for all that need only a quantity, however many they are, and one more for each of the others.
    """
    question = _Question(conn, customer, Interval(period.start_us, period.end_us), now_us)
    priced = {charge.spec.key: (charge, own.meters[key]) for charge in own.charges if (key := charge.spec.meter)}
    plain = list({meter.key: meter for charge, meter in priced.values() if in_figures(charge)}.values())
    counted = dict(zip((meter.key for meter in plain), await question.quantities(plain), strict=True))
    return {
        key: of_figures(charge, counted[meter.key]) if in_figures(charge) else await question.answer(charge, meter)
        for key, (charge, meter) in priced.items()
    }


def in_figures(charge: Charge) -> bool:
    """Whether the quantity and the number of events are all that the price depends on."""
    model = charge.model
    if isinstance(model, Percentage):
        return not (model.has_allowance or model.breaks())
    return model.needs is Needs.QUANTITY


def of_figures(charge: Charge, counted: Quantity) -> Used:
    """What such a charge has to price."""
    quantity = counted.value or Decimal(0)
    if isinstance(charge.model, Percentage):
        return Used.of_pieces(Pieces(between=Tally(counted.events, quantity)))
    return Used.of(quantity)


async def by_outcome(
    interval: Interval, window_us: int, now_us: int, settled: Callable[[Interval], Awaitable[tuple[Decimal, Settled]]]
) -> Used:
    """What was used within the last window is provisional until it is settled; what is older stays as it is.

    `settled` answers all that was used in an interval, and what of it is settled.
    """
    began_us = max(interval.from_us, now_us - window_us + 1)
    all_, known = await settled(interval)
    recent, early = await settled(Interval(began_us, max(began_us, interval.to_us)))
    provisional = recent - early.confirmed - early.reversed
    states = {
        Outcome.CONFIRMED: known.confirmed,
        Outcome.EXPIRED: all_ - known.confirmed - known.reversed - provisional,
        Outcome.PROVISIONAL: provisional,
        Outcome.REVERSED: known.reversed,
    }
    return Used.of_lines(UsedLine(quantity, outcome=state) for state, quantity in states.items() if quantity)


class _Question:
    """What one customer used in one interval, as far as it is known at `now_us`."""

    def __init__(self, conn: AsyncConnection, customer: Customer, interval: Interval, now_us: int) -> None:
        self._conn = conn
        self._customer = customer
        self._interval = interval
        self._now_us = now_us

    async def quantities(self, meters: Sequence[Meter]) -> Sequence[Quantity]:
        """The quantity of each meter, for the price of one."""
        if not meters:
            return ()
        return await usage.quantities(self._conn, meters, self._customer.subjects, *self._interval)

    async def answer(self, charge: Charge, meter: Meter) -> Used:
        """What that charge needs."""
        match charge.model:
            case Percentage() as model:
                return await self._pieces(model, meter)
            case Matrix() as model:
                return await self._by_dimensions(model, meter)
            case TimeOfDay() as model:
                return await self._by_band(model, meter)
            case OutcomeCharge() as model:
                return await self._by_outcome(model, meter)
        raise LookupError(f"{charge.spec.model} needs what nobody asks for")

    async def _pieces(self, model: Percentage, meter: Meter) -> Used:
        """Of a fee with bounds every event is looked at; of an allowance only the first ones, in their order."""
        first, done = await self._prefix(model, meter)
        if done:
            return Used.of_pieces(model.pieces_of(first))
        return Used.of_pieces(model.pieces_after(first, await self._all_pieces(model, meter)))

    async def _all_pieces(self, model: Percentage, meter: Meter) -> Pieces:
        """Until the meter tells values apart where the fee asks for it, event by event."""
        breaks, subjects = model.breaks(), self._customer.subjects
        if not breaks:
            (all_,) = await self.quantities([meter])
            return Pieces(between=Tally(all_.events, all_.value or Decimal(0)))
        if set(breaks) <= set(meter.breaks):
            bands = await breakdown.by_band(self._conn, meter, subjects, self._interval)
            return model.pieces_of_bands(bands, meter.breaks)
        whole = Pieces()
        async for some in breakdown.amounts(self._conn, meter, subjects, self._interval):
            whole = whole.plus(model.pieces(some))
        return whole

    async def _prefix(self, model: Percentage, meter: Meter) -> tuple[list[Decimal], bool]:
        """The first events, as far as any of them is free; and whether there are no others."""
        first: list[Decimal] = []
        if not model.has_allowance:
            return first, False
        at_first = FEW if model.free_events is None else model.free_events + 1
        async for some in breakdown.amounts(self._conn, meter, self._customer.subjects, self._interval, at_first):
            first += some
            if model.allowance(first).charged is not None:
                return first, False
        return first, True

    async def _by_dimensions(self, model: Matrix, meter: Meter) -> Used:
        subjects = self._customer.subjects
        found = await breakdown.by_dimensions(self._conn, meter, subjects, self._interval, model.dimensions)
        return Used.of_lines(UsedLine(quantity, dimensions) for dimensions, quantity in found)

    async def _by_band(self, model: TimeOfDay, meter: Meter) -> Used:
        zone = self._customer.time_zone
        by_band: defaultdict[int | None, list[Interval]] = defaultdict(list)
        for from_us, to_us, band in model.bands_within(*self._interval, zone):
            by_band[band].append(Interval(from_us, to_us))
        found = [
            UsedLine(await breakdown.over(self._conn, meter, self._customer.subjects, cut), at_us=cut[0].from_us)
            for cut in by_band.values()
        ]
        return Used.of_lines((line for line in found if line.quantity), zone)

    async def _by_outcome(self, model: OutcomeCharge, meter: Meter) -> Used:
        rule = await self._rule(model, meter)
        return await by_outcome(self._interval, rule.window_us, self._now_us, lambda each: self._settled(rule, each))

    async def _settled(self, rule: OutcomeRule, interval: Interval) -> tuple[Decimal, Settled]:
        subjects = self._customer.subjects
        if interval.from_us >= interval.to_us:
            return Decimal(0), Settled(Decimal(0), Decimal(0))
        counted = await usage.quantity(self._conn, rule.meter, subjects, *interval)
        return counted.value or Decimal(0), await breakdown.settled_within(self._conn, rule, subjects, interval)

    async def _rule(self, model: OutcomeCharge, meter: Meter) -> OutcomeRule:
        written = model.rule(meter)
        known = await outcomes.rules(self._conn, {meter.key: meter})
        filled = (rule for rule in known if rule.progress.done)
        return next((rule for rule in filled if replace(rule, id=0, progress=NOT_BEHIND) == written), written)
