"""Commitments: an amount that is owed whatever is used, with a price for what goes beyond it."""

from decimal import Decimal

import msgspec

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges.parameters import not_negative, positive

__all__ = ["MAX_FACTOR", "MAX_SMOOTHING_MONTHS", "CommitmentSpec", "check_commitment", "committed"]

MAX_FACTOR = 100
MAX_SMOOTHING_MONTHS = 60


class CommitmentSpec(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """What a subscriber commits to use in each billing period, at the prices of the plan's metered charges.

    Use up to `amount` costs `discount_percentage` less. Of `amount`, what is not used is owed all the same (with
    `true_up`, and less the discount); what is used beyond it costs `overage_factor` times its price. With
    `smoothing_months` all of this is reckoned once for so many months together, at their end.
    """

    amount: Decimal
    overage_factor: Decimal = Decimal(1)
    true_up: bool = True
    discount_percentage: Decimal = Decimal(0)
    smoothing_months: int | None = None


def check_commitment(path: str, spec: CommitmentSpec, months: int | None) -> None:
    """Raise InvalidInput unless the commitment can be kept by a plan whose billing period has so many months.

    None: the period is shorter than a month.
    """
    positive(f"{path}.amount", spec.amount)
    if not_negative(f"{path}.overageFactor", spec.overage_factor) > MAX_FACTOR:
        raise InvalidInput(f"{path}.overageFactor", f"must be at most {MAX_FACTOR}")
    if not_negative(f"{path}.discountPercentage", spec.discount_percentage) > 100:
        raise InvalidInput(f"{path}.discountPercentage", "must be at most 100")
    if spec.smoothing_months is None:
        return
    if months is None:
        raise InvalidInput(f"{path}.smoothingMonths", "must be absent: the billing period is shorter than a month")
    if not months <= spec.smoothing_months <= MAX_SMOOTHING_MONTHS or spec.smoothing_months % months:
        raise InvalidInput(
            f"{path}.smoothingMonths", f"must be a multiple of {months}, and at most {MAX_SMOOTHING_MONTHS}"
        )


def committed(
    price: Decimal, minimum: Decimal, *, overage_factor: Decimal = Decimal(1), true_up: bool = True, final: bool = True
) -> Decimal:
    """What is owed for a price under a commitment; before the `final` slice of a period, the price.

    >>> committed(Decimal(130), Decimal(100), overage_factor=Decimal("1.5"))
    Decimal('145.0')
    """
    if not final:
        return price
    if price <= minimum:
        return minimum if true_up else price
    return minimum + overage_factor * (price - minimum)
