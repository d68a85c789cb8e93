"""What all rows of a database come to: the same whatever their order, and another for any other row."""

from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from sidemeter_control.metering.meters import Aggregation, Meter, Progress, new_meter
from sidemeter_control.store.tables import closed_periods, events, late_days, rollups
from sidemeter_control.store.tally import Tally

METER = replace(new_meter("n", "call", Aggregation.SUM, value_property="n", now_us=0), id=1)


def call(seq: int, n: int, type_: str = "call") -> tuple[Any, ...]:
    return seq, "s", str(seq), type_, "acme", seq, 0, f'{{"n": {n}}}'


def said(meter: Meter, *rows: tuple[Any, ...], corrected: tuple[Any, ...] = ()) -> str:
    tally = Tally([meter])
    tally.add(events, rows)
    tally.correct(corrected)
    return tally.figures()["meter n (1), the events themselves"]


def rows_of(*rows: tuple[Any, ...]) -> str:
    tally = Tally([])
    for row in rows:
        tally.add(late_days, [row])
    return tally.figures()["table late_days"]


def test_the_order_of_rows_says_nothing_and_every_value_does() -> None:
    rows = [("a", 0, 1), ("a", 1, 1), ("b", 0, 1)]
    assert len({rows_of(*some) for some in permutations(rows)}) == 1
    others = [
        rows_of(*rows[1:]),
        rows_of(*rows, rows[0]),
        rows_of(("a", 0, 2), *rows[1:]),
        rows_of(("ab", 0, 1), *rows[1:]),
    ]
    assert len({rows_of(*rows), *others}) == 5


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("600000", "6E+5", True),
        ("-0", "0", True),
        ("1.50", "1.5", False),
        ("1e-9", "0.000000001", True),
        ("1", "-1", False),
    ],
)
def test_a_decimal_is_what_it_is_written_out(one: str, other: str, equal: bool) -> None:
    found = []
    for total in (one, other):
        tally = Tally([])
        tally.add(closed_periods, [("sub", 0, 1, "acme", 2, 3, Decimal(total), "[]", "{}")])
        found.append(tally.figures()["table closed_periods"])
    assert (found[0] == found[1]) is equal


def test_events_come_to_what_their_last_corrections_make_of_them() -> None:
    some = [call(1, 1), call(2, 10), call(3, 100), call(4, 1000, "other")]
    assert said(METER, *some) == "3 events, 111 in sum"
    corrected = ((*some[0], "VOID", '{"n": 1}'), (*some[1], "CORRECT", '{"n": 20}'))
    assert said(METER, *some, corrected=corrected) == "2 events, 120 in sum"


def test_a_meter_that_is_not_filled_yet_counts_what_it_is_filled_from() -> None:
    filling = replace(METER, progress=Progress(2, 4))
    assert said(filling, *(call(seq, 10**seq) for seq in range(1, 7))) == "4 events, 1100110 in sum"


def test_rollups_come_to_those_of_their_hours() -> None:
    tally = Tally([METER])
    for grain_s in (3600, 86400):
        tally.add(rollups, [("acme", 1, grain_s, 0, "[]", 2, Decimal("0.1"), *(None,) * 7)] * 2)
    assert tally.figures()["meter n (1), its rollups"] == "4 events, 0.2 in sum"
