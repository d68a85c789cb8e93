"""Charges: how a quantity becomes an amount. `spec` is what people write, `charge` what it means, and each pricing
model is one module: a dataclass of its parameters and the lines that it makes of a quantity.
"""

from sidemeter_control.pricing.charges.charge import Charge, Price
from sidemeter_control.pricing.charges.lines import PriceLine
from sidemeter_control.pricing.charges.spec import ChargeSpec, PricingModel, Rounding, TierSpec

__all__ = ["Charge", "ChargeSpec", "Price", "PriceLine", "PricingModel", "Rounding", "TierSpec"]
