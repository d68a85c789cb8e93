"""What one request shares, until it is answered."""

from typing import Any, cast

import pytest
from fakes import ManualClock

from sidemeter_control.api.context import Context
from sidemeter_control.store import audit, state
from sidemeter_control.store.database import READERS, Database
from sidemeter_control.store.state import State

nobody = cast("Any", None)


async def test_what_another_control_plane_changed_is_in_force_in_every_answer_that_knows_of_it(
    database: Database,
) -> None:
    """Also where it was changed after the question came, and where the other's clock is ahead."""
    clock = ManualClock()
    database.is_shared = True
    async with database.write() as conn:
        await audit.add(conn, clock.now_us() + 2_000_000, audit.OPERATOR, "setEntitlement", "entitlement acme/calls")
    async with Context(database, clock, nobody, nobody, nobody, hub=nobody) as context:
        assert (await context.ask(state.get)).changed_at_us == context.now_us == clock.now_us() + 2_000_000
        assert context.loaders.at_us == context.now_us


async def test_what_is_asked_behind_an_answer_keeps_no_snapshot_from_others(database: Database) -> None:
    async def changed() -> None:
        """Whatever was open is closed; the next question opens anew."""

    for _ in range(READERS + 1):
        async with Context(database, ManualClock(), nobody, nobody, nobody, hub=nobody) as context:
            await context.ask(state.get)
            await context.changed(changed())
        with pytest.raises(RuntimeError, match="is answered"):
            await context.ask(state.get)
    async with database.snapshot() as snapshot:
        assert isinstance(await snapshot.ask(state.get), State)
