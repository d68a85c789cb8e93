"""Words: what a customer reads, in every language."""

import re
from dataclasses import asdict
from datetime import date
from decimal import Decimal

import pytest
from charges import charge, lines

from sidemeter_control.pricing.charges import Outcome, Used, UsedLine
from sidemeter_control.pricing.sentences import SENTENCES, Language
from sidemeter_control.pricing.words import Words

DE = Words("EUR", "Aufrufe", Language.DE)


def names(sentence: str) -> list[str]:
    return sorted(re.findall(r"{(\w+)}", sentence))


@pytest.mark.parametrize("language", Language, ids=lambda each: each.value)
def test_every_language_says_every_sentence_with_the_same_facts(language: Language) -> None:
    english, own = asdict(SENTENCES[Language.EN]), asdict(SENTENCES[language])
    assert {name: names(text) for name, text in own.items()} == {name: names(text) for name, text in english.items()}
    assert all(own.values())


@pytest.mark.parametrize(
    ("model", "parameters", "quantity", "expected"),
    [
        ("FLAT", {"amount": "1"}, "0", ["wiederkehrende Gebühr"]),
        ("FLAT", {"amount": "-1"}, "0", ["wiederkehrende Gutschrift"]),
        ("PER_UNIT", {"unitPrice": "0.0025"}, "1234.5", ["1.234,5 Aufrufe zu je 0,0025 EUR"]),
        ("PER_UNIT", {"unitPrice": "1", "includedUnits": "1000", "discountUnits": "1"}, "1002",
         ["1.000 Aufrufe inklusive", "1 Aufrufe frei durch Rabatt", "1 Aufrufe zu je 1 EUR"]),
        ("PACKAGE", {"packagePrice": "5", "packageSize": "100"}, "150", ["2 Pakete mit 100 Aufrufe zu je 5 EUR"]),
        ("PACKAGE", {"packagePrice": "5", "packageSize": "100"}, "1", ["1 Paket mit 100 Aufrufe zu je 5 EUR"]),
        ("GRADUATED", {"tiers": [{"upTo": "10", "unitPrice": "2"}, {"unitPrice": "1", "flatFee": "3"}]}, "12",
         ["die ersten 10 Aufrufe zu je 2 EUR", "die nächsten 2 Aufrufe zu je 1 EUR zuzüglich 3 EUR pauschal"]),
        ("VOLUME", {"tiers": [{"flatFee": "3"}]}, "12", ["insgesamt 12 Aufrufe für pauschal 3 EUR"]),
        ("VOLUME", {"tiers": [{"unitPrice": "0"}]}, "12", ["insgesamt 12 Aufrufe kostenlos"]),
        ("GRADUATED_PERCENTAGE", {"tiers": [{"percentage": "2.5"}]}, "1000", ["die ersten 1.000 EUR zu je 2,5\xa0%"]),
        ("PERCENTAGE", {"percentage": "2.5"}, "1000", ["2,5\xa0% von 1.000 EUR"]),
        ("DYNAMIC", {"multiplier": "1.5"}, "10", ["10 EUR laut Preis der Vorgänge × 1,5"]),
        ("PER_UNIT", {"unitPrice": "1", "convert": {"divide": "1000", "rounding": "DOWN"}}, "2500",
         ["2.500 Aufrufe ÷ 1.000, abgerundet = 2", "2 × 1.000 Aufrufe zu je 1 EUR"]),
        ("PER_UNIT", {"unitPrice": "1", "convert": {"multiply": "2", "rounding": "HALF_UP"}}, "2",
         ["2 Aufrufe × 2, gerundet = 4", "4 Einheiten zu je 1 EUR"]),
        ("PER_UNIT", {"unitPrice": "1", "discountPercentages": ["10", "2.5"], "maximum": "1"}, "10",
         ["10 Aufrufe zu je 1 EUR", "Rabatt von 10\xa0% + 2,5\xa0%", "gesenkt auf den Höchstbetrag von 1 EUR"]),
        ("PER_UNIT", {"unitPrice": "1", "minimum": "1000"}, "0", ["angehoben auf den Mindestbetrag von 1.000 EUR"]),
    ],
)  # fmt: skip
def test_german(model: str, parameters: dict[str, object], quantity: str, expected: list[str]) -> None:
    assert [text for text, _ in lines(charge(model, **parameters), quantity, DE)] == expected


