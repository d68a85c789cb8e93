"""Leases: what may be spent, by whom it was taken, and that no order of calls makes anything of nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidemeter.errors import InvalidInput
from sidemeter.leases import ALLOWED, MAX_HOLDS, MAX_UNITS, Counts, Lease, Leases


def leases_of(*granted: int) -> tuple[Leases, list[Lease]]:
    leases = Leases()
    made = [leases.add(Lease((f"limit{n}", 1), Counts(granted=units))) for n, units in enumerate(granted)]
    return leases, made


@pytest.mark.parametrize(
    ("counts", "units", "answer"),
    [
        (Counts(granted=10), 10, "allowed"),
        (Counts(granted=10), 11, "ask"),
        (Counts(granted=10, used=4), 6, "allowed"),
        (Counts(granted=10, used=4), 7, "ask"),
        (Counts(granted=10, used=4, reserved=3), 4, "ask"),
        (Counts(granted=10, returned=5, used=4), 2, "ask"),
        (Counts(granted=10, used=10, refunded=2), 2, "allowed"),
        (Counts(granted=10, used=13, overrun=3), 0, "ask"),
        (Counts(), 0, "allowed"),
    ],
)
def test_what_is_free_may_be_spent_and_nothing_else(counts: Counts, units: int, answer: str) -> None:
    leases = Leases()
    lease = leases.add(Lease(("limit", 1), counts))
    assert leases.spend([(lease, units)]).answer == answer
    assert lease.used == counts.used + (units if answer == "allowed" else 0)


def test_several_limits_are_one_step_all_of_them_or_none() -> None:
    leases, (key, team, organisation) = leases_of(10, 3, 10)
    assert leases.spend([(key, 4), (team, 4), (organisation, 4)]).lease is team
    assert [each.used for each in leases] == [0, 0, 0]
    assert leases.spend([(key, 3), (team, 3), (organisation, 3)]) is ALLOWED
    assert [each.used for each in leases] == [3, 3, 3]


def test_one_limit_twice_in_one_operation_is_refused() -> None:
    leases, (lease,) = leases_of(10)
    with pytest.raises(InvalidInput, match="limits: must be different ones"):
        leases.spend([(lease, 6), (lease, 6)])
    assert lease.used == 0


@pytest.mark.parametrize("units", [-1, MAX_UNITS + 1])
def test_an_amount_that_is_none_is_refused(units: int) -> None:
    leases, (lease,) = leases_of(10)
    with pytest.raises(InvalidInput, match="amount: must be 0 to"):
        leases.spend([(lease, units)])


def test_an_ask_adds_to_what_is_needed_and_hurries_the_next_sync() -> None:
    leases, (lease,) = leases_of(0)
    assert (leases.spend([(lease, 2)]).answer, leases.spend([(lease, 3)]).wait_ms) == ("ask", 200)
    assert (lease.need, leases.hurry) == (5, True)


@pytest.mark.parametrize(("change", "units"), [({"mode": "closed"}, 1), ({"limit": 5}, 6)], ids=str)
def test_what_cannot_come_is_denied_at_once(change: dict[str, object], units: int) -> None:
    leases, (lease,) = leases_of(0)
    for name, value in change.items():
        setattr(lease, name, value)
    verdict = leases.spend([(lease, units)])
    assert (verdict.answer, verdict.reason, verdict.lease) == ("denied", "limit_reached", lease)
    assert not leases.hurry


@pytest.mark.parametrize("is_short", [False, True])
def test_what_may_come_is_asked_for_and_once_it_came_short_without_another_hurry(is_short: bool) -> None:
    leases, (lease,) = leases_of(0)
    lease.is_short = is_short
    assert leases.spend([(lease, 1)]).answer == "ask"
    assert leases.hurry is not is_short


def test_a_lease_that_falls_below_its_mark_hurries_once() -> None:
    leases, (lease,) = leases_of(10)
    lease.low = 3
    leases.spend([(lease, 7)])
    assert not leases.hurry
    leases.spend([(lease, 1)])
    assert leases.hurry


def test_whoever_lost_its_epoch_or_stops_spends_and_reserves_nothing() -> None:
    leases, (lease,) = leases_of(10)
    leases.shut = "no_lease"
    assert leases.spend([(lease, 1)]).reason == leases.reserve("h", [(lease, 1)], 0).reason == "no_lease"
    assert lease.counts == Counts(granted=10)


@pytest.mark.parametrize(
    ("used", "expired", "counts"),
    [
        (0, False, Counts(10, 0, 0, 0)),
        (4, False, Counts(10, 0, 4, 0)),
        (6, False, Counts(10, 0, 6, 0)),
        (9, False, Counts(10, 0, 9, 0, 0, 3)),
        (0, True, Counts(10, 0, 6, 0, 6)),
        (4, True, Counts(10, 0, 6, 0, 2)),
        (6, True, Counts(10, 0, 6, 0, 0)),
        (9, True, Counts(10, 0, 9, 0, 0, 3)),
    ],
)
def test_the_end_of_a_reservation_counts_what_was_used_also_after_its_time(
    used: int, expired: bool, counts: Counts
) -> None:
    leases, (lease,) = leases_of(10)
    leases.reserve("h", [(lease, 6)], 1000)
    assert lease.counts == Counts(10, 0, 0, 6)
    leases.expire(1000 if expired else 999)
    if expired:
        assert lease.counts == Counts(10, 0, 6, 0)
    assert leases.commit("h", [used]) == [(lease, used)]
    assert lease.counts == counts
    assert leases.commit("h", [used]) is None
    assert leases.release("h") is None
    assert lease.counts == counts


def test_a_reservation_said_again_is_the_same_one_and_its_time_only_grows() -> None:
    leases, (lease,) = leases_of(10)
    leases.reserve("h", [(lease, 6)], 1000)
    assert leases.reserve("h", [(lease, 6)], 1000) is ALLOWED
    assert lease.reserved == 6
    assert leases.extend("h", 2000)
    assert leases.extend("h", 1500)
    assert leases.expire(1999) == []
    assert leases.expire(2000) == [lease]
    assert not leases.extend("h", 3000)
    assert not leases.extend("none", 3000)


def test_the_end_names_one_amount_for_each_limit() -> None:
    leases, (one, two) = leases_of(10, 10)
    leases.reserve("h", [(one, 1), (two, 1)], 0)
    for wrong in ([1], [1, -1]):
        with pytest.raises(InvalidInput, match="used: must be one amount"):
            leases.commit("h", wrong)
    assert leases.commit("h", [1, 0]) is not None


def test_after_a_kill_what_was_kept_is_open_and_the_rest_of_what_was_reserved_is_charged() -> None:
    leases = Leases()
    lease = leases.add(Lease(("limit", 1), Counts(granted=20, used=2, reserved=9)))
    assert leases.resume([("kept", [(lease.key, 4)], 50)]) == [lease]
    assert lease.counts == Counts(granted=20, used=7, reserved=4)
    assert leases.commit("kept", [1]) is not None
    assert lease.counts == Counts(granted=20, used=8)
    assert leases.commit("forgotten", [5]) is None


def test_a_hold_that_was_charged_before_the_kill_stays_charged_until_its_end() -> None:
    leases = Leases()
    lease = leases.add(Lease(("limit", 1), Counts(granted=20, used=6)))
    assert leases.resume([("kept", [(lease.key, 6)], 50), ("of another epoch", [(("gone", 1), 6)], 50)]) == []
    assert leases.commit("kept", [1]) is not None
    assert lease.counts == Counts(granted=20, used=6, refunded=5)
    assert leases.commit("of another epoch", [1]) is None


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_only_so_many_reservations_are_remembered_and_a_charged_one_makes_room(more: int) -> None:
    units = 2 * MAX_HOLDS
    leases, (lease,) = leases_of(units)
    answers = {leases.reserve(f"h{n}", [(lease, 1)], 10 + n).reason for n in range(MAX_HOLDS + more)}
    assert answers == {"within_limit", *(["too_many_reservations"] if more > 0 else [])}
    leases.expire(10)
    assert leases.reserve("late", [(lease, 1)], 2 * MAX_HOLDS) is ALLOWED
    assert lease.counts.free == units - len(leases._holds) - (1 if more >= 0 else 0)


def test_a_later_period_takes_the_place_of_an_earlier_one_which_never_comes_back() -> None:
    leases, (old,) = leases_of(5)
    new = leases.watch("limit0", 2)
    assert new is not None
    assert leases.current("limit0") is new
    assert leases.spend([(old, 6)]).answer == "denied"
    with pytest.raises(InvalidInput, match="period that is over"):
        leases.drop(new)
    leases.drop(old)
    assert leases.watch("limit0", 1) is None
    assert leases.watch("limit0", 2) is new


class AnyOrder(RuleBasedStateMachine):
    """Calls in any order, some of them twice, against what was really spent."""

    def __init__(self) -> None:
        super().__init__()
        self.leases, self.all = leases_of(0, 0)
        self.open: dict[str, list[int]] = {}
        self.spent = [0, 0]
        self.beyond = [0, 0]
        self.last = [Counts(), Counts()]
        self.now = 0
        self.made = 0

    @rule(which=st.integers(0, 1), units=st.integers(0, 20))
    def grant(self, which: int, units: int) -> None:
        self.all[which].granted += units

    @rule(which=st.integers(0, 1), share=st.integers(0, 3))
    def give_back(self, which: int, share: int) -> None:
        lease = self.all[which]
        lease.returned += max(lease.free, 0) * share // 3

    @rule(units=st.tuples(st.integers(0, 9), st.integers(0, 9)))
    def spend(self, units: tuple[int, int]) -> None:
        before = [each.counts for each in self.all]
        if self.leases.spend(list(zip(self.all, units, strict=True))) is ALLOWED:
            self.spent = [spent + each for spent, each in zip(self.spent, units, strict=True)]
        else:
            assert before == [each.counts for each in self.all]

    @rule(units=st.tuples(st.integers(0, 9), st.integers(0, 9)), lasts=st.integers(0, 5))
    def reserve(self, units: tuple[int, int], lasts: int) -> None:
        self.made += 1
        hold_id = f"h{self.made}"
        if self.leases.reserve(hold_id, list(zip(self.all, units, strict=True)), self.now + lasts) is ALLOWED:
            self.open[hold_id] = list(units)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), times=st.integers(1, 3))
    def end(self, data: st.DataObject, times: int) -> None:
        hold_id = data.draw(st.sampled_from(sorted(self.open)))
        held = self.open.pop(hold_id)
        used = [data.draw(st.integers(0, each + 2)) for each in held]
        for _ in range(times):
            self.leases.commit(hold_id, used)
        for n in (0, 1):
            self.spent[n] += used[n]
            self.beyond[n] += max(used[n] - held[n], 0)

    @rule()
    def time_passes(self) -> None:
        self.now += 1
        self.leases.expire(self.now)

    @rule()
    def kill(self) -> None:
        kept = [each for number, each in enumerate(self.open.items()) if number % 2]
        counts = [(each.key, each.counts) for each in self.all]
        self.leases = Leases()
        self.all = [self.leases.add(Lease(key, each)) for key, each in counts]
        keys = [each.key for each in self.all]
        self.leases.resume([(hold_id, list(zip(keys, held, strict=True)), self.now + 2) for hold_id, held in kept])
        for hold_id, held in list(self.open.items()):
            if hold_id not in dict(kept):  # it may have happened, all of it
                self.spent = [spent + each for spent, each in zip(self.spent, held, strict=True)]
                del self.open[hold_id]

    @invariant()
    def nothing_is_spent_that_is_not_held_and_no_count_falls(self) -> None:
        for n, lease in enumerate(self.all):
            counts = lease.counts
            assert counts.free >= -self.beyond[n]
            assert counts.used + counts.reserved - counts.refunded >= self.spent[n]
            assert counts.reserved >= 0
            assert counts.overrun == self.beyond[n]
            fallen = [a < b for a, b in zip(counts, self.last[n], strict=True)]
            assert not any(fallen[:3] + fallen[4:])
            self.last[n] = counts


TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.integers(0, 50)), st.integers(0, 50))
def test_what_is_spent_one_by_one_never_passes_what_was_granted(amounts: list[int], granted: int) -> None:
    leases, (lease,) = leases_of(granted)
    taken = [units for units in amounts if leases.spend([(lease, units)]) is ALLOWED]
    assert sum(taken) == lease.used <= granted
