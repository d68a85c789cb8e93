"""The holder: what it may go on with, what it says, and which answers change anything."""

import pytest
from msgspec.structs import replace

from sidemeter.holder import (
    MAX_LEASES_PER_SYNC,
    Head,
    Heard,
    Holder,
    LeaseAnswer,
    LeaseGrant,
    Standing,
    may_resume,
)
from sidemeter.leases import ALLOWED, Counts, Lease

KEY = ("limit", 1)
HEAD = Head("hello", 3, "boot", b"n2", b"n1", "s3")


def holder_of(*leases: tuple[tuple[str, int], Counts]) -> Holder:
    return Holder.resume("agent", HEAD, [(key, n, counts) for n, (key, counts) in enumerate(leases)])


def answer(*grants: LeaseGrant, **about: object) -> LeaseAnswer:
    return replace(LeaseAnswer("OK", "s3", b"n3", "gen", 7, grants), **about)


def grant(granted: int, **about: object) -> LeaseGrant:
    return replace(LeaseGrant(*KEY, granted, limit_units=1000, period_now=1), **about)


def only(holder: Holder) -> Lease:
    (lease,) = holder.leases
    return lease


@pytest.mark.parametrize(
    ("change", "resumes"),
    [
        pytest.param({}, True, id="all agree"),
        pytest.param({"standing": Standing("hello", 3, b"n1")}, True, id="killed between cell and database"),
        pytest.param({"standing": Standing("hello", 3, b"n0")}, False, id="an older copy of the directory"),
        pytest.param({"standing": Standing("hello", 3, b"n3")}, False, id="an older image of the memory"),
        pytest.param({"standing": Standing("other", 3, b"n2")}, False, id="another holder"),
        pytest.param({"head": replace(HEAD, steps=2)}, False, id="a step that it does not know"),
        pytest.param({"standing": Standing("hello", 3, b"n2", 2)}, True, id="a step that the cell does not know yet"),
        pytest.param({"standing": Standing("hello", 4, b"n2")}, False, id="another epoch"),
        pytest.param({"standing": None}, False, id="a new directory"),
        pytest.param({"head": None}, False, id="no cell"),
        pytest.param({"boot_id": "next"}, False, id="another run of the machine"),
        pytest.param({"names_known": False}, False, id="a lease that the database does not know"),
    ],
)
def test_a_process_goes_on_as_who_it_was_only_if_all_agree(change: dict[str, object], resumes: bool) -> None:
    given = {"head": HEAD, "standing": Standing("hello", 3, b"n2"), "boot_id": "boot", "names_known": True} | change
    head, standing, boot_id = given["head"], given["standing"], given["boot_id"]
    assert may_resume(head, standing, boot_id, names_known=bool(given["names_known"])) is resumes  # type: ignore[arg-type]


def test_a_grant_counts_once_however_often_and_in_whatever_order_it_is_told() -> None:
    holder = holder_of((KEY, Counts(granted=5)))
    holder.report(0)
    heard = holder.hear(answer(grant(9)), "s4")
    assert (heard.store, heard.turned, only(holder).granted) == ([only(holder)], True, 9)
    assert holder.head == Head("hello", 3, "boot", b"n3", b"n2", "s4")
    for late in (answer(grant(9)), answer(grant(50))):
        assert holder.hear(late, "s5") == Heard()
    assert holder.hear(answer(grant(7), sync_id="s4"), "s5").store == []
    assert only(holder).granted == 9


def test_what_is_not_wanted_is_to_be_kept_as_returned_before_it_is_said() -> None:
    holder = holder_of((KEY, Counts(granted=100, used=20)))
    out = holder.report(0)
    assert out.store == [only(holder)]
    assert only(holder).counts == Counts(granted=100, returned=80, used=20)
    assert out.message.leases[0].returned == 80


def test_what_is_used_steadily_is_wanted_ahead_and_not_returned() -> None:
    holder = holder_of((KEY, Counts(granted=5000)))
    lease = only(holder)
    lease.demand.roll(0, 0, 1000)
    for second in range(1, 6):
        lease.used += 100
        holder.report(1000 * second)
    (told,) = holder.report(6000).message.leases
    assert told.want_free == lease.demand.ahead
    assert 0 < lease.demand.ahead <= 200
    assert lease.free <= lease.demand.at_most


