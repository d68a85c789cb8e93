"""Closing billing periods: some time after one has ended, its lines are frozen, with what came late to earlier ones."""

import logging
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock, Steadiness
from sidemeter_control.errors import ArchiveUnavailable, StoreUnavailable
from sidemeter_control.pricing.bills import Slice, total_of
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.closed import ClosedPeriod, billed_of, freeze, next_leg
from sidemeter_control.pricing.cost import late, lines_of
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.periods import LATEST_US
from sidemeter_control.pricing.subscriptions import Leg, Subscribed
from sidemeter_control.store import changes, closed_periods, customers, late_days, meters, state, subscriptions
from sidemeter_control.store.database import Database

__all__ = ["MAX_CLOSED_AT_ONCE", "Closing", "close_once"]

MAX_CLOSED_AT_ONCE = 200
"""Billing periods of one turn, each a transaction of some milliseconds between which agents' batches are counted."""

_log = logging.getLogger(__name__)


class Closing:
    """Closes billing periods as they end, on a clock that can be trusted.

    A clock that is set wrong for less than `close_after_s` closes nothing too early, because it must have stood for so
    long before anything is closed.
    """

    def __init__(self, database: Database, clock: Clock, close_after_s: int) -> None:
        self._database, self._clock, self._close_after_s = database, clock, close_after_s
        self._steadiness = Steadiness(clock)

    async def once(self) -> int:
        """See `close_once`."""
        if self._steadiness.for_s() < self._close_after_s:
            return 0
        return await close_once(self._database, self._clock, self._close_after_s)


async def close_once(database: Database, clock: Clock, close_after_s: int, *, at_once: int = MAX_CLOSED_AT_ONCE) -> int:
    """Close billing periods that ended at least so long ago, up to `at_once`; answers how many.

    A turn that ends early loses nothing.

    Those that were over when their subscription was made are given as long from then, for what they used to come in.
    A customer whose periods cannot be closed for a fault of ours holds up nobody else: the log names the incident. Nor does
    one of whose meters one is still being filled, which waits until it is: what it has counted so far is not what it counts.
    """
    until_us = clock.now_us() - close_after_s * 1_000_000
    async with database.read() as conn:
        due = await subscriptions.to_close(conn, until_us, at_once)
    closed = 0
    for key in due:
        try:
            while closed < at_once and await _close_next(database, key, until_us, clock.now_us()):
                closed += 1
        except StoreUnavailable:
            raise
        except ArchiveUnavailable as exc:
            _log.warning("the periods of customer %r wait for a file: %s", key, exc)
        except Exception:  # noqa: BLE001 -- one customer's bill, wrong by our mistake, stops no other
            incident = clock.new_id("err")
            _log.exception(
                "%s: the periods of customer %r could not be closed", incident, key, extra={"incident_id": incident}
            )
    return closed


async def _close_next(database: Database, customer_key: str, until_us: int, now_us: int) -> bool:
    """Close the customer's open period that ended first, if it ended by then; else say when it will."""
    async with database.write() as conn:
        customer = (await customers.get(conn, [customer_key]))[customer_key]
        own = (await subscribed(conn, [customer]))[customer_key]
        closed_until_us = await closed_periods.closed_until(conn, customer_key)
        following = next_leg(own, closed_until_us)
        due = following is not None and _closable_us(*following) <= until_us
        waits = due and await _is_being_filled(conn, own)
        if following is not None and due and not waits:
            each, leg = following
            await _close(conn, customer, own, (each, leg), now_us)
            closed_until_us[each.subscription.id] = leg.period.end_us
        # Who waits has its next turn behind all who are due by now.
        earliest_us = until_us + 1 if waits else 0
        await subscriptions.set_closing(conn, _next_ends(own, closed_until_us, earliest_us))
    return due and not waits


async def _is_being_filled(conn: AsyncConnection, own: Sequence[Subscribed]) -> bool:
    """Whether a meter that these subscriptions price has yet to count stored events, as it is or as it is about to be."""
    priced = sorted({key for each in own for key in each.meters})
    # As they are stored: what is remembered of a subscription does not say how far its meters are by now.
    known = (await meters.get(conn, priced)).values()
    return any(not meter.progress.done for meter in known) or bool(await meters.changes(conn, priced))


async def _close(
    conn: AsyncConnection, customer: Customer, own: Sequence[Subscribed], ended: tuple[Subscribed, Leg], now_us: int
) -> None:
    each, leg = ended
    lines = await lines_of(
        conn, customer, Slice(each, leg, leg.period, dated=False, language=customer.language), now_us
    )
    own_lines = [(line, None) for line in lines]
    found = await late(conn, customer, own, now_us)
    adjusting = [(line, changed.closed.subscription_id) for changed in found for line in changed.lines]
    await closed_periods.add(
        conn,
        ClosedPeriod(
            subscription_id=each.subscription.id,
            customer_key=customer.key,
            period=leg.period,
            closed_at_us=now_us,
            last_seq=await closed_periods.last_event(conn),
            total=total_of([*lines, *(line for line, _ in adjusting)], each.plan.currency).rounded,
            lines=tuple(freeze(line, customer.language, adjusts) for line, adjusts in (*own_lines, *adjusting)),
            billed=billed_of(lines),
        ),
    )
    for changed in found:
        await closed_periods.set_billed(conn, changed.closed, billed_of(changed.by_now))
    # All that was counted until now is billed, or will be with a period that is open.
    await late_days.forget(conn, customer.subjects)
    await state.closed_until(conn, leg.period.end_us)
    changes.note(conn, customers=[customer.key])


def _next_ends(own: Sequence[Subscribed], closed_until_us: dict[str, int], earliest_us: int) -> dict[str, int | None]:
    ends: dict[str, int | None] = {}
    for each in own:
        leg = next(each.legs(closed_until_us.get(each.subscription.id, 0), LATEST_US), None)
        ends[each.subscription.id] = None if leg is None else max(_closable_us(each, leg), earliest_us)
    return ends


def _closable_us(own: Subscribed, leg: Leg) -> int:
    return max(leg.period.end_us, own.subscription.created_at_us)
