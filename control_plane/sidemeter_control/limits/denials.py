"""Denials: how often agents say they refused something, by reason, since this process began. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Final

__all__ = ["MAX_TELLERS", "Denials"]

MAX_TELLERS: Final = 10_000
"""Agents whose last counts are remembered; of one that is forgotten, what comes next is counted from there."""

_MAX_REASONS: Final = 64
_OTHER: Final = "other"


class Denials:
    """Agents tell counts since they began, and this counts the difference to what each told before.

    What an agent told first is where its counting begins: it may have been counted before this process was there.
    """

    def __init__(self, *, most: int = MAX_TELLERS) -> None:
        self.by_reason: Counter[str] = Counter()
        self._most = most
        self._told: OrderedDict[str, Mapping[str, int]] = OrderedDict()

    def tell(self, agent_id: str, counts: Mapping[str, int]) -> None:
        """Take what an agent tells, by reason. Counts that are lower than before are those of a process that began anew.

        >>> denials = Denials()
        >>> for count in (5, 7, 1):
        ...     denials.tell("agent-1", {"limit_reached": count})
        >>> denials.by_reason["limit_reached"]
        3
        """
        before = self._told.get(agent_id)
        if before is not None:
            began_anew = any(counts.get(reason, 0) < count for reason, count in before.items())
            for reason, count in counts.items():
                more = count if began_anew else count - before.get(reason, 0)
                if more:
                    self.by_reason[self._known(reason)] += more
        self._told[agent_id] = dict(counts)
        self._told.move_to_end(agent_id)
        if len(self._told) > self._most:
            self._told.popitem(last=False)

    def _known(self, reason: str) -> str:
        """Agents of other versions may have other reasons, but not without end."""
        return reason if reason in self.by_reason or len(self.by_reason) < _MAX_REASONS else _OTHER
