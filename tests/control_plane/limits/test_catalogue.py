"""Features are created once, on meters that exist."""

import pytest

from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.limits.catalogue import create_feature
from sidemeter_control.limits.features import new_feature
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.store import features, meters
from sidemeter_control.store.database import Database


@pytest.fixture
async def database(database: Database) -> Database:
    async with database.write() as conn:
        await meters.add(conn, new_meter("calls", "api.call", Aggregation.COUNT, now_us=0))
    return database


async def test_features_are_kept_as_they_were_made(database: Database) -> None:
    counted = await create_feature(database, new_feature("calls", name="Calls", meter_key="calls", now_us=1))
    plain = await create_feature(database, new_feature("sso", now_us=2))
    async with database.read() as conn:
        assert await features.list_all(conn) == [counted, plain]
        assert await features.get(conn, ["sso", "nothing"]) == {"sso": plain}


async def test_a_key_is_taken_once(database: Database) -> None:
    await create_feature(database, new_feature("sso", now_us=0))
    with pytest.raises(Conflict):
        await create_feature(database, new_feature("sso", name="Other", now_us=0))


async def test_a_meter_that_does_not_exist_is_named(database: Database) -> None:
    with pytest.raises(NotFound, match="there is no meter 'tokens'"):
        await create_feature(database, new_feature("tokens", meter_key="tokens", now_us=0))


@pytest.mark.parametrize("key", ["", " a", "a/b", "ä", "-a", "x" * 129])
def test_a_key_that_urls_and_limits_cannot_carry_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="key: "):
        new_feature(key, now_us=0)
