"""What is worth an alert, and how it is said: exactly at a threshold, in the customer's language."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.limits.alerts import AlertKind, Finding, Said, is_news, of_budget, of_quota
from sidemeter_control.limits.budgets import Budget, BudgetAnswer
from sidemeter_control.limits.entitlements import QuotaAnswer, QuotaPart, QuotaSource
from sidemeter_control.pricing.periods import EVER, Period
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, ResetPeriod
from sidemeter_control.pricing.words import Language

MONTH = Period(10, 20)
BUDGET = Budget(
    "team-a", "acme", Decimal(1000), "tokens", ResetPeriod.MONTH, (("team", "a"),), Enforcement.SOFT, (50, 90, 120), 0
)


def spent(used: str, **changes: Any) -> list[Finding]:
    return list(of_budget(BudgetAnswer(replace(BUDGET, **changes), MONTH, Decimal(used), 0, "tokens")))


def quota(used: str | None, limit: str | None, period: Period | None = MONTH) -> list[Finding]:
    start, end = (None, None) if period is None else (period.start_us, period.end_us)
    numbers = [None if each is None else Decimal(each) for each in (limit, used, None, None)]
    answer = QuotaAnswer("calls", EntitlementKind.METERED, Enforcement.SOFT, True, None, *numbers, start, end, 0)
    return list(of_quota(answer, "API calls", "calls"))


@pytest.mark.parametrize(
    ("amount", "reached"),
    [
        ("499.999999999", []),
        ("500", [50]),
        ("899.9", [50]),
        ("900", [50, 90]),
        ("1199.999999999", [50, 90]),
        ("1200", [50, 90, 120]),
        ("-5", []),
    ],
)
def test_a_budget_says_each_threshold_from_exactly_there_on(amount: str, reached: list[int]) -> None:
    assert [each.threshold for each in spent(amount)] == reached
    assert {each.kind for each in spent(amount)} <= {AlertKind.BUDGET_THRESHOLD}


def test_a_threshold_of_another_amount_or_slice_is_another_one() -> None:
    (first,) = spent("500")
    assert (first.what, first.period_start_us) == ("budget:team-a", 10)
    others = [
        spent("600", amount=Decimal(1200))[0],
        spent("500", slice=(("team", "b"),))[0],
        spent("500", reset=ResetPeriod.WEEK)[0],
        spent("500", meter_key="calls")[0],
    ]
    assert len({each.terms for each in (first, *others)}) == 5
    assert spent("500", enforcement=Enforcement.HARD, thresholds=(50,))[0].terms == first.terms


@pytest.mark.parametrize(
    ("used", "limit", "found"),
    [
        ("49.9", "100", []),
        ("50", "100", [50]),
        ("75", "100", [50, 75]),
        ("90", "100", [50, 75, 90]),
        ("100", "100", [50, 75, 90, 100]),
        ("100.1", "100", [50, 75, 90, 100, None]),
        ("0", "0", []),
        ("0.1", "0", [None]),
        (None, None, []),
        ("7", None, []),
    ],
)
def test_a_quota_says_the_usual_thresholds_and_where_its_overage_begins(
    used: str | None, limit: str | None, found: list[int | None]
) -> None:
    assert [each.threshold for each in quota(used, limit)] == found
    assert [each.kind is AlertKind.OVERAGE_STARTED for each in quota(used, limit)] == [each is None for each in found]


def test_a_quota_of_another_limit_is_another_one_if_that_was_agreed_on_and_not_if_it_only_came_so() -> None:
    def terms(*parts: tuple[QuotaSource, int]) -> str:
        limit = Decimal(sum(quantity for _, quantity in parts))
        numbers = (limit, limit, None, None)
        answer = QuotaAnswer("f", EntitlementKind.METERED, Enforcement.SOFT, True, None, *numbers, 10, 20, 0)
        named = tuple(QuotaPart(source, "", Decimal(quantity)) for source, quantity in parts)
        return next(of_quota(replace(answer, parts=named), "f", None)).terms

    plan, more = (QuotaSource.PLAN, 100), (QuotaSource.ADD_ON, 7)
    left_over, credits = (QuotaSource.ROLLOVER, 5), (QuotaSource.CREDITS, 3)
    assert terms(plan) == terms(plan, left_over) == terms(plan, credits) == "100"
    assert terms(plan, more) == terms((QuotaSource.OVERRIDE, 107)) == "107"


def test_what_never_resets_has_one_period() -> None:
    (found,) = quota("50", "100", None)
    assert (found.what, found.period_start_us) == ("quota:calls", EVER.start_us)


@given(used=st.decimals("0", "10000", places=9), amount=st.decimals("0.000000001", "10000", places=9))
def test_a_threshold_is_reached_when_so_many_hundredths_of_the_amount_are(used: Decimal, amount: Decimal) -> None:
    reached = [each.threshold for each in spent(format(used, "f"), amount=amount)]
    assert reached == [
        percent for percent in BUDGET.thresholds if int(used * 10**9) * 100 >= int(amount * 10**9) * percent
    ]


MONEY = {"currency": "EUR", "unit": None}
TOKENS = {"currency": None, "unit": "tokens"}


@pytest.mark.parametrize(
    ("kind", "threshold", "measured", "english", "german"),
    [
        (
            AlertKind.BUDGET_THRESHOLD,
            90,
            MONEY,
            "90% of the budget team-a is spent: 1,234.5 EUR of 1,300 EUR",
            "90 % des Budgets team-a sind ausgegeben: 1.234,5 EUR von 1.300 EUR",
        ),
        (
            AlertKind.QUOTA_THRESHOLD,
            50,
            TOKENS,
            "50% of the quota team-a is used: 1,234.5 tokens of 1,300 tokens",
            "50 % des Kontingents team-a sind verbraucht: 1.234,5 tokens von 1.300 tokens",
        ),
        (
            AlertKind.OVERAGE_STARTED,
            None,
            TOKENS | {"unit": None},
            "More is used than the quota team-a has: 1,234.5 units of 1,300 units",
            "Es ist mehr verbraucht, als das Kontingent team-a umfasst: 1.234,5 Einheiten von 1.300 Einheiten",
        ),
        (
            AlertKind.LIMIT_DENIED,
            None,
            TOKENS,
            "Something was refused, because team-a allows no more: 1,234.5 tokens of 1,300 tokens are used",
            "Etwas wurde abgelehnt, weil team-a nicht mehr zulässt: 1.234,5 tokens von 1.300 tokens sind verbraucht",
        ),
        (
            AlertKind.LEASE_IN_DOUBT,
            None,
            TOKENS,
            "1,234.5 tokens of team-a (1,300 tokens) are held by an agent that does not answer",
            "1.234,5 tokens von team-a (1.300 tokens) liegen bei einem Agenten, der nicht antwortet",
        ),
    ],
)
def test_every_kind_is_said_in_words_of_the_customers_language(
    kind: AlertKind, threshold: int | None, measured: dict[str, Any], english: str, german: str
) -> None:
    finding = Finding(
        kind=kind,
        what="x",
        threshold=threshold,
        period_start_us=0,
        name="team-a",
        used=Decimal("1234.50"),
        amount=Decimal(1300),
        **measured,
    )
    assert finding.text(Language.EN) == english
    assert finding.text(Language.DE).replace("\xa0", " ") == german


def said(kind: AlertKind, threshold: int | None, terms: str, used: int, amount: int) -> Said:
    return Said(kind, threshold, terms, Decimal(used), Decimal(amount))


@pytest.mark.parametrize(
    ("told", "used", "amount", "expected"),
    [
        ([], 90, 100, True),
        ([(100, 90)], 91, 100, False),
        ([(100, 90)], 95, 101, True),  # raised, and not yet reached when it was said
        ([(100, 90)], 95, 100.5, True),
        ([(100, 95)], 95, 105, False),  # 90 % of it was behind already
        ([(100, 95)], 100, 106, True),
        ([(100, 95)], 95, 50, False),  # lowered
        ([(100, 90), (200, 180)], 180, 100, False),  # lowered again
        ([(100, 90), (200, 180)], 190, 210, True),
        ([(100, 90), (200, 180)], 180, 200, False),
    ],
)
def test_a_threshold_is_said_again_in_a_period_only_of_an_amount_that_was_raised_beyond_what_was_told(
    told: list[tuple[int, int]], used: int, amount: float, expected: bool
) -> None:
    kind = AlertKind.BUDGET_THRESHOLD
    before = [said(kind, 90, f"{amount} MONTH", used, amount) for amount, used in told]
    finding = _finding(kind, 90, f"{amount} MONTH", used, amount)
    assert is_news(finding, before) is expected


def test_what_was_told_of_another_threshold_counts_and_of_another_unit_does_not() -> None:
    kind = AlertKind.BUDGET_THRESHOLD
    before = [said(kind, 50, "100 MONTH", 50, 100), said(kind, 90, "100 MONTH", 95, 100)]
    assert not is_news(_finding(kind, 50, "110 MONTH", 95, 110), before)
    assert is_news(_finding(kind, 50, "110 MONTH tokens", 95, 110), before)
    assert is_news(_finding(kind, 75, "110 MONTH", 95, 110), before)  # never said in this period


@pytest.mark.parametrize(("amount", "expected"), [(100, False), (149, False), (150, True), (200, True)])
def test_an_overage_is_said_again_only_if_it_had_ended(amount: int, expected: bool) -> None:
    kind = AlertKind.OVERAGE_STARTED
    before = [said(AlertKind.QUOTA_THRESHOLD, 100, "100", 150, 100), said(kind, None, "100", 140, 100)]
    assert is_news(_finding(kind, None, str(amount), 500, amount), before) is expected


@pytest.mark.parametrize(("amount", "expected"), [(99, False), (100, False), (101, True)])
def test_a_refusal_is_said_again_only_at_a_limit_that_was_raised(amount: int, expected: bool) -> None:
    kind = AlertKind.LIMIT_DENIED
    assert is_news(_finding(kind, None, str(amount), 100, amount), [said(kind, None, "100", 100, 100)]) is expected


def _finding(kind: AlertKind, threshold: int | None, terms: str, used: int, amount: float) -> Finding:
    return Finding(
        kind=kind,
        what="w",
        threshold=threshold,
        period_start_us=0,
        terms=terms,
        name="n",
        used=Decimal(used),
        amount=Decimal(str(amount)),
    )
