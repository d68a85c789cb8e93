"""Corrections: what is said of an event later, and in which order that may be. Pure rules, no I/O.

An event never changes: its corrections stand beside it, and the last one counts. So a void is taken back by correcting the
event to what it said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sidemeter_control.errors import Conflict, InvalidInput

__all__ = ["MAX_CORRECTIONS", "MAX_REASON", "Correction", "CorrectionKind", "decide"]

MAX_CORRECTIONS = 100
"""Of one event: all of them are shown with it."""

MAX_REASON = 1_000


class CorrectionKind(Enum):
    """VOID: the event counts nowhere. CORRECT: it says something else."""

    VOID = "VOID"
    CORRECT = "CORRECT"


@dataclass(frozen=True, slots=True)
class Correction:
    """What was said of an event, why, when, and by whom (the id of a key).

    `data` is what the event says from then on; with VOID, what it said until then.
    """

    kind: CorrectionKind
    data: str | None
    reason: str
    at_us: int
    actor: str


def decide(so_far: Sequence[Correction], wanted: Correction) -> bool:
    """Whether the correction is new; False: the last one was the same, sent again, and all is as it should be.

    InvalidInput for a reason that is none; Conflict when the event is voided already, for another reason, or has as many
    corrections as it may have.

    >>> void = Correction(CorrectionKind.VOID, None, "a test", 0, "key_1")
    >>> decide([], void), decide([void], void)
    (True, False)
    """
    if not 1 <= len(wanted.reason) <= MAX_REASON or not wanted.reason.strip():
        raise InvalidInput("reason", f"must be 1 to {MAX_REASON} characters, not all of them spaces")
    last = so_far[-1] if so_far else None
    if last is not None and (last.kind, last.data, last.reason) == (wanted.kind, wanted.data, wanted.reason):
        return False
    if last is not None and last.kind is wanted.kind is CorrectionKind.VOID:
        raise Conflict(f"the event is voided already: {last.reason}")
    if len(so_far) >= MAX_CORRECTIONS:
        raise Conflict(f"the event has {MAX_CORRECTIONS} corrections, and may have no more")
    return True
