"""Limits in money: an event is debited at price caps, and what was debited is settled once, when the event is counted."""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from agent import test_limits
from agent.control_plane_double import ControlPlaneDouble
from agent.mortal import Life, bury, mortal
from agent.whole_agent import at, spend
from fakes import eventually
from hypothesis import given
from hypothesis import strategies as st

from sidemeter import Agent
from sidemeter.events import Event
from sidemeter.leases import Counts, Lease, Leases
from sidemeter.limits import Limit, Limits
from sidemeter.meters import Filter, Meter, PriceCap

CALLS, TOKENS = Meter("call", "COUNT"), Meter("call", "SUM", "tokens")
CAPS = (PriceCap(TOKENS, Decimal("0.002"), Decimal(0)), PriceCap(CALLS, Decimal("0.0105"), Decimal("0.001")))
KEY = ("acme/@all:1", 0)
PLENTY = 10**12


def money(**changes: Any) -> Limit:
    fields = {"id": KEY[0], "feature": "budget/all", "meter": None, "scale": 3, "limit": Decimal(100), "prices": CAPS}
    return test_limits.limit(**fields | changes)


def call(tokens: object = 1, **changes: Any) -> Event:
    data = f'{{"tokens":{tokens},"model":"opus"}}'
    return Event(**{"id": "1", "source": "s", "type": "call", "subject": "acme", "data": data} | changes)


def learned(limits: Limits, *each: Limit, counted_seq: int = 0) -> None:
    subjects = {"acme": [one.id for one in each]}
    limits.recount(limits.learn(subjects, [(one, 1, counted_seq) for one in each]), ())
    limits.publish(subjects)


def leased(granted: int, *each: Limit, had: bool = False) -> tuple[Limits, list[Lease]]:
    limits, leases = Limits(allow_unknown=False), Leases()
    made = [leases.add(Lease((one.id, one.period), Counts(granted=granted))) for one in each]
    if had:
        limits.debits.had |= {lease.key for lease in made}
    limits.hold(leases)
    learned(limits, *each)
    return limits, made


@pytest.mark.parametrize(
    ("tokens", "units"),
    [("0", 12), ("1", 14), ("1.5", 15), ("500", 1012), ("-3", 12), ("null", 12)],
    ids=["nothing", "one", "a part", "many", "less than nothing", "no number"],
)
def test_an_event_takes_what_it_costs_at_most_rounded_up_to_a_unit(tokens: str, units: int) -> None:
    limits, (lease,) = leased(PLENTY, money())
    decision, amounts = limits.spend(call(tokens))
    assert (decision.allowed, [taken for _, taken in amounts], lease.used) == (True, [units], units)


def test_only_what_a_filter_passes_and_is_of_the_type_has_a_price() -> None:
    opus = Meter("call", "COUNT", None, (Filter("model", is_in=("opus",)),))
    other = Meter("call", "COUNT", None, (Filter("model", is_in=("haiku",)),))
    caps = tuple(PriceCap(meter, Decimal(price), Decimal(0)) for meter, price in ((opus, 5), (other, 1)))
    limits, (lease,) = leased(PLENTY, money(prices=caps))
    assert limits.spend(call())[0].allowed
    assert lease.used == 5000
    assert limits.spend(call(type="image"))[0].reason == "no_limit"
    assert lease.used == 5000


def test_a_budget_in_money_and_one_of_a_team_are_one_step() -> None:
    team = test_limits.limit(id="acme/@team:2", feature="budget/team", scale=0, meter=CALLS)
    limits, (whole, own) = leased(30, money(), team)
    assert limits.spend(call())[0].allowed
    assert (whole.used, own.used) == (14, 1)
    decision, amounts = limits.spend(call(50))
    assert (decision.allowed, decision.feature, amounts) == (False, "budget/all", ())
    assert (whole.used, own.used) == (14, 1)


def test_what_is_counted_is_returned_only_once_that_is_kept_and_only_once() -> None:
    limits, (lease,) = leased(100, money())
    for seq in (1, 2, 3):
        assert limits.spend(call())[0].allowed
        limits.recorded(seq, call(), paid=True)
    learned(limits, money(), counted_seq=2)
    assert lease.counts == Counts(granted=100, used=42)
    limits.settle_counted([KEY[0], "another"])
    limits.settle_counted([KEY[0]])
    assert lease.counts == Counts(granted=100, used=42, returned=28, refunded=28)
    assert lease.free == 100 - 42
    assert limits.debits.take_changed() == [lease]


