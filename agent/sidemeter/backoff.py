"""How long to wait before asking the control plane again: full jitter, without end, and never before it said."""

from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_base

from sidemeter.clock import Clock
from sidemeter.errors import ControlPlaneError, Unreachable

__all__ = ["FIRST_S", "LONGEST_S", "delay_s", "retrying"]

FIRST_S: Final = 0.2
LONGEST_S: Final = 60.0


def delay_s(attempt: int, random: float, retry_after_s: float | None = None, longest_s: float = LONGEST_S) -> float:
    """The wait after failed attempt number `attempt` (from 1): a `random` part (0 to 1) of a bound that doubles up to
    `longest_s`.

    All of the bound is jitter, so that agents which lost the control plane together do not come back together.
    What the answer asked for (`retry_after_s`) comes on top of it.

    >>> delay_s(1, 0.5), delay_s(3, 1.0), delay_s(10_000, 1.0), delay_s(1, 0.5, retry_after_s=30)
    (0.1, 0.8, 60.0, 30.1)
    """
    bound = longest_s if attempt > 9 else min(longest_s, FIRST_S * 2 ** (attempt - 1))
    return (retry_after_s or 0.0) + bound * random


class _FullJitter(wait_base):
    def __init__(self, clock: Clock, longest_s: float) -> None:
        self._clock = clock
        self._longest_s = longest_s

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        asked = error.retry_after_s if isinstance(error, Unreachable) else None
        random = int(self._clock.token_hex(4), 16) / 0xFFFF_FFFF
        return delay_s(retry_state.attempt_number, random, asked, self._longest_s)


def retrying(clock: Clock, longest_s: float = LONGEST_S) -> AsyncRetrying:
    """The one retry policy: any `ControlPlaneError`, for ever, sleeping by `clock`, at most `longest_s` if not asked for
    more. Cancelling it ends the wait."""
    return AsyncRetrying(
        retry=retry_if_exception_type(ControlPlaneError),
        wait=_FullJitter(clock, longest_s),
        sleep=clock.sleep,
        reraise=True,
    )
