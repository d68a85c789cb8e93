"""Recovery: what a database that finds itself an older copy has to hear before it grants anything again. Pure.

Its holders may have been granted more than it knows, and there may be holders that it does not know. Granting on would
give twice what they hold; so it waits, and they go on with what they have.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

__all__ = ["AtStart", "Attested", "HolderId", "Recovery", "begin_recovery", "judge"]

HolderId = tuple[str, str]
"""An agent's id and the id of its hello: an epoch's number may be given out again by an older copy of a database."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """A database that knows it is an older copy of itself: what was granted since the copy was made is known to the
    holders alone. Up to the period `through` it grants nothing until all of them have told it.

    `awaited` are holders that may have been granted more than it knows. `holders` is how many holders there have been in
    all, by a witness outside of the database and by the hellos since; None: nobody knows, and no report is known to be the
    last. Then only a later period is granted from, or an operator's word ends it.
    """

    through: int
    awaited: frozenset[HolderId]
    holders: int | None

    def heard(self, holder: HolderId) -> "Recovery":
        """That one has told everything."""
        return replace(self, awaited=self.awaited - {holder})

    def joined(self) -> "Recovery":
        """A hello began a new holder."""
        return replace(self, holders=None if self.holders is None else self.holders + 1)

    def is_over(self, known_holders: int) -> bool:
        """Whether everything that was ever granted is known again."""
        return not self.awaited and self.holders is not None and known_holders >= self.holders


def begin_recovery(
    before: Recovery | None, current: Collection[HolderId], *, through: int, holders: int | None
) -> Recovery:
    """What a database awaits that has found itself an older copy. `current` are its holders that were not superseded.

    `through` is the newest period that anything may have been granted in, `holders` as in `Recovery`.
    """
    if before is None:
        return Recovery(through, frozenset(current), holders)
    return Recovery(max(through, before.through), frozenset(current) | before.awaited, holders)


@dataclass(frozen=True, slots=True)
class Attested:
    """What is said outside of a database of it: in which `generation` it was, how far its leases had come, and how many
    holders there had been in all (None: nobody knows)."""

    generation: str
    lease_version: int
    holders: int | None


@dataclass(frozen=True, slots=True)
class AtStart:
    """What a database finds of itself when it is opened. `recovers`: it is an older copy, and grants were made since.

    `anew`: nobody gave it a generation of its own yet. `holders` as in `Recovery`.
    """

    recovers: bool
    anew: bool
    holders: int | None


def judge(own: Attested, leased_in: str | None, said: Attested | None, *, recovered_in: bool = False) -> AtStart:
    """Whether a database is the one that granted last. `own` is what it would testify, `leased_in` the generation that it
    granted in (None: never), `said` what its witness says (None: there is none). `recovered_in`: its generation began with a
    recovery, of which the witness may not have heard when the power went.

    >>> judge(Attested("g2", 7, 3), "g1", Attested("g1", 9, 4))  # a backup was put in its place by `restore`
    AtStart(recovers=True, anew=False, holders=4)
    >>> judge(Attested("g1", 7, 3), "g1", Attested("g1", 9, 4))  # by hand
    AtStart(recovers=True, anew=True, holders=4)
    >>> judge(Attested("g1", 7, 3), "g1", Attested("g1", 7, 3))
    AtStart(recovers=False, anew=False, holders=3)
    """
    leased = own.lease_version > 0 or (said is not None and said.lease_version > 0)
    if leased_in is None and not leased:
        return AtStart(recovers=False, anew=False, holders=own.holders)
    at_least = own.holders or 0
    holders = None
    if said is not None and said.generation == leased_in and said.holders is not None and said.holders >= at_least:
        holders = said.holders
    if leased_in != own.generation:
        return AtStart(leased, anew=said is not None and said.generation == own.generation, holders=holders)
    if said is None:
        return AtStart(recovers=False, anew=False, holders=None)
    if said.generation != own.generation:
        older = said.lease_version > 0 and not recovered_in
        return AtStart(recovers=older, anew=older, holders=None)
    behind = said.lease_version > own.lease_version or (said.holders or 0) > at_least
    if behind and leased:
        return AtStart(recovers=True, anew=True, holders=holders)
    return AtStart(recovers=False, anew=False, holders=None if said.holders is None else own.holders)
