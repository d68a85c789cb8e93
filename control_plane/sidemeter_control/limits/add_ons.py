"""Add-ons: more of a feature than the plan gives, bought by one customer for an interval. Pure rules, no I/O."""

from dataclasses import dataclass, replace
from decimal import Decimal

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.charges.parameters import positive
from sidemeter_control.pricing.periods import check_instant

__all__ = ["MAX_ADD_ONS", "AddOn", "AddOnSpec", "check_interval", "check_reason", "new_add_on"]

# Of one customer, in force now or later: a quota adds them up each time.
MAX_ADD_ONS = 1_000
MAX_IDEMPOTENCY_KEY_CHARS = 256
MAX_REASON_CHARS = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOnSpec:
    """An add-on to be granted. Absent: from now on, without an end. `quantity` is for features that have a meter."""

    customer: str
    feature: str
    quantity: Decimal | None = None
    effective_at_us: int | None = None
    expires_at_us: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class AddOn:
    """So much more of a feature in every reset period, in force in `[effective_at_us, expires_at_us)`.

    `quantity` in the meter's unit; None: the feature is there, which has no meter.
    """

    id: str
    customer_key: str
    feature: str
    quantity: Decimal | None
    effective_at_us: int
    expires_at_us: int | None
    idempotency_key: str | None
    granted_at_us: int
    revoked_at_us: int | None = None
    revoke_reason: str | None = None

    @property
    def ends_at_us(self) -> int | None:
        """When it ends or ended; None: never."""
        return min((each for each in (self.expires_at_us, self.revoked_at_us) if each is not None), default=None)

    def is_active_at(self, at_us: int) -> bool:
        """Whether it counts at the instant."""
        return self.effective_at_us <= at_us and (self.ends_at_us is None or at_us < self.ends_at_us)

    def was_granted_for(self, spec: AddOnSpec) -> bool:
        """Whether `spec` asks for this very add-on once more."""
        asked = self.effective_at_us if spec.effective_at_us is None else spec.effective_at_us
        own = (self.feature, self.quantity, self.effective_at_us, self.expires_at_us)
        return own == (spec.feature, spec.quantity, asked, spec.expires_at_us)

    def revoked(self, now_us: int, reason: str) -> "AddOn":
        """The same, ended; one that was revoked already stays as it is."""
        return self if self.revoked_at_us is not None else replace(self, revoked_at_us=now_us, revoke_reason=reason)


def new_add_on(spec: AddOnSpec, *, counted: bool, add_on_id: str, now_us: int) -> AddOn:
    """The add-on that `spec` describes, else InvalidInput naming the field; `counted`: the feature has a meter.

    >>> new_add_on(AddOnSpec(customer="acme", feature="sso", quantity=Decimal(1)), counted=False, add_on_id="", now_us=0)
    Traceback (most recent call last):
    sidemeter_control.errors.InvalidInput: quantity: must be absent: the feature has no meter
    """
    if counted is not (spec.quantity is not None):
        raise InvalidInput(
            "quantity",
            "must be given: the feature has a meter" if counted else "must be absent: the feature has no meter",
        )
    if spec.quantity is not None:
        positive("quantity", spec.quantity)
    effective_us = now_us if spec.effective_at_us is None else spec.effective_at_us
    check_interval(effective_us, spec.expires_at_us)
    key = spec.idempotency_key
    if key is not None and not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_CHARS:
        raise InvalidInput("idempotencyKey", f"must be 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters")
    return AddOn(add_on_id, spec.customer, spec.feature, spec.quantity, effective_us, spec.expires_at_us, key, now_us)


def check_interval(effective_us: int, expires_us: int | None) -> None:
    """Raise InvalidInput unless something can be in force in `[effective_us, expires_us)`."""
    check_instant("effectiveAt", effective_us)
    if expires_us is not None:
        check_instant("expiresAt", expires_us)
        if expires_us <= effective_us:
            raise InvalidInput("expiresAt", "must be after effectiveAt")


def check_reason(reason: str) -> None:
    """Raise InvalidInput unless somebody can read later why it was done."""
    if not reason.strip() or len(reason) > MAX_REASON_CHARS:
        raise InvalidInput("reason", f"must be 1 to {MAX_REASON_CHARS} characters")
