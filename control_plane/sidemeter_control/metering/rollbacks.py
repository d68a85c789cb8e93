"""What is done once a database has noticed that it is an older copy of itself: it takes a new generation, and says so."""

import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.metering import holders
from sidemeter_control.store import state
from sidemeter_control.store.witness import Witness

__all__ = ["Rollbacks"]

_log = logging.getLogger(__name__)


class Rollbacks:
    """The rollbacks that agents' messages showed since the start; `noticed` is their number.

    Every agent that names the old generation is from before; each sends again what is missing, as far as it keeps it.
    """

    def __init__(self, clock: Clock, witness: Witness) -> None:
        self._clock = clock
        self.witness = witness
        self.noticed = 0

    async def notice(self, conn: AsyncConnection, agent_id: str, *, holds_leases: bool = False) -> str:
        """Take a new generation in this transaction; returns it.

        Where leases are, or the agent `holds_leases`, a recovery begins. The witness has not noticed, so it is an older copy
        as well, and nobody knows how many holders there have been.
        """
        generation = self._clock.new_id("gen")
        last = self.witness.last
        leased = (await state.get(conn)).lease_version > 0 or (last is not None and last.lease_version > 0)
        await state.set_generation(conn, generation)
        if leased or holds_leases:
            await holders.begin(conn, generation, None, self._clock.now_us())
        else:
            await state.keep_leases_under(conn, generation)
        self.noticed += 1
        _log.error(
            "this database is older than agent %s, which has heard more of it: it was restored from a copy without"
            " `restore`; its generation is now %s, and agents send again what is missing",
            agent_id,
            generation,
        )
        return generation