def test_what_callers_wait_for_is_needed_until_an_answer_to_it_came() -> None:
    holder = holder_of((KEY, Counts()))
    lease = only(holder)
    holder.leases.spend([(lease, 30)])
    assert holder.report(0).message.leases[0].need == 30
    holder.leases.spend([(lease, 5)])
    assert holder.report(10).message.leases[0].need == 35
    holder.hear(answer(grant(30)), "s4")
    assert (lease.need, lease.is_short) == (5, False)
    assert holder.leases.spend([(lease, 30)]) is ALLOWED


def test_what_an_answer_did_not_bring_is_waited_for_without_hurry() -> None:
    holder = holder_of((KEY, Counts()))
    lease = only(holder)
    holder.leases.spend([(lease, 30)])
    holder.report(0)
    holder.hear(answer(grant(10, mode="central")), "s4")
    assert lease.is_short
    assert holder.leases.spend([(lease, 30)]).answer == "ask"
    assert not holder.leases.hurry
    assert holder.report(100).message.leases[0].need == 30


def test_a_sync_sent_again_has_the_same_id_and_only_its_first_copy_counts_as_told() -> None:
    holder = holder_of((KEY, Counts(granted=10, used=4)), (("other", 1), Counts(granted=10, used=4)))
    holder.generation = "gen"
    lease = next(iter(holder.leases))
    first = holder.report(0).message
    holder.leases.take_back([(lease, 1)])
    second = holder.report(10).message
    assert (first.sync_id, first.nonce) == (second.sync_id, second.nonce) == ("s3", b"n2")
    holder.hear(answer(), "s4")
    assert lease.told != lease.counts
    assert [each.limit for each in holder.report(20).message.leases] == ["limit"]


