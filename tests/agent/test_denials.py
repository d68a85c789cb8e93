"""What is refused is counted by reason, and told once of each limit and each amount that it had."""

from decimal import Decimal

import msgspec
import pytest

from sidemeter.denials import MAX_DENIED, MAX_DENIED_PER_SYNC, Denials, Denied
from sidemeter.tracked import Limit

TOKENS = Limit("acme/tokens", "acme", "tokens", "METERED", "HARD", 1, limit=Decimal(10), period=7)


def limit(number: int) -> Limit:
    return msgspec.structs.replace(TOKENS, id=f"acme/{number}")


def test_a_limit_is_told_once_however_often_it_refuses() -> None:
    denials = Denials()
    denials.add("limit_reached", TOKENS)
    denials.add("limit_reached", TOKENS)
    told = denials.to_tell()
    assert told == (Denied("acme/tokens", 7, "10"),)
    assert denials.to_tell() == told  # until it was answered
    denials.told(told)
    denials.add("limit_reached", TOKENS)
    assert denials.to_tell() == ()
    assert (denials.by_reason, denials.total) == ({"limit_reached": 3}, 3)


def test_it_is_told_again_in_another_period_and_when_it_was_raised() -> None:
    denials = Denials()
    for changes in ({}, {"period": 8}, {"limit": Decimal(11)}):
        denials.add("limit_reached", msgspec.structs.replace(TOKENS, **changes))
        (told,) = denials.to_tell()
        denials.told([told])
        assert (told.period, told.amount) == (changes.get("period", 7), str(changes.get("limit", 10)))


def test_a_limit_that_was_raised_while_the_sync_was_under_way_is_told_with_the_next() -> None:
    denials = Denials()
    denials.add("limit_reached", TOKENS)
    under_way = denials.to_tell()
    denials.add("limit_reached", msgspec.structs.replace(TOKENS, limit=Decimal(20)))
    denials.told(under_way)
    assert [each.amount for each in denials.to_tell()] == ["20"]


@pytest.mark.parametrize("reason", ["lease_short", "no_lease", "not_entitled", "unknown_subject"])
def test_what_is_refused_for_another_reason_is_only_counted(reason: str) -> None:
    denials = Denials()
    denials.add(reason, TOKENS)
    denials.add("limit_reached", None)
    assert (denials.to_tell(), denials.by_reason) == ((), {reason: 1, "limit_reached": 1})


def test_another_copy_of_the_database_is_told_everything() -> None:
    denials = Denials()
    denials.add("limit_reached", TOKENS)
    denials.told(denials.to_tell())
    denials.tell_anew()
    assert [each.limit for each in denials.to_tell()] == ["acme/tokens"]


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_sync_tells_only_so_many_and_the_next_one_the_rest(more: int) -> None:
    denials = Denials()
    for number in range(MAX_DENIED_PER_SYNC + more):
        denials.add("limit_reached", limit(number))
    first = denials.to_tell()
    assert len(first) == min(MAX_DENIED_PER_SYNC, MAX_DENIED_PER_SYNC + more)
    denials.told(first)
    assert len(denials.to_tell()) == max(more, 0)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_only_so_many_limits_are_remembered(more: int) -> None:
    denials = Denials()
    for number in range(MAX_DENIED + more):
        denials.add("limit_reached", limit(number))
    assert denials.to_tell()[0].limit == ("acme/1" if more > 0 else "acme/0")
    assert denials.total == MAX_DENIED + more
