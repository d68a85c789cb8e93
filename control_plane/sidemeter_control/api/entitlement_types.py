"""What one customer is given beside its plans, as GraphQL takes and shows it: add-ons, overrides, the parts of a quota."""

from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.pricing_inputs import EntitlementInput
from sidemeter_control.api.pricing_types import Entitlement, Feature, feature_of
from sidemeter_control.api.scalars import Instant, instant
from sidemeter_control.limits import add_ons, entitlements, overrides
from sidemeter_control.limits.entitlements import QuotaSource

__all__ = ["AddOn", "AddOnInput", "EntitlementOverride", "EntitlementOverrideInput", "QuotaPart"]

strawberry.enum(QuotaSource)


@strawberry.input
class AddOnInput:
    """More of a feature for a customer, from now on and without an end unless said otherwise.

    quantity: in every reset period, for a feature that has a meter; absent for one that has none, which is then there.
    Calls that repeat an idempotencyKey grant nothing more.
    """

    customer: strawberry.ID
    feature: strawberry.ID
    quantity: Decimal | None = None
    effective_at: Instant | None = None
    expires_at: Instant | None = None
    idempotency_key: str | None = None

    def spec(self) -> add_ons.AddOnSpec:
        """What is written, for the domain to check."""
        return add_ons.AddOnSpec(
            customer=self.customer,
            feature=self.feature,
            quantity=self.quantity,
            effective_at_us=self.effective_at,
            expires_at_us=self.expires_at,
            idempotency_key=self.idempotency_key,
        )


@strawberry.input
class EntitlementOverrideInput(EntitlementInput):
    """What a customer may use of a feature, in place of what plans say, from now on and without an end unless said otherwise."""

    customer: strawberry.ID
    effective_at: Instant | None = None
    expires_at: Instant | None = None

    def override(self) -> overrides.OverrideSpec:
        """What is written, for the domain to check."""
        return overrides.OverrideSpec(
            customer=self.customer,
            entitlement=self.spec(),
            effective_at_us=self.effective_at,
            expires_at_us=self.expires_at,
        )


@strawberry.type
class AddOn:
    """More of a feature for one customer, in force from effectiveAt on and before expiresAt."""

    id: strawberry.ID
    quantity: Decimal | None = strawberry.field(description="In every reset period; null: the feature has no meter.")
    effective_at: Instant
    expires_at: Instant | None
    granted_at: Instant
    revoked_at: Instant | None
    revoke_reason: str | None
    feature_key: strawberry.Private[str]

    @classmethod
    def of(cls, add_on: add_ons.AddOn) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(add_on.id),
            quantity=add_on.quantity,
            effective_at=Instant(add_on.effective_at_us),
            expires_at=instant(add_on.expires_at_us),
            granted_at=Instant(add_on.granted_at_us),
            revoked_at=instant(add_on.revoked_at_us),
            revoke_reason=add_on.revoke_reason,
            feature_key=add_on.feature,
        )

    @strawberry.field
    async def feature(self, info: Info) -> Feature:
        """What there is more of."""
        return await feature_of(info, self.feature_key)


@strawberry.type
class EntitlementOverride:
    """What one customer may use of a feature in place of what plans say, from effectiveAt on and before expiresAt."""

    entitlement: Entitlement
    effective_at: Instant
    expires_at: Instant | None
    set_at: Instant

    @classmethod
    def of(cls, override: overrides.Override) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            entitlement=Entitlement.of(override.entitlement),
            effective_at=Instant(override.effective_at_us),
            expires_at=instant(override.expires_at_us),
            set_at=Instant(override.set_at_us),
        )


@strawberry.type
class QuotaPart:
    """One of the parts that add up to a quota's limit, in words a customer understands."""

    source: QuotaSource
    text: str
    quantity: Decimal | None = strawberry.field(description="Null: without a limit, or nothing that is counted.")

    @classmethod
    def of(cls, part: entitlements.QuotaPart) -> Self:
        """The noun in its GraphQL form."""
        return cls(source=part.source, text=part.text, quantity=part.quantity)
