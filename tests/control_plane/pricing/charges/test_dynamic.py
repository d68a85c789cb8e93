"""DYNAMIC: the price is in the event."""

import pytest
from charges import charge, lines


@pytest.mark.parametrize(
    ("amount", "parameters", "expected"),
    [
        ("40.2", {}, [("40.2 USD as priced by the events", "40.2")]),
        ("10", {"multiplier": "1.33333"}, [("10 USD as priced by the events × 1.33333", "13.3333")]),
        ("-5", {}, [("-5 USD as priced by the events", "-5")]),
        ("0", {"multiplier": "2"}, []),
    ],
)
def test_what_the_events_say_is_owed_times_the_multiplier(
    amount: str, parameters: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    assert lines(charge("DYNAMIC", **parameters), amount) == expected
