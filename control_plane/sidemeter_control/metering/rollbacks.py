"""What is done once a database has noticed that it is an older copy of itself: it takes a new generation, and says so."""

import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.store import state

__all__ = ["Rollbacks"]

_log = logging.getLogger(__name__)


class Rollbacks:
    """The rollbacks that agents' messages showed since the start; `noticed` is their number.

    Every agent that names the old generation is from before; each sends again what is missing, as far as it keeps it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.noticed = 0

    async def notice(self, conn: AsyncConnection, agent_id: str) -> str:
        """Take a new generation in this transaction; returns it."""
        generation = self._clock.new_id("gen")
        await state.set_generation(conn, generation)
        self.noticed += 1
        _log.error(
            "this database is older than agent %s, which has heard more of it: it was restored from a copy without"
            " `restore`; its generation is now %s, and agents send again what is missing",
            agent_id,
            generation,
        )
        return generation
