"""What a customer's credits stand at: burned down, at any instant, by the use and the cost that are counted now.

Credits in units of a feature pay for its use that nothing else allows, in the order of time: for all of it where nothing
else gives the feature, for none where something gives it without a limit. `limits.beyond` has the rule.

Credits are measured from the beginning of the billing period in which the first grant takes effect (or of that grant,
where there is no subscription), and a billing period's end resets them. A reset that somebody asked for does both, too.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice, pairwise
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.beyond import Past
from sidemeter_control.limits.given import ever_given
from sidemeter_control.limits.unallowed import unallowed
from sidemeter_control.money import Money, exact
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.credits.books import Book, books
from sidemeter_control.pricing.credits.burning import Burned, burn, opened
from sidemeter_control.pricing.credits.grants import MONEY, CreditGrant, CreditUnit, Denomination
from sidemeter_control.pricing.credits.instants import (
    MAX_INSTANTS,
    Allocation,
    Grant,
    Line,
    Reset,
    Segment,
    State,
    burn_order,
    instants,
)
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.store import credits
from sidemeter_control.store.credits import Snapshot

__all__ = [
    "CreditBalance",
    "Credited",
    "FeatureCredits",
    "Holding",
    "UsedBetween",
    "balance",
    "credited",
    "currency_of",
    "feature_credits",
    "settled",
]

UsedBetween = Callable[[int, int], Awaitable[Sequence[Line]]]
"""What is to be paid for `[from_us, to_us)`: the lines of parts of an interval add up to those of the whole."""

_Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Holding:
    """A grant, what it has left and what it has paid."""

    grant: CreditGrant
    balance: Decimal
    burned: Decimal


@dataclass(frozen=True, slots=True)
class CreditBalance:
    """What stands at an instant. `holdings` are in burn order; `used`, which was theirs to pay, counts since the last reset.

    So do `allocations`; where nothing ever resets, they may begin with what was settled long ago.
    """

    at_us: int
    balance: Decimal
    overage: Decimal
    used: Decimal
    holdings: Sequence[Holding]
    allocations: Sequence[Allocation]


@dataclass(frozen=True, slots=True)
class Credited:
    """What credits pay of an interval, and how much of it each grant, by id."""

    amount: Decimal
    by_grant: Mapping[str, Decimal]

    @exact
    def rest(self, owed: Money) -> Money:
        """What is left to be owed."""
        return Money(owed.amount - self.amount, owed.currency, owed.rounded - self.amount)


@dataclass(frozen=True, slots=True)
class FeatureCredits:
    """The units of a feature that active grants have `left`, and what grants `paid` in the period that was asked for.

    In it, `beyond` were used that nothing but credits allowed. `left` is less than nothing where so many of them no grant
    has paid, and the next one pays them first.
    """

    left: Decimal
    paid: Decimal
    beyond: Decimal

    @exact
    def given(self, used: Decimal, limit: Decimal) -> Decimal:
        """What they give of the period besides its own limit, with so much used in it.

        So much that what remains is what the limit has not allowed yet, and what they have left. Once nothing remains, it
        is what they paid.

        >>> fifty = FeatureCredits(left=Decimal(20), paid=Decimal(30), beyond=Decimal(30))
        >>> str(fifty.given(used=Decimal(130), limit=Decimal(100)))
        '50'
        """
        allowed = used - self.beyond
        remains = max(limit - allowed, Decimal(0)) + max(self.left, Decimal(0))
        given = used + remains - limit if remains else min(self.left + self.beyond, self.paid)
        return max(given, Decimal(0))


async def balance(
    conn: AsyncConnection, customer: Customer, of: Denomination, at_us: int, owed_between: UsedBetween
) -> CreditBalance:
    """What the customer's credits stand at; MONEY pays for what `owed_between` says, units for the feature's use.

    What happens at the instant has happened; use of the instant itself has not.
    """
    book = (await books(conn, [customer]))[customer.key].get(of, Book())
    history = await _History.of(conn, customer, of, book)
    stood = await history.burned(conn, at_us, owed_between)
    burned = stood.burned
    return CreditBalance(
        at_us=at_us,
        balance=burned.balance,
        overage=burned.overage,
        used=burned.state.used,
        holdings=_holdings(history, burned.state),
        allocations=[each for each in burned.allocations if each.from_us >= stood.last_reset_us],
    )


async def credited(  # noqa: PLR0917 -- an interval, an instant, and where its cost comes from
    conn: AsyncConnection, customer: Customer, from_us: int, to_us: int, now_us: int, cost_between: UsedBetween
) -> Credited:
    """What credits pay in `[from_us, to_us)`; the parts of an interval add up to the whole.

    A grant that takes effect after `now_us` does not pay yet for what is owed already.
    """
    book = (await books(conn, [customer]))[customer.key].get(MONEY, Book())
    if not book.grants:
        return Credited(Decimal(0), {})
    history = await _History.of(conn, customer, MONEY, book)
    stood = await history.burned(conn, to_us, cost_between, since_us=from_us)
    paid = [
        each
        for each in stood.burned.allocations
        if from_us <= each.from_us < to_us and (each.from_us < each.to_us or each.from_us <= now_us)
    ]
    return _credited(paid)


async def feature_credits(
    conn: AsyncConnection, customer: Customer, feature: str, since_us: int, at_us: int
) -> FeatureCredits:
    """What the customer's credits in units of a feature stand at, and have paid since `since_us`."""
    of = Denomination(CreditUnit.FEATURE, feature)
    book = (await books(conn, [customer]))[customer.key].get(of, Book())
    history = await _History.of(conn, customer, of, book)
    if history.begins_us is None:
        return FeatureCredits(Decimal(0), Decimal(0), Decimal(0))
    later = since_us > history.begins_us
    stood = await history.burned(conn, at_us, _nothing, since_us=since_us if later else at_us)
    burned = stood.burned
    paid = [each.amount for each in burned.allocations if each.from_us >= since_us]
    return FeatureCredits(
        left=_difference(burned.balance, burned.overage),
        paid=_sum(paid if later else burned.state.burned.values()),
        beyond=_sum(amount for (from_us, _), amount in stood.beyond.items() if from_us >= since_us),
    )


