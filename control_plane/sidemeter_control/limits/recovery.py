"""Recovery: what a database that finds itself an older copy has to hear before it grants anything again. Pure.

Its holders may have been granted more than it knows, and there may be holders that it does not know. Granting on would
give twice what they hold; so it waits, and they go on with what they have.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

__all__ = ["HolderId", "Recovery", "begin_recovery"]

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
