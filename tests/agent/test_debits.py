"""Debits: every own event is debited from one lease, once, as long as it may be in the buffer."""

from decimal import Decimal
from typing import Any

import pytest
from agent import test_limits
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.events import Event
from sidemeter.leases import MAX_COUNT, MAX_UNITS, Counts, Lease, Leases
from sidemeter.limits import Limit, Limits
from sidemeter.meters import Meter
from sidemeter.tracked import units_of

KEY = ("acme/tokens", 0)


def limit(**changes: Any) -> Limit:
    """One that is shared by leases of whole units, unless `changes` says otherwise."""
    return test_limits.limit(**({"scale": 0} | changes))


def learned(limits: Limits, *each: Limit, counted_seq: int = 0) -> None:
    subjects = {"acme": [one.id for one in each]}
    limits.learn(subjects, [(one, 1, counted_seq) for one in each])
    limits.publish(subjects)


def leased(granted: int, **changes: Any) -> tuple[Limits, Lease]:
    """Limits with a lease that was there before."""
    limits, leases = Limits(allow_unknown=False), Leases()
    lease = leases.add(Lease((KEY[0], changes.get("period", 0)), Counts(granted=granted)))
    limits.debits.had.add(lease.key)
    limits.hold(leases)
    learned(limits, limit(**changes))
    return limits, lease


def call(tokens: object = 1, **changes: Any) -> Event:
    return Event(
        **({"id": "1", "source": "s", "type": "call", "subject": "acme", "data": f'{{"tokens":{tokens}}}'} | changes)
    )


@pytest.mark.parametrize(
    ("amount", "factor", "units"),
    [
        (3, 1, 3),
        (Decimal("0.0000000001"), 10**9, 1),
        (Decimal("1.5"), 1000, 1500),
        (Decimal("1.0001"), 1000, 1001),
        (Decimal(-2), 1, 0),
        (MAX_UNITS, 1, MAX_UNITS),
        (MAX_UNITS + 5, 1, MAX_UNITS + 1),
        (Decimal(10**18), 10**9, MAX_UNITS + 1),
    ],
)
def test_an_amount_in_units_is_rounded_up_and_never_less_than_nothing(
    amount: int | Decimal, factor: int, units: int
) -> None:
    assert units_of(amount, factor) == units


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from(["kept", "undone", "in doubt"])), max_size=40)
)
def test_what_is_debited_is_what_may_be_in_the_buffer(events: list[tuple[int, bool, str]]) -> None:
    limits, lease = leased(30)
    kept = asked = 0
    for seq, (tokens, asks, fate) in enumerate(events, 1):
        event = call(tokens)
        if asks:
            decision, _ = limits.spend(event)
            if not decision.allowed:
                assert lease.free < tokens
                continue
            asked += tokens
        limits.recorded(seq, event, paid=asks)
        if fate != "kept":
            limits.undone(seq, event, certain=fate == "undone")
        kept += 0 if fate == "undone" else tokens
    assert lease.used - lease.refunded == kept
    assert lease.used - lease.overrun == asked
    assert asked - lease.refunded <= 30


def test_what_was_recorded_before_the_first_lease_is_debited_once() -> None:
    limits = Limits(allow_unknown=False)
    learned(limits, limit())
    limits.recorded(1, call(4))
    assert limits.check("acme", "tokens").reason == "no_lease"
    limits.hold(Leases())
    (first,) = limits.debits.take_changed()
    assert (first.used, first.overrun) == (4, 4)
    limits.hold(None)
    limits.recorded(2, call(3))
    limits.hold(Leases())
    (second,) = limits.debits.take_changed()
    assert (second.used, second.overrun) == (3, 3), "the first holder tells of what was recorded in its time"


def test_a_row_that_another_lease_paid_for_is_not_given_back_to_this_one() -> None:
    limits, _ = leased(10)
    limits.spend(call(4))
    limits.recorded(1, call(4), paid=True)
    leases = Leases()
    other = leases.add(Lease(KEY, Counts(granted=10)))
    limits.hold(leases)
    limits.undone(1, call(4))
    assert other.free == 10


def test_several_limits_are_debited_all_or_none() -> None:
    calls = limit(id="acme/calls", feature="calls", meter=Meter("call", "COUNT"))
    limits = Limits(allow_unknown=False)
    leases = Leases()
    tokens, counts = (leases.add(Lease((name, 0), Counts(granted=2))) for name in ("acme/tokens", "acme/calls"))
    limits.debits.had |= {tokens.key, counts.key}
    limits.hold(leases)
    learned(limits, limit(), calls)
    decision, amounts = limits.spend(call(3))
    assert (decision.allowed, decision.feature, decision.reason, amounts) == (False, "tokens", "lease_short", ())
    assert (tokens.used, counts.used) == (0, 0)
    assert limits.spend(call(2))[0].allowed
    assert (tokens.used, counts.used) == (2, 1)


def test_a_limit_that_is_not_leased_denies_before_anything_is_debited() -> None:
    limits, leases = Limits(allow_unknown=False), Leases()
    lease = leases.add(Lease(KEY, Counts(granted=10)))
    limits.debits.had.add(KEY)
    limits.hold(leases)
    other = limit(id="acme/max", feature="max", meter=Meter("call", "MAX", "tokens"), scale=None, used=Decimal(10))
    learned(limits, limit(), other)
    assert limits.spend(call(1))[0].feature == "max"
    assert lease.used == 0


def test_usage_of_another_period_is_neither_asked_of_this_ones_lease_nor_debited_from_it() -> None:
    limits, lease = leased(10, period=100, period_start_us=100, resets_at_us=200)
    assert limits.spend(call(1, time_us=200))[0].reason == "no_lease"
    assert limits.check("acme", "tokens", 1, now_us=200).reason == "no_lease"
    assert limits.check("acme", "tokens", 1, now_us=199).allowed
    limits.recorded(1, call(3, time_us=99))
    limits.recorded(2, call(4, time_us=200))
    assert lease.used == 0
    assert limits.check("acme", "tokens").used == 4
    limits.debits.take_changed()
    learned(limits, limit(period=200, period_start_us=200, resets_at_us=300))
    (new,) = limits.debits.take_changed()
    assert (new.key, new.used, limits.check("acme", "tokens").used) == ((KEY[0], 200), 4, 4)


def test_a_lease_is_asked_for_anew_once_and_not_at_every_check() -> None:
    limits = Limits(allow_unknown=False)
    learned(limits, limit())
    limits.check("acme", "tokens")
    assert limits.debits.hurries
    limits.debits.hurry = False
    limits.check("acme", "tokens")
    assert not limits.debits.hurries


def test_more_than_a_count_can_hold_is_not_told_apart() -> None:
    limits, lease = leased(10)
    lease.used = MAX_COUNT - 5
    limits.recorded(1, call(7))
    assert lease.used == MAX_COUNT


@pytest.mark.parametrize("quantity", [MAX_UNITS + 1, 10**17, Decimal(10**17)])
def test_more_than_a_limit_can_be_is_beyond_it(quantity: int | Decimal) -> None:
    limits, _ = leased(10)
    assert limits.check("acme", "tokens", quantity).reason == "limit_reached"
    assert limits.spend(call(quantity))[0].reason == "limit_reached"
