"""The catalogue of features."""

from sidemeter_control.errors import Conflict, NotFound
from sidemeter_control.limits.features import Feature
from sidemeter_control.store import audit, features, meters, state
from sidemeter_control.store.database import Database

__all__ = ["create_feature"]


async def create_feature(database: Database, feature: Feature, *, by: str = audit.OPERATOR) -> Feature:
    """Write a new feature. Conflict when its key is taken, NotFound when its meter does not exist."""
    async with database.write() as conn:
        if await features.get(conn, [feature.key]):
            raise Conflict(f"there is a feature {feature.key!r} already")
        if feature.meter_key is not None and not await meters.get(conn, [feature.meter_key]):
            raise NotFound("meter", feature.meter_key)
        await features.add(conn, feature)
        await state.config_changed(conn)
        detail = {"name": feature.name, "meter": feature.meter_key}
        await audit.add(conn, feature.created_at_us, by, "createFeature", f"feature {feature.key}", **detail)
    return feature
