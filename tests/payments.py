"""Payments that every model of a price can be asked of: what is charged, and events in any order and of any kind."""

import json
from decimal import Decimal

from hypothesis import strategies as st
from shop import us

from sidemeter_control.metering.events import Event
from sidemeter_control.pricing.charges import BandSpec, ChargeSpec, MatrixRateSpec, OutcomeSpec, PricingModel

__all__ = ["BEGAN_US", "CENT", "CHARGES", "HOUR_US", "NOW_US", "ZONE", "events", "percentage"]

# Berlin sets its clocks back in the night after the 24th of October.
BEGAN_US, NOW_US = us("2026-10-24"), us("2026-10-26")
HOUR_US = 3_600_000_000
ZONE = "Europe/Berlin"
CENT = Decimal("0.01")


def percentage(key: str, **more: object) -> ChargeSpec:
    return ChargeSpec(key=key, meter="paid", model=PricingModel.PERCENTAGE, percentage=Decimal("2.9"), **more)  # type: ignore[arg-type]


NIGHT = BandSpec(from_="22:00", to="06:00", unit_price=CENT)
CHARGES = (
    percentage("proportional"),
    percentage("fixed", fixed_per_event=Decimal("0.3")),
    percentage("bounded", min_per_event=Decimal("0.1"), max_per_event=Decimal("0.2")),
    percentage("first-free", free_events=3),
    percentage("amount-free", free_amount=Decimal(9), fixed_per_event=CENT, max_per_event=Decimal("0.15")),
    percentage("much-free", free_events=1000, free_amount=Decimal(10**9), min_per_event=CENT),
    ChargeSpec(key="dynamic", meter="paid", model=PricingModel.DYNAMIC, multiplier=Decimal("1.2")),
    ChargeSpec(
        key="matrix",
        meter="paid",
        model=PricingModel.MATRIX,
        default_unit_price=CENT,
        rates=(
            MatrixRateSpec(match={"region": "eu"}, unit_price=Decimal("0.02")),
            MatrixRateSpec(match={"region": ["eu", "us"], "kind": "card"}, unit_price=Decimal("0.05")),
        ),
    ),
    ChargeSpec(
        key="by-night", meter="payments", model=PricingModel.TIME_OF_DAY, bands=(NIGHT,), default_unit_price=Decimal(1)
    ),
    ChargeSpec(
        key="outcome",
        meter="payments",
        model=PricingModel.OUTCOME,
        unit_price=Decimal(2),
        outcome=OutcomeSpec(confirm_type="kept", reverse_type="returned", window_hours=5, property="order"),
    ),
)


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    found = []
    for index in range(draw(st.integers(0, 30))):
        type_ = draw(st.sampled_from(["payment", "payment", "kept", "returned"]))
        data: dict[str, object] = {"amount": str(draw(st.decimals(-3, 9, places=2)))}
        for name, values in (("region", ("eu", "us")), ("kind", ("card", "cash")), ("order", ("1", "2", "3"))):
            if value := draw(st.sampled_from([*values, None])):
                data[name] = value
        at_us = draw(st.integers(0, 60)) * HOUR_US + draw(st.sampled_from([0, 1, HOUR_US // 2, HOUR_US - 1]))
        subject = draw(st.sampled_from(["acme", "acme-eu", "other"]))
        found.append(Event(f"e{index}", "s", type_, subject, BEGAN_US - 3 * HOUR_US + at_us, json.dumps(data)))
    return found
