"""How a limit is shared: nobody is told of more than there is, whatever is repeated, lost, rolled back or said twice."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.limits.leases import (
    Granted,
    Holding,
    Known,
    Others,
    Pool,
    Report,
    Standing,
    Sync,
    Taken,
    Turn,
    newly_settled,
    others,
    shows_rollback,
    take,
    turn_of,
)
from sidemeter_control.limits.recovery import Recovery, begin_recovery
from sidemeter_control.metering.identity import NO_NONCES, Nonces, next_nonce

KEY = ("calls", 7)
HOLDER = ("agent", "hello")
POOL = Pool(limit=1000, period=7, period_now=7)
FIRST = next_nonce(None, "s1")
SECOND = next_nonce(FIRST, "s2")
HELD = Nonces(FIRST, None)


def sync(*reports: Report, sync_id: str = "s2", nonce: bytes | None = FIRST, **about: object) -> Sync:
    given = Sync(HOLDER, 1, sync_id, nonce, "gen", 5, reports, complete=True)
    return replace(given, **about)  # type: ignore[arg-type]


def known(
    holding: Holding = Holding(),  # noqa: B008 -- frozen
    rest: Others = Others(),  # noqa: B008
    pool: Pool = POOL,
    **about: object,
) -> Known:
    given = Known("gen", 9, Standing.CURRENT, HELD, None, 3, {KEY: (pool, rest)}, {KEY: holding})
    return replace(given, **about)  # type: ignore[arg-type]


def report(**counts: int) -> Report:
    return Report(*KEY, **counts)


def granted(taken: Taken) -> Granted:
    (only,) = taken.grants
    return only


@pytest.mark.parametrize(
    ("reported", "rest", "more"),
    [
        pytest.param(report(want_free=100), Others(), 100, id="all that is wanted while there is plenty"),
        pytest.param(report(want_free=900), Others(active=1), 500, id="a share of it when others want some too"),
        pytest.param(report(want_free=900, need=700), Others(active=1), 700, id="what callers wait for, whole"),
        pytest.param(report(want_free=100), Others(held=960), 40, id="never more than is left"),
        pytest.param(report(want_free=100, need=100), Others(held=1000), 0, id="nothing when nothing is left"),
        pytest.param(report(want_free=100, need=100), Others(held=1500), 0, id="nothing after the limit was lowered"),
        pytest.param(report(want_free=100), Others(held=995, active=9), 1, id="the smallest grant, near the end"),
        pytest.param(report(want_free=0), Others(), 0, id="nothing that is not wanted"),
    ],
)
def test_what_is_granted(reported: Report, rest: Others, more: int) -> None:
    taken = take(sync(reported), known(rest=rest))
    assert (taken.status, granted(taken).granted, taken.holdings[KEY].granted) == ("OK", more, more)


def test_a_limit_with_nothing_left_is_told_as_one_unit_so_that_who_holds_nothing_asks_again_and_hears_of_more() -> None:
    nothing = granted(take(sync(report(want_free=1)), known(pool=replace(POOL, limit=0))))
    assert (nothing.granted, nothing.mode, nothing.limit_units) == (0, "closed", 1)


def test_what_a_holder_has_settled_and_nobody_heard_of_is_told_by_lease() -> None:
    told = sync(report(refunded=30))
    assert newly_settled(told, known(Holding(refunded=10))) == {KEY: 20}
    assert newly_settled(told, known(Holding(refunded=30))) == {}


@pytest.mark.parametrize(
    ("rest", "mode"),
    [(Others(), "lease"), (Others(held=999, active=1), "central"), (Others(held=1000, spare=5), "central"), (Others(held=1000), "closed")],
)  # fmt: skip
def test_near_the_end_each_operation_asks_and_at_the_end_none_does(rest: Others, mode: str) -> None:
    assert granted(take(sync(report()), known(rest=rest))).mode == mode


def test_who_has_much_is_asked_for_it_while_others_lack_more_than_is_left() -> None:
    rest = Others(held=700, active=1, spare=0, short=100, wanted=100)
    holding = Holding(granted=300)
    answer = granted(take(sync(report(granted=300, want_free=100)), known(holding, rest)))
    assert answer.keep_free == 150
    idle = granted(take(sync(report(granted=300)), known(holding, rest)))
    assert idle.keep_free == 0
    rich = granted(take(sync(report(granted=300)), known(holding, replace(rest, held=500))))
    assert rich.keep_free is None


def test_a_period_that_is_over_grants_nothing_and_says_which_one_counts_now() -> None:
    answer = granted(take(sync(report(want_free=5)), known(pool=replace(POOL, period_now=8))))
    assert (answer.granted, answer.mode, answer.period_now) == (0, "closed", 8)


def test_a_lease_of_no_limit_is_merged_and_not_answered() -> None:
    taken = take(sync(report(granted=5, used=5)), known(pools={}))
    assert (taken.grants, taken.holdings[KEY].used) == ((), 5)


# Said twice, late, or by somebody else


def test_a_sync_said_again_is_answered_the_same_and_grants_nothing_more() -> None:
    first = take(sync(report(want_free=900)), known(rest=Others(active=3)))
    again = take(sync(report(want_free=900)), known(first.holdings[KEY], Others(active=3), nonces=first.nonces))
    assert again.nonces == first.nonces == Nonces(SECOND, FIRST)
    assert again.holdings == first.holdings
    assert again.grants == first.grants


def test_what_was_granted_and_never_arrived_is_given_up_once_its_holder_took_a_later_answer() -> None:
    taken = take(sync(report(granted=10)), known(Holding(granted=60)))
    assert (taken.holdings[KEY].granted, granted(taken).granted) == (10, 10)


def test_a_grant_under_way_when_the_limit_is_lowered_is_not_told_again() -> None:
    nonces = Nonces(SECOND, FIRST)
    taken = take(sync(report(granted=10)), known(Holding(granted=60), Others(held=990), nonces=nonces))
    assert (taken.holdings[KEY].granted, granted(taken).granted) == (60, 10)


@pytest.mark.parametrize(
    ("nonce", "sync_id", "turn"),
    [
        (SECOND, "s3", Turn.FRESH),
        (FIRST, "s2", Turn.REPEATED),
        (FIRST, "other", Turn.TWIN),
        (None, "s1", Turn.LATE),
        (next_nonce(SECOND, "s3"), "s4", Turn.AHEAD),
    ],
)
def test_the_nonce_tells_which_sync_it_is(nonce: bytes | None, sync_id: str, turn: Turn) -> None:
    assert turn_of(Nonces(SECOND, FIRST), nonce, sync_id) is turn


def test_the_first_sync_of_an_epoch_is_fresh_however_often_it_comes() -> None:
    assert turn_of(NO_NONCES, None, "s1") is Turn.FRESH
    assert turn_of(Nonces(FIRST, None), None, "s1") is Turn.REPEATED
    assert turn_of(Nonces(FIRST, None), None, "other") is Turn.TWIN


def test_a_late_sync_is_merged_and_its_sender_fenced() -> None:
    late = sync(report(granted=10, used=9), sync_id="s1", nonce=None)
    taken = take(late, known(Holding(granted=10, used=2), nonces=Nonces(SECOND, FIRST)))
    assert (taken.status, taken.holdings[KEY].used, taken.standing) == ("FENCED", 9, Standing.CURRENT)


def test_two_processes_with_one_epoch_are_both_fenced_and_none_of_their_returns_believed() -> None:
    twin = sync(report(granted=10, used=3, returned=7, refunded=1), sync_id="other")
    taken = take(twin, known(Holding(granted=10, used=2), nonces=Nonces(SECOND, FIRST)))
    assert (taken.status, taken.standing, taken.alert) == ("FENCED", Standing.TWINS, True)
    assert taken.holdings[KEY] == Holding(granted=10, used=3)
    after = take(sync(report(granted=10, returned=10)), known(taken.holdings[KEY], standing=Standing.TWINS))
    assert (after.status, after.alert, after.holdings[KEY].held) == ("FENCED", False, 10)


def test_an_old_epoch_may_return_and_is_granted_nothing() -> None:
    taken = take(sync(report(granted=10, used=3, returned=7, want_free=9)), known(standing=Standing.SUPERSEDED))
    assert (taken.status, taken.grants, taken.holdings[KEY].held) == ("FENCED", (), 3)


def test_facts_of_an_epoch_that_is_not_known_are_kept() -> None:
    taken = take(sync(report(granted=10, used=3, want_free=9)), known(standing=None, nonces=NO_NONCES))
    assert (taken.status, taken.standing) == ("UNKNOWN_EPOCH", Standing.SUPERSEDED)
    assert taken.holdings[KEY].held == 10


COUNTS = st.builds(
    report,
    **{name: st.integers(0, 30) for name in ("granted", "returned", "used", "refunded", "overrun", "reserved")},
)


@given(st.lists(COUNTS, max_size=6), st.randoms(), st.booleans())
def test_reports_in_any_order_and_any_number_merge_to_the_same_and_no_count_falls(
    reports: list[Report], rng: object, returns: bool
) -> None:
    def merged(some: list[Report]) -> Holding:
        holding = Holding()
        for each in some:
            after = holding.merge(each, returns=returns)
            assert after.merge(each, returns=returns) == after
            assert (after.granted, after.returned, after.used) >= (holding.granted, holding.returned, holding.used)
            holding = after
        return holding

    shuffled = [*reports, *reports[:3]]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merged(shuffled) == merged(reports)


@given(
    limit=st.integers(0, 200),
    asks=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 80), st.integers(0, 80), st.integers(0, 20)), max_size=25
    ),
)
def test_whatever_is_asked_in_whatever_order_all_parts_together_fit(
    limit: int, asks: list[tuple[int, int, int, int]]
) -> None:
    holdings, nonces = [Holding()] * 4, [NO_NONCES] * 4
    for turn, (who, want, need, back) in enumerate(asks):
        own = holdings[who]
        told = report(granted=own.granted, returned=min(own.returned + back, own.granted), want_free=want, need=need)
        rest = others(POOL, [(Standing.CURRENT, each) for n, each in enumerate(holdings) if n != who])
        pool = replace(POOL, limit=limit, turn=turn)
        asked = sync(told, sync_id=f"s{turn}", nonce=nonces[who].current)
        taken = take(asked, known(own, rest, pool, nonces=nonces[who]))
        holdings[who], nonces[who] = taken.holdings[KEY], taken.nonces
        assert sum(each.held for each in holdings) <= limit


# What is in doubt, and what an operator says of it


def test_what_is_written_off_and_returned_after_all_is_given_back_once() -> None:
    holding = Holding(granted=100, used=40).write_off()
    assert holding.held == 40
    assert holding.merge(report(granted=100, used=40, returned=60)).held == 40
    assert holding.merge(report(granted=100, used=70)).held == 70
    assert holding.write_off() == holding


def test_what_was_spent_beyond_its_reservation_is_counted_in_full() -> None:
    assert Holding(granted=10, used=15, overrun=5).held == 15
    taken = take(
        sync(report(granted=10, used=15, overrun=5, want_free=20)), known(Holding(granted=10), Others(held=970))
    )
    assert taken.holdings[KEY].held == 25
    assert granted(taken).granted == 25


# An older copy of itself

RECOVERY = Recovery(through=7, awaited=frozenset({HOLDER, ("other", "h")}), holders=3)


def test_an_older_copy_grants_nothing_tells_nothing_and_takes_what_it_is_told() -> None:
    taken = take(
        sync(report(granted=30, want_free=50), generation="old"), known(Holding(granted=40), recovery=RECOVERY)
    )
    assert (taken.status, granted(taken).granted) == ("RECOVERING", 30)
    more = take(sync(report(granted=60, want_free=90), generation="old"), known(Holding(granted=40), recovery=RECOVERY))
    assert (more.holdings[KEY].granted, granted(more).granted) == (60, 60)


def test_a_period_that_began_after_the_rollback_is_granted_from() -> None:
    taken = take(sync(report(want_free=50)), known(recovery=replace(RECOVERY, through=6)))
    assert (taken.status, granted(taken).granted) == ("RECOVERING", 50)


@pytest.mark.parametrize(
    ("generation", "complete", "heard"), [("gen", True, True), ("old", True, False), ("gen", False, False)]
)
def test_a_holder_has_told_all_once_no_answer_of_before_can_change_it(
    generation: str, complete: bool, heard: bool
) -> None:
    taken = take(sync(generation=generation, complete=complete), known(recovery=RECOVERY))
    assert taken.recovery is not None
    assert (HOLDER not in taken.recovery.awaited) is heard


@pytest.mark.parametrize(
    ("awaited", "holders", "known_holders", "over"),
    [(set(), 3, 3, True), ({("other", "h")}, 3, 3, False), (set(), 4, 3, False), (set(), None, 3, False)],
)
def test_it_is_over_once_every_holder_there_ever_was_has_told_all(
    awaited: set[tuple[str, str]], holders: int | None, known_holders: int, over: bool
) -> None:
    recovery = Recovery(7, frozenset(awaited | {HOLDER}), holders)
    taken = take(sync(), known(recovery=recovery, known_holders=known_holders))
    assert (taken.recovery is None, taken.status) == (over, "OK" if over else "RECOVERING")


def test_a_holder_that_only_the_lost_copy_knew_counts_once_it_has_told_all() -> None:
    recovery = Recovery(7, frozenset(), 4)
    first = take(sync(generation="old"), known(standing=None, recovery=recovery))
    assert first.recovery == replace(recovery, awaited=frozenset({HOLDER}))
    last = take(sync(), known(standing=Standing.SUPERSEDED, recovery=first.recovery, known_holders=4))
    assert last.recovery is None


def test_a_hello_after_the_rollback_stands_for_none_of_before() -> None:
    assert RECOVERY.joined().holders == 4
    assert replace(RECOVERY, holders=None).joined().holders is None


def test_a_grant_of_a_later_period_that_it_lacks_is_waited_for_too() -> None:
    later = Report("calls", 9, granted=5)
    taken = take(sync(later, generation="old"), known(recovery=RECOVERY, pools={}))
    assert taken.recovery is not None
    assert taken.recovery.through == 9


def test_a_second_rollback_awaits_all_of_the_first() -> None:
    again = begin_recovery(RECOVERY, {("third", "h")}, through=5, holders=8)
    assert again == Recovery(7, RECOVERY.awaited | {("third", "h")}, 8)


@pytest.mark.parametrize(
    ("claim", "about", "shown"),
    [
        pytest.param({}, {}, False, id="all as it knows it"),
        pytest.param({"state_version": 10}, {}, True, id="a later state"),
        pytest.param({"state_version": 10, "generation": "old"}, {}, False, id="of another generation"),
        pytest.param({}, {"standing": None}, True, id="an epoch it never gave"),
        pytest.param({"nonce": next_nonce(SECOND, "s3")}, {}, True, id="a nonce it has not given yet"),
        pytest.param({"reports": (report(granted=41),)}, {}, True, id="a grant it never made"),
        pytest.param({"reports": (report(granted=41),)}, {"recovery": RECOVERY}, False, id="which it knows by now"),
    ],
)
def test_a_sync_shows_that_a_database_is_older_than_its_answers(
    claim: dict[str, object], about: dict[str, object], shown: bool
) -> None:
    told = sync(report(granted=40), **claim) if "reports" not in claim else replace(sync(), **claim)  # type: ignore[arg-type]
    assert shows_rollback(told, known(Holding(granted=40), **about)) is shown


def test_who_has_not_been_heard_for_long_has_no_share_in_what_is_left() -> None:
    quiet, lively = Holding(granted=5, want_free=9, turn=1), Holding(granted=5, want_free=9, turn=30)
    rest = others(
        replace(POOL, turn=31), [(Standing.CURRENT, quiet), (Standing.CURRENT, lively), (Standing.SUPERSEDED, lively)]
    )
    assert rest == Others(held=15, active=1, spare=10, short=4, wanted=9)