async def settled(
    conn: AsyncConnection, customer: Customer, of: Denomination, by_us: int, owed_between: UsedBetween
) -> Snapshot | None:
    """What stands at `by_us`, or for MONEY at the last period's end before, to be kept.

    None where nothing was given by then, or where it is kept already.
    """
    book = (await books(conn, [customer]))[customer.key].get(of, Book())
    history = await _History.of(conn, customer, of, book)
    if history.begins_us is None or history.begins_us > by_us:
        return None
    ends = [reset.at_us for reset in history.resets(history.begins_us, by_us)]
    at_us = by_us if of != MONEY else max(ends, default=history.begins_us)
    kept = await history.kept(conn, at_us)
    if kept is not None and kept.state.at_us == at_us:
        return None
    stood = await history.burned(conn, at_us, owed_between, since_us=at_us)
    return Snapshot(history.terms(at_us), await history.counted(conn, at_us), stood.burned.state)


def currency_of(customer: Customer, own: Sequence[Subscribed]) -> str | None:
    """The currency that the customer pays in; None where nothing says one."""
    return own[0].plan.currency if own else customer.currency


@dataclass(frozen=True, slots=True)
class _Stood:
    """What stood at an instant, when the last reset was, and what of a feature's use nothing but credits allowed, by time."""

    burned: Burned
    last_reset_us: int
    beyond: Mapping[_Span, Decimal]


