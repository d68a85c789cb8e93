"""Worked examples of burning credits down hold, exactly, through the public functions."""

from collections import Counter
from decimal import Decimal

import pytest
from credit_vectors import Case, Found, at, cases, check, grant, money, overdraw, resets

from sidemeter_control.metering.events import parse_time
from sidemeter_control.pricing.credits.burning import Burned, burn, opened, segmented
from sidemeter_control.pricing.credits.instants import Grant, Line, Segment, burn_order, instants


@pytest.mark.parametrize("case", cases())
def test_credits_burn_as_asserted(case: Case) -> None:
    KINDS[case.get("kind", "balance")](case)


def balance(case: Case) -> None:
    start_us, until_us = parse_time(case["start_at"]), parse_time(case["query_at"])
    grants = [grant(each, start_us) for each in case["grants"]]
    ends = {each.at_us: each for each in resets(case)}
    starting = case.get("starting_balances") or {}
    state = opened(
        grants, start_us, ends.pop(start_us, None), {key: Decimal(amount) for key, amount in starting.items()}
    )
    moments = instants(grants, ends.values(), start_us, until_us)
    used = [(parse_time(each["at"]), Line(Decimal(each["amount"]))) for each in case["usage"]]
    burned = burn(state, grants, ends.values(), segmented(moments, used), overdraw(case))
    check(case, found(burned, grants))


def found(burned: Burned, grants: list[Grant]) -> Found:
    applied: Counter[str] = Counter()
    for each in burned.allocations:
        applied[each.grant] += each.amount  # type: ignore[assignment]
    held = {each.id: burned.state.balances.get(each.id, Decimal(0)) for each in grants}
    return Found(burned.balance, burned.overage, burned.state.used, held, applied, burned.rejected)


def active(case: Case) -> None:
    (one,) = (grant(each) for each in case["grants"])
    for name, expected in case["expected"].items():
        match name:
            case "active":
                assert one.is_active_at(parse_time(case["query_at"])) is expected
            case "active_from":
                assert one.active.start_us == at(expected)
            case "active_to":
                assert one.active.end_us == at(expected)
            case _:
                pytest.fail(f"nothing is known of {name}")


def order(case: Case) -> None:
    grants = sorted((grant(each) for each in case["grants"]), key=burn_order)
    assert [each.id for each in grants] == case["expected"]["order"]


def allocate(case: Case) -> None:
    grants = [grant(each) for each in case["grants"]]
    lines = [Line(Decimal(each["amount"]), frozenset(each.get("scope") or ())) for each in case["usage"]]
    now_us = max([each.effective_at_us for each in grants], default=0)
    check(case, found(burn(opened(grants, now_us), grants, [], [Segment(now_us, now_us + 1, lines)]), grants))


def conversion(case: Case) -> None:
    assert money(case, Decimal(case["credits"])) == Decimal(case["expected"]["amount"])


KINDS = {"balance": balance, "active": active, "order": order, "allocate": allocate, "conversion": conversion}
