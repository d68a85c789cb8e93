"""What slices of a customer's use cost: what was metered with certain dimensions, of a team, a key or a model.

Each is priced by the customer's plans as if it were all there is, from the tiers' beginning; so where prices fall with the
quantity, slices together may come to more than the bill. Only metered charges are in it, those whose meter has all of the
dimensions: fees, minimums, commitments and what came late to closed periods are owed by the customer as a whole.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import breakdown
from sidemeter_control.metering.breakdown import Settled, Values
from sidemeter_control.metering.meters import Meter, from_nano
from sidemeter_control.metering.rollups import EMPTY, Rollup, merge, value
from sidemeter_control.metering.usage import Quantity, UsageRow
from sidemeter_control.metering.windows import Interval
from sidemeter_control.money import NO_CURRENCY
from sidemeter_control.pricing.bills import CostLine, UsedBy, total_of
from sidemeter_control.pricing.charges import Charge, Used, UsedLine
from sidemeter_control.pricing.charges.matrix import Matrix
from sidemeter_control.pricing.charges.outcome import OutcomeCharge
from sidemeter_control.pricing.charges.percentage import Percentage
from sidemeter_control.pricing.charges.time_of_day import TimeOfDay
from sidemeter_control.pricing.charges.used import Pieces
from sidemeter_control.pricing.consumption import by_outcome, in_figures, of_figures
from sidemeter_control.pricing.cost import Cost, slices_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import Period
from sidemeter_control.pricing.subscriptions import Subscribed

__all__ = ["attributed"]

_NONE = Quantity(None, 0)


async def attributed(  # noqa: PLR0917 -- whose, of what, when
    conn: AsyncConnection,
    customer: Customer,
    own: Sequence[Subscribed],
    asked: Period,
    dimensions: Sequence[str],
    wanted: Collection[Values],
    now_us: int,
) -> Mapping[Values, Cost]:
    """What each slice costs in the period, by the values of its dimensions: one question for all of them, and one more for
    each charge that prices single events, which are then looked at one by one."""
    lines: dict[Values, list[CostLine]] = {values: [] for values in wanted}
    for part in slices_of(customer, own, asked):
        charges = tuple(each for each in part.own.charges if part.own.has_dimensions(each, dimensions))
        question = _Question(conn, customer, replace(part.own, charges=charges), dimensions, wanted, now_us=now_us)
        so_far = await question.used(part.so_far)
        before = await question.used(part.earlier) if part.earlier else None
        for values in wanted:
            then = None if before is None else before[values]
            some = (each for each in charges if so_far[values][each.spec.key].is_anything)
            lines[values] += (part.usage_line(customer, each, so_far[values], then, final=False) for each in some)
    currency = own[0].plan.currency if own else customer.currency or NO_CURRENCY
    return {
        values: Cost(asked.start_us, asked.end_us, total_of(found, currency), tuple(found), now_us)
        for values, found in lines.items()
    }


class _Question:
    """What slices of one customer used, as far as it is known at `now_us`, for the charges of `own`."""

    def __init__(
        self,
        conn: AsyncConnection,
        customer: Customer,
        own: Subscribed,
        dimensions: Sequence[str],
        wanted: Collection[Values],
        *,
        now_us: int,
    ) -> None:
        self._conn = conn
        self._customer = customer
        self._own = own
        self._dimensions = tuple(dimensions)
        self._wanted = wanted
        self._now_us = now_us

    async def used(self, period: Period) -> Mapping[Values, UsedBy]:
        """What each charge has to price, by slice."""
        interval = Interval(period.start_us, period.end_us)
        figures: dict[str, Mapping[Values, Quantity]] = {}
        found: dict[Values, dict[str, Used]] = {values: {} for values in self._wanted}
        for charge in self._own.charges:
            meter = self._own.meters[charge.spec.meter or ""]
            if in_figures(charge):
                if meter.key not in figures:
                    figures[meter.key] = await self._quantities(meter, interval)
                counted = figures[meter.key]
                by_slice = {each: of_figures(charge, counted.get(each, _NONE)) for each in self._wanted}
            else:
                by_slice = dict(await self._told_apart(charge, meter, interval))
            for values, each in by_slice.items():
                found[values][charge.spec.key] = each
        return found

    async def _quantities(self, meter: Meter, interval: Interval) -> Mapping[Values, Quantity]:
        found = await self._rows(meter, interval)
        return {values: Quantity(rows[0].value, rows[0].events) for values, rows in found.items()}

    async def _rows(
        self, meter: Meter, interval: Interval, more: Sequence[str] = ()
    ) -> Mapping[Values, Sequence[UsageRow]]:
        subjects = self._customer.subjects
        return await breakdown.rows_of_slices(
            self._conn, meter, subjects, interval, self._dimensions, self._wanted, more
        )

    async def _told_apart(self, charge: Charge, meter: Meter, interval: Interval) -> Mapping[Values, Used]:
        match charge.model:
            case Matrix() as model:
                return await self._by_dimensions(model, meter, interval)
            case TimeOfDay() as model:
                return await self._by_band(model, meter, interval)
            case Percentage() as model if not model.has_allowance and set(model.breaks()) <= set(meter.breaks):
                return await self._pieces(model, meter, interval)
            case Percentage() as model:
                return {
                    each: await self._pieces_of_events(model, self._only(meter, each), interval)
                    for each in self._wanted
                }
            case OutcomeCharge() as model:
                return {each: await self._by_outcome(model, meter, each, interval) for each in self._wanted}
        raise LookupError(f"{charge.spec.model} needs what nobody asks for")

    async def _by_dimensions(self, model: Matrix, meter: Meter, interval: Interval) -> Mapping[Values, Used]:
        rows = await self._rows(meter, interval, model.dimensions)

        def line(row: UsageRow) -> UsedLine:
            return UsedLine(row.value or Decimal(0), {key: row.dimensions[key] for key in model.dimensions})

        return {values: Used.of_lines(map(line, rows.get(values, ()))) for values in self._wanted}

    async def _by_band(self, model: TimeOfDay, meter: Meter, interval: Interval) -> Mapping[Values, Used]:
        zone = self._customer.time_zone
        cut = model.bands_within(*interval, zone)
        first = {band: from_us for from_us, _, band in reversed(cut)}
        intervals = [Interval(from_us, to_us) for from_us, to_us, _ in cut]
        found: dict[Values, Used] = {}
        for values, places in (await self._by_slice(meter, intervals)).items():
            totals: defaultdict[int | None, Rollup] = defaultdict(lambda: EMPTY)
            for (index, _), rollup in places.items():
                totals[cut[index][2]] = merge(totals[cut[index][2]], rollup)
            quantities = ((first[band], value(meter.aggregation, each) or Decimal(0)) for band, each in totals.items())
            found[values] = Used.of_lines((UsedLine(each, at_us=at_us) for at_us, each in quantities if each), zone)
        return found

    async def _pieces(self, model: Percentage, meter: Meter, interval: Interval) -> Mapping[Values, Used]:
        found: dict[Values, Used] = {}
        for values, places in (await self._by_slice(meter, [interval])).items():
            bands = {band: (each.events, from_nano(each.sum or 0)) for (_, band), each in places.items()}
            found[values] = Used.of_pieces(model.pieces_of_bands(bands, meter.breaks))
        return found

    async def _by_slice(
        self, meter: Meter, cut: Sequence[Interval]
    ) -> Mapping[Values, Mapping[tuple[int, int], Rollup]]:
        subjects = self._customer.subjects
        return await breakdown.by_slice(self._conn, meter, subjects, cut, self._dimensions, self._wanted)

    def _only(self, meter: Meter, values: Values) -> Meter:
        """One that takes the slice alone. Nothing is kept for it, so its events answer."""
        return meter.only({key: text or "" for key, text in zip(self._dimensions, values, strict=True)})

    async def _pieces_of_events(self, model: Percentage, meter: Meter, interval: Interval) -> Used:
        first: list[Decimal] = []
        whole, is_over = Pieces(), not model.has_allowance
        async for some in breakdown.amounts(self._conn, meter, self._customer.subjects, interval):
            whole = whole.plus(model.pieces(some))
            if not is_over:
                first += some
                is_over = model.allowance(first).charged is not None
        return Used.of_pieces(model.pieces_after(first, whole) if is_over else model.pieces_of(first))

    async def _by_outcome(self, model: OutcomeCharge, meter: Meter, values: Values, interval: Interval) -> Used:
        rule = model.rule(self._only(meter, values))

        async def settled(within: Interval) -> tuple[Decimal, Settled]:
            if within.from_us >= within.to_us:
                return Decimal(0), Settled(Decimal(0), Decimal(0))
            counted = (await self._quantities(meter, within)).get(values, _NONE)
            found = await breakdown.settled_within(self._conn, rule, self._customer.subjects, within)
            return counted.value or Decimal(0), found

        return await by_outcome(interval, rule.window_us, self._now_us, settled)