@dataclass(frozen=True, slots=True)
class _History:
    """What burns one customer's credits of one denomination. `begins_us` None: nothing was ever given.

    `past` is what else gave the feature that they are units of; None: they are MONEY.
    """

    customer: Customer
    denomination: Denomination
    book: Book
    own: Sequence[Subscribed]
    past: Past | None
    grants: Sequence[Grant]
    begins_us: int | None

    @classmethod
    async def of(cls, conn: AsyncConnection, customer: Customer, of: Denomination, book: Book) -> "_History":
        own = (await subscribed(conn, [customer]))[customer.key]
        past = None
        if of.feature is not None:
            past = Past.of(of.feature, own, await ever_given(conn, customer.key, of.feature), customer.time_zone)
        grants = [grant.burns(customer.time_zone) for grant in book.grants]
        return cls(customer, of, book, own, past, grants, _beginning(book, own))

    async def burned(
        self, conn: AsyncConnection, until_us: int, owed_between: UsedBetween, since_us: int | None = None
    ) -> _Stood:
        """What stands at `until_us`.

        Its allocations have all since `since_us`, by default the last reset, and may have some of before.
        """
        if self.begins_us is None or self.begins_us > until_us:
            return _Stood(Burned(State(until_us)), until_us, {})
        ends = self.resets(self.begins_us, until_us)
        last_reset_us = ends[-1].at_us if ends else self.begins_us
        if since_us is None:
            since_us = last_reset_us if ends else until_us
        kept = await self.kept(conn, min(since_us, until_us - 1))
        if kept is None:
            first = next((reset for reset in ends if reset.at_us == self.begins_us), None)
            start = opened(self.grants, self.begins_us, first)
        else:
            start = kept.state
        moments = instants(self.grants, ends, start.at_us, until_us, [since_us])
        counted_us = start.at_us if kept is None or self.past is None else self.past.back(self.begins_us, start.at_us)
        beyond = await self._unallowed(conn, [counted_us, *moments])

        async def units(from_us: int, to_us: int) -> Sequence[Line]:
            return [Line(beyond.get((from_us, to_us), Decimal(0)))]

        spans = list(pairwise(moments))
        lines = await self._lines(spans, ends, owed_between if self.past is None else units)
        segments = [Segment(*span, lines.get(span, ())) for span in spans]
        if kept is not None and segments:
            late = _difference(beyond.get((counted_us, start.at_us), Decimal(0)), kept.counted)
            segments[0] = replace(segments[0], lines=[Line(late), *segments[0].lines])
        return _Stood(burn(start, self.grants, ends, segments), last_reset_us, beyond)

    def resets(self, from_us: int, until_us: int) -> list[Reset]:
        """Ends of billing periods and resets that were asked for, from `from_us` to `until_us`, in order.

        Of two at one instant, the one that was asked for says what becomes of the overage.
        """
        ends = islice(_period_ends(self.own, from_us, until_us), MAX_INSTANTS)
        found = {at_us: Reset(at_us) for at_us in ends}
        asked = [Reset(each.at_us, each.preserve_overage) for each in self.book.resets]
        found |= {each.at_us: each for each in asked if from_us <= each.at_us <= until_us}
        return [found[at_us] for at_us in sorted(found)]

    async def kept(self, conn: AsyncConnection, at_us: int) -> Snapshot | None:
        """The newest snapshot at or before an instant, unless it was made by other terms."""
        found = await credits.snapshot_before(conn, self.customer.key, self.denomination, at_us)
        return found if found is not None and found.terms == self.terms(found.state.at_us) else None

    def terms(self, at_us: int) -> str:
        """All that what stands at an instant depends on but events: equal where it is equal."""
        grants = [
            replace(
                each, voided_at_us=each.voided_at_us if (each.voided_at_us or at_us) < at_us else None, void_reason=""
            )
            for each in self.book.grants
            if each.effective_at_us <= at_us
        ]
        resets = [each for each in self.book.resets if each.at_us <= at_us]
        own: object = [each.subscription for each in self.own if each.subscription.start_at_us < at_us]
        if self.past is not None:
            own = self.past.terms(at_us)
        told = repr((self.customer.subjects, self.customer.time_zone, grants, resets, own))
        return hashlib.sha256(told.encode()).hexdigest()

    async def counted(self, conn: AsyncConnection, at_us: int) -> Decimal:
        """What a snapshot of an instant has counted; nothing for MONEY, whose past is as it was billed."""
        if self.past is None or self.begins_us is None:
            return Decimal(0)
        return _sum((await self._unallowed(conn, [self.past.back(self.begins_us, at_us), at_us])).values())

    async def _lines(
        self, spans: Sequence[_Span], ends: Iterable[Reset], owed_between: UsedBetween
    ) -> Mapping[_Span, Sequence[Line]]:
        """What is to be paid; not asked for where nobody could pay it and what nobody paid is forgotten then."""
        forgets = {reset.at_us for reset in ends if not reset.preserve_overage}
        asked = [
            span
            for span in spans
            if span[1] not in forgets or any(grant.is_active_at(span[0]) for grant in self.grants)
        ]
        return {span: await owed_between(*span) for span in asked}

    async def _unallowed(self, conn: AsyncConnection, cuts: Collection[int]) -> dict[_Span, Decimal]:
        """What was used and not allowed between the cuts; nothing is known of it for MONEY."""
        spans = list(pairwise(sorted(set(cuts))))
        if self.past is None or self.book.meter is None or not spans:
            return {}
        found = await unallowed(conn, self.past, self.book.meter, self.customer.subjects, sorted(set(cuts)))
        return dict(zip(spans, found, strict=True))


def _beginning(book: Book, own: Sequence[Subscribed]) -> int | None:
    starts = [reset.at_us for reset in book.resets]
    if book.grants:
        first_us = min(grant.effective_at_us for grant in book.grants)
        billed = next((each for each in own if each.subscription.is_active_at(first_us)), None)
        starts.append(first_us if billed is None else billed.period_at(first_us).start_us)
    return min(starts, default=None)


def _period_ends(own: Sequence[Subscribed], from_us: int, until_us: int) -> Iterator[int]:
    """After `from_us` and not after `until_us`; where subscriptions overlap, those of the oldest one."""
    reached_us = from_us
    for each in own:
        end_us = min(until_us, each.subscription.end_at_us or until_us)
        for period in each.recurrence.meeting(max(reached_us, each.subscription.start_at_us), end_us):
            ends_us = period.clipped(period.start_us, each.subscription.end_at_us).end_us
            if ends_us <= until_us:
                yield ends_us
        reached_us = max(reached_us, end_us)


def _holdings(history: _History, state: State) -> list[Holding]:
    by_id = {grant.id: grant for grant in history.book.grants}
    return [
        Holding(by_id[grant.id], state.balances.get(grant.id, Decimal(0)), state.burned.get(grant.id, Decimal(0)))
        for grant in sorted(history.grants, key=burn_order)
    ]


@exact
def _difference(now: Decimal, then: Decimal) -> Decimal:
    return now - then


@exact
def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


@exact
def _credited(paid: Sequence[Allocation]) -> Credited:
    by_grant: dict[str, Decimal] = {}
    for each in paid:
        by_grant[each.grant] = by_grant.get(each.grant, Decimal(0)) + each.amount
    return Credited(sum(by_grant.values(), Decimal(0)), by_grant)


async def _nothing(_from_us: int, _to_us: int) -> Sequence[Line]:
    return ()