def test_german_of_single_events() -> None:
    own = charge("PERCENTAGE", percentage="1", fixedPerEvent="2", minPerEvent="3", maxPerEvent="5", freeEvents=1)
    used = Used.of_amounts(map(Decimal, (7, 150, 160, 1, 9999)))
    assert [text for text, _ in lines(own, used, DE)] == [
        "1 Vorgang kostenlos, zusammen 7 EUR",
        "1\xa0% von 310 EUR zuzüglich je 2 EUR für 2 Vorgänge",
        "1 Vorgang zum Mindestbetrag von 3 EUR",
        "1 Vorgang zum Höchstbetrag von 5 EUR",
    ]


def test_german_of_lists_of_prices() -> None:
    matrix = charge("MATRIX", rates=[{"match": {"region": ["eu", "us"]}, "unitPrice": "1"}], defaultUnitPrice="2")
    used = Used.of_lines([UsedLine(Decimal(1), {"region": "eu"}), UsedLine(Decimal(2))])
    assert [text for text, _ in lines(matrix, used, DE)] == [
        "1 Aufrufe (region: eu oder us) zu je 1 EUR",
        "2 Aufrufe jeder anderen Art zu je 2 EUR",
    ]
    rule = {"confirmType": "a", "reverseType": "b", "windowHours": 1}
    outcome = charge("OUTCOME", unitPrice="1", outcome=rule)
    used = Used.of_lines(UsedLine(Decimal(1), outcome=state) for state in Outcome)
    assert [text for text, _ in lines(outcome, used, DE)] == [
        "1 Aufrufe bestätigt zu je 1 EUR",
        "1 Aufrufe zu je 1 EUR, nicht rechtzeitig storniert",
        "1 Aufrufe zu je 1 EUR, vorläufig bis zur Bestätigung oder Stornierung",
        "1 Aufrufe storniert, nicht berechnet",
    ]


@pytest.mark.parametrize(
    ("days", "english", "german"),
    [
        ({1, 2, 3, 4, 5}, "Mon–Fri", "Mo–Fr"),
        ({6, 7}, "Sat–Sun", "Sa–So"),
        ({1, 3, 5, 6}, "Mon, Wed, Fri–Sat", "Mo, Mi, Fr–Sa"),
        ({2}, "Tue", "Di"),
        (set(range(1, 8)), "daily", "täglich"),
    ],
)
def test_days_of_a_band_are_named_and_runs_of_them_joined(days: set[int], english: str, german: str) -> None:
    assert Words("EUR", "kWh").band(Decimal(3), frozenset(days), "07:00", "22:00", Decimal(1)) == (
        f"3 kWh, {english} 07:00 to 22:00 at 1 EUR"
    )
    assert Words("EUR", "kWh", Language.DE).band(Decimal(3), frozenset(days), "07:00", "22:00", Decimal(1)) == (
        f"3 kWh, {german} 07:00 bis 22:00 Uhr zu je 1 EUR"
    )


def test_days_of_a_period_are_written_as_the_language_does() -> None:
    days = date(2026, 11, 1), date(2026, 11, 30)
    assert Words.in_period("Tokens", *days, Language.EN) == "Tokens, 2026-11-01 to 2026-11-30"
    assert Words.in_period("Tokens", *days, Language.DE) == "Tokens, 01.11.2026 bis 30.11.2026"


def test_numbers_keep_every_digit() -> None:
    longest = Decimal("123456789012345678901234567890.123456789012345678")
    assert Words("EUR").units(longest, Decimal(0)) == (
        "123,456,789,012,345,678,901,234,567,890.123456789012345678 units free"
    )


def test_what_was_billed_before_is_named() -> None:
    assert DE.billed_before(Decimal(1500)) == "abzüglich 1.500 Aufrufe, bereits berechnet"