def test_after_another_generation_every_lease_is_told_again_and_only_then_is_it_complete() -> None:
    names = [f"l{n}" for n in range(5 * MAX_LEASES_PER_SYNC // 2)]
    holder = holder_of(*(((name, 1), Counts(granted=1, used=1)) for name in names))
    told: list[str] = []
    complete = []
    for n in range(3):
        message = holder.report(n).message
        told += [each.limit for each in message.leases]
        complete.append(message.complete)
        holder.hear(answer(sync_id=message.sync_id, generation="gen"), f"t{n}")
        if n == 0:
            told = []  # what was told before the generation was heard of is told again
    assert complete == [False, False, False]
    message = holder.report(9).message
    told += [each.limit for each in message.leases]
    assert message.complete
    assert sorted(told) == sorted(names)


@pytest.mark.parametrize("status", ["FENCED", "UNKNOWN_EPOCH"])
def test_a_lost_epoch_spends_nothing_returns_everything_and_is_settled_once_that_is_told(status: str) -> None:
    holder = holder_of((KEY, Counts(granted=10, used=4)))
    lease = only(holder)
    holder.leases.reserve("h", [(lease, 2)], 10_000)
    holder.report(0)
    heard = holder.hear(answer(status=status), "s4")
    assert (heard.lost, holder.is_lost) == (True, True)
    assert holder.leases.spend([(lease, 1)]).reason == "no_lease"
    holder.leases.commit("h", [1])
    message = holder.report(10).message
    assert (message.leases[0].returned, message.leases[0].used, message.leases[0].want_free) == (5, 5, 0)
    assert not holder.is_settled
    assert not holder.hear(answer(status="FENCED", sync_id="s4"), "s5").lost
    assert holder.is_settled


def test_a_stop_returns_all_but_what_is_reserved_and_wants_nothing() -> None:
    holder = holder_of((KEY, Counts(granted=10, used=4)))
    lease = only(holder)
    holder.leases.reserve("h", [(lease, 2)], 10_000)
    holder.stop()
    assert holder.leases.spend([(lease, 1)]).reason == "agent_stopping"
    (told,) = holder.report(0).message.leases
    assert (told.returned, told.reserved, told.want_free) == (4, 2, 0)
    holder.leases.release("h")
    assert holder.report(10).message.leases[0].returned == 6


def test_a_recall_returns_down_to_what_may_be_kept_and_hurries() -> None:
    holder = holder_of((KEY, Counts(granted=100)))
    lease = only(holder)
    lease.demand._per_interval = 100 << 10
    holder.report(0)
    holder.hear(answer(grant(100, keep_free=30)), "s4")
    assert holder.leases.hurry
    assert holder.report(10).message.leases[0].returned == 70


def test_who_waits_for_more_than_a_recall_leaves_returns_nothing_and_does_not_hurry_for_it() -> None:
    holder = holder_of((KEY, Counts(granted=100)))
    only(holder).need = 200
    holder.report(0)
    only(holder).need += 50  # asked for since
    holder.leases.hurry = False
    holder.hear(answer(grant(100, keep_free=30)), "s4")
    assert only(holder).need == 50
    assert holder.leases.hurry  # what is beyond that is returned at once
    assert holder.report(10).message.leases[0].returned == 50
    only(holder).need = 150
    holder.hear(answer(grant(100, keep_free=30), sync_id="s4"), "s5")
    assert not holder.leases.hurry


def test_a_limit_that_nothing_was_left_of_is_asked_for_again_while_callers_are_turned_away() -> None:
    holder = holder_of((KEY, Counts(granted=10, used=10)))
    lease = only(holder)
    holder.report(0)
    holder.hear(answer(grant(10, mode="closed", limit_units=1)), "s4")
    assert holder.leases.spend([(lease, 5)]).reason == "limit_reached"
    (told,) = holder.report(1000).message.leases
    assert told.want_free == 1


def test_a_limit_that_too_little_was_left_of_is_told_of_while_callers_are_turned_away() -> None:
    holder = holder_of((KEY, Counts(granted=10, used=10)))
    lease = only(holder)
    holder.report(0)
    holder.hear(answer(grant(10, mode="central", limit_units=3)), "s4")
    for now_ms in (1000, 2000):
        assert holder.leases.spend([(lease, 5)]).reason == "limit_reached"
        message = holder.report(now_ms).message
        assert [(each.limit, each.want_free, each.need) for each in message.leases] == [("limit", 0, 0)]
        holder.hear(answer(grant(10, mode="central", limit_units=3), sync_id=message.sync_id), f"s{now_ms}")
    message = holder.report(3000).message
    holder.hear(answer(grant(10, limit_units=100), sync_id=message.sync_id), "s6")
    assert holder.leases.spend([(lease, 5)]).reason == "lease_short"


def test_a_new_period_is_followed_and_the_old_one_forgotten_only_when_the_new_one_is_kept() -> None:
    holder = holder_of((KEY, Counts(granted=10, used=10)))
    old = only(holder)
    holder.report(0)
    holder.hear(answer(grant(10, mode="closed", period_now=2)), "s4")
    new = holder.leases.current("limit")
    assert new is not None
    assert new.key == ("limit", 2)
    holder.leases.spend([(new, 1)])
    holder.report(10)
    assert holder.hear(answer(sync_id="s4"), "s5").drop == []
    holder.report(20)
    heard = holder.hear(answer(replace(grant(5), period=2, period_now=2), sync_id="s5"), "s6")
    assert (heard.store, heard.drop) == ([new], [old])
    assert list(holder.leases) == [new]


def test_of_many_leases_those_that_nobody_uses_rest_and_wake_when_they_are_used() -> None:
    holder = holder_of(*(((f"l{n}", 1), Counts(granted=1, used=1)) for n in range(50)))
    for n in range(3):
        message = holder.report(1000 * n).message
        holder.hear(answer(sync_id=message.sync_id), f"t{n}")
    assert holder.report(4000).message.leases == ()
    assert holder.leases.awake() == []
    lease = holder.leases.current("l7")
    assert lease is not None
    holder.leases.spend([(lease, 1)])
    assert [each.limit for each in holder.report(5000).message.leases] == ["l7"]


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_so_many_leases_go_into_one_sync_and_those_with_callers_first(more: int) -> None:
    count = MAX_LEASES_PER_SYNC + more
    holder = holder_of(*(((f"l{n}", 1), Counts(granted=1, used=1)) for n in range(count)))
    last = holder.leases.current(f"l{count - 1}")
    assert last is not None
    holder.leases.spend([(last, 1)])
    message = holder.report(0).message
    assert message.leases[0].limit == f"l{count - 1}"
    assert (len(message.leases) == count) is message.complete is (more <= 0)
