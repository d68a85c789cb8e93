"""What a plan keeps comes back as it was written, whatever is in it."""

import json
from typing import Any

import msgspec
import pytest
from charges import spec

from sidemeter_control.pricing.definitions import Definition, charges_text, plain, read_charges_text

CONVERT = {"multiply": "1.5", "divide": "1000", "rounding": "HALF_UP", "precision": 2}
WRITTEN: dict[str, dict[str, Any]] = {
    "FLAT": {"amount": "49.90", "inAdvance": True, "discountPercentages": ["10", "2.5"]},
    "PER_UNIT": {"unitPrice": "0.0000001", "convert": CONVERT, "includedUnits": "5", "discountUnits": "1"},
    "PACKAGE": {"packagePrice": "5", "packageSize": "100", "packageRounding": "DOWN", "minimum": "1", "maximum": "9"},
    "GRADUATED": {"tiers": [{"upTo": "5", "unitPrice": "1"}, {"flatFee": "2"}], "chargeFlatFeeAtZero": True},
    "VOLUME": {"tiers": [{"unitPrice": "1"}]},
    "STAIRSTEP": {"tiers": [{"flatFee": "1"}], "stairstepCumulative": True},
    "PERCENTAGE": {
        "percentage": "2.9",
        "fixedPerEvent": "0.3",
        "minPerEvent": "1",
        "maxPerEvent": "12",
        "freeEvents": 3,
        "freeAmount": "100",
    },
    "GRADUATED_PERCENTAGE": {"tiers": [{"percentage": "1.5"}]},
    "MATRIX": {
        "rates": [{"match": {"model": "large", "region": ["eu", "us"]}, "unitPrice": "2"}],
        "defaultUnitPrice": "1",
    },
    "TIME_OF_DAY": {
        "bands": [{"days": [1, 7], "from": "07:00", "to": "24:00", "unitPrice": "0.3"}],
        "defaultUnitPrice": "0.1",
    },
    "DYNAMIC": {"multiplier": "1.5"},
    "OUTCOME": {
        "unitPrice": "0.99",
        "outcome": {"confirmType": "a", "reverseType": "b", "windowHours": 72, "property": "ticket.id"},
    },
}


@pytest.mark.parametrize("model", WRITTEN)
def test_a_charge_is_kept_and_shown_as_it_was_written(model: str) -> None:
    charge = spec(model, **WRITTEN[model])
    assert read_charges_text(charges_text((charge,))) == (charge,)
    assert Definition.read(Definition(charges=(charge,)).text()).charges == (charge,)
    shown = json.loads(json.dumps(plain(charge)))
    assert shown == {"key": "input", "model": model, **({} if model == "FLAT" else {"meter": "tokens"})} | json.loads(
        json.dumps(WRITTEN[model]).replace("49.90", "49.9")
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"colour": "red"},
        {"tiers": [{"unit": "1"}]},
        {"rates": [{"match": {}, "unitPrice": "1", "note": ""}]},
        {"bands": [{"from": "07:00", "to": "08:00", "unitPrice": "1", "day": 1}]},
        {"outcome": {"confirmType": "a", "reverseType": "b", "windowHours": 1, "type": "c"}},
        {"convert": {"factor": "2"}},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_field_that_nobody_knows_is_refused_wherever_it_stands(parameters: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        spec("PER_UNIT", **parameters)