def test_what_another_holder_was_debited_for_is_not_settled_by_this_one() -> None:
    limits, (old,) = leased(100, money())
    assert limits.spend(call())[0].allowed
    limits.recorded(1, call(), paid=True)
    leases = Leases()
    lease = leases.add(Lease(KEY, Counts(granted=100)))
    limits.hold(leases)
    assert limits.spend(call(2))[0].allowed
    limits.recorded(2, call(2), paid=True)
    learned(limits, money(), counted_seq=2)
    limits.settle_counted([KEY[0]])
    assert lease.counts == Counts(granted=100, used=16, returned=16, refunded=16)
    assert old.counts == Counts(granted=100, used=14)


def test_after_a_change_of_prices_what_was_debited_before_is_settled_as_it_was_debited() -> None:
    limits, (lease,) = leased(1000, money())
    assert limits.spend(call())[0].allowed
    limits.recorded(1, call(), paid=True)
    dearer = money(prices=(PriceCap(TOKENS, Decimal("0.3"), Decimal(0)),))
    learned(limits, dearer)
    assert limits.spend(call())[0].allowed
    limits.recorded(2, call(), paid=True)
    assert lease.used == 14 + 300
    limits.undone(1, call())  # nobody knows any more what it took
    assert lease.refunded == 0
    learned(limits, dearer, counted_seq=2)
    limits.settle_counted([KEY[0]])
    assert lease.refunded <= 314


def test_what_is_of_a_period_that_is_over_is_settled_in_no_later_one() -> None:
    then = {"period": 1, "period_start_us": 1000, "resets_at_us": 2000}
    limits, (lease,) = leased(100, money(resets_at_us=1000))
    assert limits.spend(call(time_us=10))[0].allowed
    limits.recorded(1, call(time_us=10), paid=True)
    learned(limits, money(**then), counted_seq=1)
    limits.settle_counted([KEY[0]])
    assert lease.refunded == 0
    assert all(each.refunded == 0 for each in limits.debits.leases or ())


def restarted(kept: Limit, lease: Lease, rows: dict[int, Event], holder: str, *, counted_seq: int = 0) -> Limits:
    """Another process on what the last one kept: its limits, its rows, and its cell."""
    limits, leases = Limits(allow_unknown=False), Leases()
    subjects = {"acme": [kept.id]}
    missed = limits.learn(subjects, [(kept, 1, counted_seq)])
    limits.recount(missed, [each for each in rows.items() if each[0] > counted_seq])
    limits.publish(subjects)
    limits.debits.had.add(lease.key)
    leases.add(lease)
    limits.hold(leases, holder)
    return limits


@pytest.mark.parametrize(
    ("holder", "prices", "settled"),
    [("h1", CAPS, 28), ("h2", CAPS, 0), ("h1", CAPS[:1], 0)],
    ids=["the same holder", "another holder", "at other prices"],
)
def test_after_a_kill_the_same_holder_settles_what_it_was_debited_for(
    holder: str, prices: tuple[PriceCap, ...], settled: int
) -> None:
    limits, (lease,) = leased(100, money())
    limits.debits.holder = "h1"
    limits.hold(limits.debits.leases, "h1")
    rows = {seq: call() for seq in (1, 2)}
    for seq, event in rows.items():
        assert limits.spend(event)[0].allowed
        limits.recorded(seq, event, paid=True)
    now = money(prices=prices)
    learned(limits, now)
    for _ in range(2):  # killed again, it knows no more and no less
        kept = limits.as_kept(now)
        limits = restarted(kept, lease, rows, holder)
        now = money(prices=prices)
        learned(limits, now)
    learned(limits, now, counted_seq=2)
    limits.settle_counted([KEY[0]])
    assert (lease.refunded, lease.returned) == (settled, settled)


def test_after_a_kill_rows_of_an_earlier_holder_are_still_not_this_ones() -> None:
    rows = {1: call()}
    lease = Lease(KEY, Counts(granted=100))
    limits = restarted(money(debited_by="h1"), lease, rows, "h2")
    assert limits.spend(call(2))[0].allowed
    limits.recorded(2, call(2), paid=True)
    rows[2] = call(2)
    now = money()
    learned(limits, now)
    limits = restarted(limits.as_kept(now), lease, rows, "h2")
    learned(limits, now, counted_seq=2)
    limits.settle_counted([KEY[0]])
    assert lease.refunded <= 16


