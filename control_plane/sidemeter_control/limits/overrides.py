"""Overrides: what was agreed with one customer about a feature, in place of what plans say of it. Pure rules, no I/O."""

from dataclasses import dataclass

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.add_ons import check_interval
from sidemeter_control.pricing.plans import EntitlementKind, EntitlementSpec, check_entitlement

__all__ = ["MAX_OVERRIDES", "MAX_PAST_OVERRIDES", "Override", "OverrideSpec", "new_override"]

# Of one customer; a plan has at most as many entitlements.
MAX_OVERRIDES = 500
# Of one customer and feature, over: every look at what credits pay of a past reads them all. The oldest is forgotten.
MAX_PAST_OVERRIDES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideSpec:
    """An override to be set. Absent: from now on, without an end."""

    customer: str
    entitlement: EntitlementSpec
    effective_at_us: int | None = None
    expires_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """What holds for one customer and feature in `[effective_at_us, expires_at_us)`; plans hold outside of it."""

    customer_key: str
    entitlement: EntitlementSpec
    effective_at_us: int
    expires_at_us: int | None
    set_at_us: int

    def is_active_at(self, at_us: int) -> bool:
        """Whether it holds at the instant."""
        return self.effective_at_us <= at_us and (self.expires_at_us is None or at_us < self.expires_at_us)


def new_override(spec: OverrideSpec, *, counted: bool, now_us: int) -> Override:
    """The override that `spec` describes, else InvalidInput naming the field; `counted`: the feature has a meter."""
    check_entitlement("", spec.entitlement)
    if spec.entitlement.kind is EntitlementKind.METERED and not counted:
        raise InvalidInput("kind", "must not be METERED: the feature has no meter")
    effective_us = now_us if spec.effective_at_us is None else spec.effective_at_us
    check_interval(effective_us, spec.expires_at_us)
    return Override(spec.customer, spec.entitlement, effective_us, spec.expires_at_us, now_us)
