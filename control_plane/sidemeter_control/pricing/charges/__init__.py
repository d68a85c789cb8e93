"""Charges: how what was used becomes an amount. `spec` is what people write, `charge` what it means, `used` what it is
given, and each pricing model is one module: a dataclass of its parameters and the lines that it makes. What any charge
may have besides is in `modifiers`.
"""

from sidemeter_control.pricing.charges.charge import Charge, Price
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.spec import (
    BandSpec,
    ChargeSpec,
    ConvertSpec,
    MatrixRateSpec,
    OutcomeSpec,
    PricingModel,
    Rounding,
    TierSpec,
)
from sidemeter_control.pricing.charges.used import Needs, Outcome, Used, UsedLine

__all__ = [
    "BandSpec",
    "Charge",
    "ChargeSpec",
    "ConvertSpec",
    "MatrixRateSpec",
    "Needs",
    "Outcome",
    "OutcomeSpec",
    "Price",
    "PriceLine",
    "PricingModel",
    "Rounding",
    "TierSpec",
    "Used",
    "UsedLine",
]
