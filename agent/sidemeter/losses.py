"""Losses: what the disk took of events that were acknowledged, said aloud. Pure."""

from typing import Final

import msgspec

__all__ = ["NO_MATCH", "Loss"]

NO_MATCH: Final = "the row does not match its checksum"
"""Why a row is lost, and kept apart, whose bytes are no event any more."""


class Loss(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows `first_seq` to `last_seq` of one agent, of which `events` acknowledged events are lost; what is None is not known.

    The control plane stores it once for each agent and `id`, however often it is told. With `counted_in` that copy of its
    database has the events, or knows that they are lost: this is news only where it goes back to before it did.

    >>> Loss("4f2a", 7, 9, 2, "2 rows are gone from the buffer", 1_767_225_600_000_000).events
    2
    """

    id: str
    first_seq: int
    last_seq: int | None
    events: int | None
    reason: str
    noticed_at_us: int
    counted_in: str | None = None
