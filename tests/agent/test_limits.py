"""Limits: the decision, and own usage that is in the known total or in a mark, never in both and never in neither."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.events import Event
from sidemeter.limits import MAX_MARKS, Limit, Limits, Tracked, decide
from sidemeter.meters import Meter

SUM = Meter("call", "SUM", "tokens")


def limit(**changes: Any) -> Limit:
    fields: dict[str, Any] = {
        "id": "acme/tokens",
        "customer": "acme",
        "feature": "tokens",
        "kind": "METERED",
        "enforcement": "HARD",
        "policy_version": 1,
        "limit": Decimal(10),
        "used": Decimal(0),
        "meter": SUM,
    }
    return Limit(**(fields | changes))


def known(*limits: Limit) -> Limits:
    limits_known = Limits(allow_unknown=False)
    subjects = {"acme": [each.id for each in limits]}
    limits_known.learn(subjects, [(each, 1, 0) for each in limits])
    limits_known.publish(subjects)
    return limits_known


def call(data: str | None = None, **changes: Any) -> Event:
    return Event(**({"id": "1", "source": "s", "type": "call", "subject": "acme", "data": data} | changes))


@pytest.mark.parametrize(
    ("changes", "quantity", "allowed", "reason"),
    [
        ({"used": Decimal(9)}, 1, True, "within_limit"),
        ({"used": Decimal(9)}, Decimal("0.000000001"), True, "within_limit"),
        ({"used": Decimal(10)}, 1, False, "limit_reached"),
        ({"used": Decimal("9.5")}, Decimal("0.500000001"), False, "limit_reached"),
        ({"used": Decimal(12), "enforcement": "SOFT"}, 1, True, "soft_limit_exceeded"),
        ({"limit": None}, 10**30, True, "unlimited"),
        ({"kind": "BOOLEAN", "value": "true"}, 1, True, "entitled"),
        ({"kind": "BOOLEAN", "value": "false"}, 1, False, "not_entitled"),
        ({"kind": "STATIC", "value": "5"}, 1, True, "entitled"),
        ({"used": Decimal("9.5"), "meter": Meter("call", "AVG", "tokens")}, 1, True, "within_limit"),
        ({"used": Decimal(10), "meter": Meter("call", "MAX", "tokens")}, 1, False, "limit_reached"),
    ],
)
def test_the_decision(changes: dict[str, Any], quantity: int | Decimal, allowed: bool, reason: str) -> None:
    decision = decide(Tracked(limit(**changes), 5, 0), "acme", quantity)
    assert (decision.allowed, decision.reason, decision.as_of_us) == (allowed, reason, 5)


def test_a_decision_shows_what_it_was_made_from() -> None:
    limits = known(limit(used=Decimal(4), resets_at_us=9, policy_version=3))
    limits.recorded(1, call('{"tokens":2.5}'))
    decision = limits.check("acme", "tokens")
    assert (decision.limit, decision.used, decision.remaining) == (Decimal(10), Decimal("6.5"), Decimal("3.5"))
    assert (decision.resets_at_us, decision.policy_version) == (9, 3)


def test_a_feature_that_a_known_subject_lacks_is_denied() -> None:
    assert known(limit()).check("acme", "other").reason == "not_entitled"


@pytest.mark.parametrize("allow", [True, False])
def test_an_unknown_subject_is_answered_by_the_setting(allow: bool) -> None:
    limits = Limits(allow_unknown=allow)
    assert (limits.check("acme", "tokens").allowed, limits.weigh(call()).allowed) == (allow, allow)
    assert limits.check("acme", "tokens").reason == "unknown_subject"


@pytest.mark.parametrize(
    ("data", "amount"),
    [
        ('{"tokens":7}', "7"),
        ('{"tokens":"0.100"}', "0.1"),
        ('{"tokens":1E+5}', "100000"),
        ('{"tokens":-3}', "-3"),
        ('{"tokens":123456789012345678.123456789}', "123456789012345678.123456789"),
        ('{"tokens":1000000000000000000}', "0"),
        ('{"tokens":0.0000000001}', "0"),
        ('{"tokens":1E-999999}', "0"),
        ('{"tokens":1E+999999}', "0"),
        ('{"tokens":"NaN"}', "0"),
        ('{"tokens":" 1"}', "0"),
        ('{"tokens":true}', "0"),
        ('{"tokens":null}', "0"),
        ('{"tokens":[1]}', "0"),
        ("{}", "0"),
        (None, "0"),
        (f'{{"tokens":{"9" * 5000}}}', "0"),
    ],
)
def test_an_event_adds_what_the_control_plane_will_count(data: str | None, amount: str) -> None:
    limits = known(limit())
    limits.recorded(1, call(data))
    assert limits.check("acme", "tokens").used == Decimal(amount)


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({"type": "other"}, 0),
        ({"subject": "zoo"}, 0),
        ({"time_us": 99}, 0),
        ({"time_us": 100}, 1),
        ({"time_us": None}, 1),
    ],
)
def test_only_events_of_the_meter_the_subject_and_the_period_add_up(changes: dict[str, Any], used: int) -> None:
    limits = known(limit(meter=Meter("call", "COUNT"), period_start_us=100))
    limits.recorded(1, call(**changes))
    assert limits.check("acme", "tokens").used == used


def test_an_event_is_weighed_by_its_tightest_limit() -> None:
    calls = limit(id="acme/calls", feature="calls", meter=Meter("call", "COUNT"), limit=Decimal(2))
    limits = known(limit(), calls)
    assert (limits.weigh(call('{"tokens":10}')).allowed, limits.weigh(call('{"tokens":11}')).feature) == (
        True,
        "tokens",
    )
    assert limits.weigh(call('{"tokens":1}')).feature == "calls"
    assert limits.weigh(call(type="free")).reason == "no_limit"


amounts = st.lists(st.decimals(0, 10**9, places=9), max_size=200)


@given(amounts, st.data())
def test_own_usage_is_exact_while_marks_are_few_and_never_too_low_when_they_are_merged(
    amounts: list[Decimal], data: st.DataObject
) -> None:
    tracked = Tracked(limit(), 0, 0)
    counted = 0
    for seq, amount in enumerate(amounts, 1):
        tracked.add(seq, amount)
        if data.draw(st.integers(0, 9)) == 0:
            counted = data.draw(st.integers(counted, seq))
            tracked.learn(limit(used=sum(amounts[:counted], Decimal(0))), 0, counted)
    true_use = sum(amounts, Decimal(0))
    assert tracked.used >= true_use
    assert len(tracked._marks) <= MAX_MARKS
    if len(amounts) <= MAX_MARKS:
        assert tracked.used == true_use
    tracked.learn(limit(used=true_use), 0, len(amounts))
    assert (tracked.used, tracked.own) == (true_use, 0)


@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), max_size=150))
def test_what_is_undone_leaves_no_trace(rows: list[tuple[int, bool]]) -> None:
    limits = known(limit())
    for seq, (amount, kept) in enumerate(rows, 1):
        event = call(f'{{"tokens":{amount}}}')
        limits.recorded(seq, event)
        if not kept:
            limits.undone(seq, event)
    assert limits.check("acme", "tokens").used == sum(amount for amount, kept in rows if kept)


def test_events_recorded_before_their_limit_was_known_are_counted_once_it_is() -> None:
    limits = Limits(allow_unknown=False)
    events = [(seq, call('{"tokens":1}')) for seq in range(1, 6)]
    for seq, event in events[:4]:
        limits.recorded(seq, event)
    missed = limits.learn({"acme": ["acme/tokens"]}, [(limit(used=Decimal(2)), 1, 2)])
    limits.recorded(*events[4])
    assert not limits.knows("acme")
    limits.recount(missed, events[:4])
    limits.publish({"acme": ["acme/tokens"]})
    assert limits.check("acme", "tokens").used == 5


def test_a_second_subject_of_a_customer_brings_its_own_usage() -> None:
    limits = known(limit())
    missed = limits.learn({"acme-2": ["acme/tokens"]}, [(limit(), 2, 0)])
    limits.recount(missed, [(1, call('{"tokens":3}', subject="acme-2")), (2, call('{"tokens":4}'))])
    limits.publish({"acme-2": ["acme/tokens"]})
    assert limits.check("acme", "tokens").used == limits.check("acme-2", "tokens").used == 3


def test_active_subjects_are_asked_about_first_then_the_longest_unasked() -> None:
    limits = known(limit())
    for subject in ("a", "b", "c"):
        limits.publish({subject: ["acme/tokens"]})
    limits.publish({"acme": []})
    limits.see("c")
    limits.see("new")
    assert limits.to_ask(10) == ["c", "new", "a", "b", "acme"]
    assert limits.to_ask(2, first="b") == ["b", "c"]
    limits.publish({"a": ["acme/tokens"], "c": []})
    assert limits.to_ask(10) == ["new", "b", "acme", "a", "c"]


def test_a_subject_known_to_have_no_limits_waits_its_turn_however_active_it_is() -> None:
    limits = Limits(allow_unknown=False)
    limits.publish({"free-1": [], "free-2": []})
    limits.recorded(1, call(subject="free-2"))
    limits.see("new")
    assert limits.to_ask(10) == ["new", "free-1", "free-2"]


def test_active_subjects_leave_a_quarter_of_the_questions_to_the_others() -> None:
    limits = Limits(allow_unknown=False)
    for number in range(100):
        limits.publish({f"quiet-{number}": []})
        limits.see(f"active-{number}")
    for turn in range(10):
        asked = limits.to_ask(8)
        assert asked[6:] == [f"quiet-{2 * turn}", f"quiet-{2 * turn + 1}"]
        assert len(set(asked)) == 8
        limits.publish({subject: [] for subject in asked})
        for number in range(100):
            limits.see(f"new-{turn}-{number}")


def test_the_quiet_are_forgotten_when_there_are_too_many() -> None:
    limits = Limits(allow_unknown=False, max_subjects=10)
    for number in range(11):
        limits.publish({f"s{number}": []})
    assert not limits.knows("s0")
    assert limits.knows("s10")
