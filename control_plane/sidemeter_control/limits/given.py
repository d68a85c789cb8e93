"""What one customer is given beside its plans: add-ons, and overrides of what plans say."""

from collections.abc import Collection, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.limits.add_ons import MAX_ADD_ONS, AddOn, AddOnSpec, check_reason, new_add_on
from sidemeter_control.limits.entitlements import Given
from sidemeter_control.limits.overrides import MAX_OVERRIDES, Override, OverrideSpec, new_override
from sidemeter_control.store import add_ons, audit, customers, features, overrides, state
from sidemeter_control.store.database import Database
from sidemeter_control.store.remembered import Remembered

__all__ = ["ever_given", "given", "grant_add_on", "remove_entitlement", "revoke_add_on", "set_entitlement"]

# A few hundred bytes for each add-on and override.
MAX_CUSTOMERS_REMEMBERED = 5_000

_known: Remembered[str, Given] = Remembered(MAX_CUSTOMERS_REMEMBERED)
_ever: Remembered[tuple[str, str], Given] = Remembered(MAX_CUSTOMERS_REMEMBERED)


async def given(conn: AsyncConnection, keys: Collection[str], now_us: int) -> Mapping[str, Given]:
    """What those customers have of their own, now or later; read anew only when the configuration has changed.

    What has ended by `now_us` has ended for every later question.
    """
    known = _known.at(await state.get(conn))
    unknown = [key for key in keys if key not in known]
    if unknown:
        added = await add_ons.of_customers(conn, unknown, now_us)
        agreed = await overrides.of_customers(conn, unknown)
        known |= {key: Given(tuple(added.get(key, ())), tuple(agreed.get(key, ()))) for key in unknown}
    return {key: known[key] for key in keys}


async def ever_given(conn: AsyncConnection, customer: str, feature: str) -> Given:
    """What the customer ever had of its own of one feature, also what has ended; remembered in the same way.

    Of overrides that hold at one instant, the last one is what is known of it now.
    """
    known = _ever.at(await state.get(conn))
    if (customer, feature) not in known:
        added, agreed = await add_ons.ever(conn, customer, feature), await overrides.ever(conn, customer, feature)
        known[customer, feature] = Given(tuple(added), tuple(agreed))
    return known[customer, feature]


async def grant_add_on(database: Database, clock: Clock, spec: AddOnSpec, *, by: str = audit.OPERATOR) -> AddOn:
    """Give the customer more of a feature; of several calls with one idempotency key the first counts.

    NotFound names the customer or feature that does not exist, InvalidInput the field that is wrong; Conflict: the key
    was used for another add-on, or the customer has as many add-ons as there may be.
    """
    async with database.write() as conn:
        counted = await _is_counted(conn, spec.customer, spec.feature)
        if spec.idempotency_key is not None:
            before = await add_ons.of_idempotency_key(conn, spec.customer, spec.idempotency_key)
            if before is not None and not before.was_granted_for(spec):
                raise Conflict(f"idempotency key {spec.idempotency_key!r} was used for another add-on")
            if before is not None:
                return before
        add_on = new_add_on(spec, counted=counted, add_on_id=clock.new_id("addon"), now_us=clock.now_us())
        if await add_ons.count(conn, spec.customer, clock.now_us()) >= MAX_ADD_ONS:
            raise Conflict(f"customer {spec.customer!r} has {MAX_ADD_ONS} add-ons that have not ended")
        await add_ons.add(conn, add_on)
        await state.config_changed(conn, spec.customer)
        detail = {"customer": spec.customer, "feature": spec.feature, "quantity": spec.quantity}
        await audit.add(conn, add_on.granted_at_us, by, "grantAddOn", f"add-on {add_on.id}", **detail)
    return add_on


async def revoke_add_on(
    database: Database, clock: Clock, add_on_id: str, reason: str, *, by: str = audit.OPERATOR
) -> AddOn:
    """End an add-on at once; one that was revoked before stays as it was. NotFound when there is none of that id."""
    check_reason(reason)
    async with database.write() as conn:
        found = await add_ons.get(conn, add_on_id)
        if found is None:
            raise NotFound("add-on", add_on_id)
        now_us = clock.now_us()
        ended = found.revoked(now_us, reason)
        if ended != found:
            await add_ons.revoke(conn, ended)
            await state.config_changed(conn, ended.customer_key)
            await audit.add(conn, now_us, by, "revokeAddOn", f"add-on {add_on_id}", reason=reason)
    return ended


async def set_entitlement(
    database: Database, clock: Clock, spec: OverrideSpec, *, by: str = audit.OPERATOR
) -> Override:
    """Say what the customer may use of a feature, in place of its plans and of what was set before.

    NotFound names the customer or feature that does not exist, InvalidInput the field that is wrong; Conflict: the
    customer has as many overrides as there may be.
    """
    feature = spec.entitlement.feature
    async with database.write() as conn:
        counted = await _is_counted(conn, spec.customer, feature)
        override = new_override(spec, counted=counted, now_us=clock.now_us())
        before = await _override(conn, spec.customer, feature)
        await overrides.remove(conn, spec.customer, feature, override.set_at_us)
        if await overrides.count(conn, spec.customer) >= MAX_OVERRIDES:
            raise Conflict(f"customer {spec.customer!r} has {MAX_OVERRIDES} entitlements of its own")
        await overrides.add(conn, override)
        await state.config_changed(conn, spec.customer)
        detail = _said(override) | {"before": None if before is None else _said(before)}
        await audit.add(conn, override.set_at_us, by, "setEntitlement", _target(spec.customer, feature), **detail)
    return override


async def remove_entitlement(
    database: Database, clock: Clock, customer: str, feature: str, *, by: str = audit.OPERATOR
) -> bool:
    """Let the customer's plans say again what it may use of the feature; False when nothing was set.

    NotFound names the customer or feature that does not exist.
    """
    async with database.write() as conn:
        await _is_counted(conn, customer, feature)
        now_us = clock.now_us()
        before = await _override(conn, customer, feature)
        if before is None:
            return False
        await overrides.remove(conn, customer, feature, now_us)
        await state.config_changed(conn, customer)
        await audit.add(conn, now_us, by, "removeEntitlement", _target(customer, feature), before=_said(before))
    return True


async def _override(conn: AsyncConnection, customer: str, feature: str) -> Override | None:
    own = (await overrides.of_customers(conn, [customer])).get(customer, ())
    return next((each for each in own if each.entitlement.feature == feature), None)


def _said(override: Override) -> dict[str, object]:
    allowed = override.entitlement
    return {"kind": allowed.kind, "limit": allowed.limit, "value": allowed.value}


def _target(customer: str, feature: str) -> str:
    return f"entitlement {customer}/{feature}"


async def _is_counted(conn: AsyncConnection, customer: str, feature: str) -> bool:
    """Whether the feature has a meter; NotFound unless both are there."""
    if not await customers.get(conn, [customer]):
        raise NotFound("customer", customer)
    found = (await features.get(conn, [feature])).get(feature)
    if found is None:
        raise NotFound("feature", feature)
    return found.meter_key is not None
