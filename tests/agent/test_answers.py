"""Answers: what is written is read back, exact decimals as strings, instants in UTC."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter.answers import DecisionAnswer, Problem, Quota, encode, rfc_3339, unix_us
from sidemeter.events import Receipt
from sidemeter.limits import Decision, QuotaView

LATEST_US = 253_402_300_799_999_999
INSTANTS = st.integers(min_value=0, max_value=LATEST_US)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)


@given(INSTANTS)
def test_an_instant_is_read_back_to_the_microsecond(instant_us: int) -> None:
    assert unix_us(rfc_3339(instant_us)) == instant_us


@given(DECIMALS, INSTANTS)
def test_a_decision_is_read_back(amount: Decimal, instant_us: int) -> None:
    decision = Decision(
        allowed=True,
        reason="within_limit",
        subject="acme",
        feature="tokens",
        limit=amount,
        used=amount,
        resets_at_us=instant_us,
        as_of_us=instant_us,
        policy_version=1,
        receipt=Receipt("1", "chat"),
    )
    assert msgspec.json.decode(encode(DecisionAnswer.of(decision)), type=DecisionAnswer).decision() == decision


@pytest.mark.parametrize("value", [None, '"gpt-4"', '{"models":["a","b"]}', "3"])
def test_a_quota_is_read_back(value: str | None) -> None:
    view = QuotaView(
        customer="acme",
        feature="tokens",
        kind="METERED",
        enforcement="HARD",
        value=value,
        limit=Decimal("1000.50"),
        used=Decimal(0),
        remaining=None,
        resets_at_us=None,
        as_of_us=0,
        policy_version=3,
    )
    assert msgspec.json.decode(encode(Quota.of(view)), type=Quota).view() == view
    assert json.loads(encode(Quota.of(view)))["limit"] == "1000.50"


def test_a_problem_is_titled_as_its_status() -> None:
    assert json.loads(encode(Problem.of(404, "unknown_subject", "its limits are not known"))) == {
        "type": "urn:sidemeter:problem:unknown_subject",
        "title": "Not Found",
        "status": 404,
        "detail": "its limits are not known",
        "code": "unknown_subject",
    }