@dataclass
class World:
    """What really happened: the units that each row was debited, and up to which row the bill has them."""

    owed: dict[int, int] = field(default_factory=dict)
    counted_seq: int = 0

    @property
    def uncounted(self) -> int:
        return sum(units for seq, units in self.owed.items() if seq > self.counted_seq)


actions = st.one_of(
    st.tuples(st.just("consume"), st.integers(0, 9)),
    st.tuples(st.just("record"), st.integers(0, 9)),
    st.tuples(st.just("undo"), st.just(0)),
    st.tuples(st.just("count"), st.integers(0, 6)),
    st.tuples(st.just("settle"), st.just(0)),
    st.tuples(st.just("price"), st.integers(1, 40)),
    st.tuples(st.just("lease"), st.just(0)),
)


@given(st.lists(actions, max_size=120))
def test_what_is_not_settled_covers_all_that_is_not_counted_whatever_happens(steps: list[tuple[str, int]]) -> None:
    limit = money()
    limits, (lease,) = leased(PLENTY, limit)
    world, seq, earlier = World(), 0, 0
    for action, number in steps:
        if action in {"consume", "record"}:
            event, before, seq = call(number), lease.used, seq + 1
            paid = action == "consume"
            if paid:
                assert limits.spend(event)[0].allowed
            limits.recorded(seq, event, paid=paid)
            world.owed[seq] = lease.used - before
            last = event
        elif action == "undo" and seq in world.owed and seq > world.counted_seq:
            limits.undone(seq, last)
            del world.owed[seq]
        elif action == "count":
            world.counted_seq = max(world.counted_seq, min(world.counted_seq + number, seq))
            learned(limits, limit, counted_seq=world.counted_seq)
        elif action == "settle":
            limits.settle_counted([KEY[0]])
        elif action == "price":
            limit = money(prices=(PriceCap(TOKENS, Decimal(number).scaleb(-3), Decimal(0)),))
            learned(limits, limit, counted_seq=world.counted_seq)
        elif action == "lease":
            earlier += lease.used - lease.refunded
            leases = Leases()
            lease = leases.add(Lease(KEY, Counts(granted=PLENTY)))
            limits.hold(leases)
        assert lease.used - lease.refunded + earlier >= world.uncounted
        assert lease.returned <= lease.refunded


TOKEN_CAPS = [
    {
        "meter": {"event_type": "call", "aggregation": "SUM", "value_property": "tokens", "filters": []},
        "per_unit": "0.002",
        "per_event": "0",
    }
]


async def test_an_agent_leaves_nothing_debited_once_it_heard_that_all_is_counted(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    limit = double.lease("acme", "money", 10, scale=9, meter=None, prices=TOKEN_CAPS)
    async with Agent(at(tmp_path, double)) as agent:
        decision = await spend(agent, 1000)
        assert (decision.allowed, decision.feature, decision.limit) == (True, "money", 10)
        assert (await spend(agent, 5000)).reason == "limit_reached"
        await eventually(lambda: double.books.total(limit, "refunded") == 2 * 10**9)
    assert double.books.held(limit) == 0
    assert all(each["knows_prices"] for each in double.messages("sync"))


async def test_what_an_older_copy_of_the_directory_does_not_know_to_be_counted_is_settled_only_once(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    """Put back between two syncs, into the same file: as far as nonces tell, it was killed before it kept the last one."""
    limit = double.lease("acme", "money", 10, scale=9, meter=None, prices=TOKEN_CAPS)
    for each in ("second", "third"):
        double.meter(each, "tokens", "10")
    double.books.interval_ms = 60_000
    async with mortal(at(tmp_path, double, flush_after_s=0.5), Life(1 << 30)) as agent:
        assert (await spend(agent, 1000, wait_s=5.0)).allowed
        assert await agent.learn("second"), "another sync, so that the lease is named in the directory"
        await eventually(lambda: not agent.status().backlog_events)
        before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir() if "ballast" not in path.name}
        assert await agent.learn("third"), "a sync that brings the bill too"
        assert (await spend(agent, 500)).allowed
        await bury(agent)
    for path, content in before.items():
        path.write_bytes(content)
    async with Agent(at(tmp_path, double)) as again:
        assert await again.learn("third")
    assert double.books.total(limit, "refunded") <= 2 * 10**9, "the second event is on no bill"
