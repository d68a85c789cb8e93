"""How long subscriptions wait, and for what."""

from typing import Final

from sidemeter_control.errors import ControlError

__all__ = ["INIT_WITHIN_S", "MAX_OPERATIONS", "SLOW_S", "STILL_S", "SlowConsumer"]

SLOW_S: Final = 10.0
"""How long a message may wait to be taken, before the caller is told to come back with more time."""

STILL_S: Final = 15.0
"""Without a message: how often the caller hears that it is still listened for, and its key is looked at again."""

INIT_WITHIN_S: Final = 10.0
"""From the opening of a WebSocket to its `connection_init`."""

MAX_OPERATIONS: Final = 100
"""Open at once on one WebSocket: a page with everything on it has some twenty."""


class SlowConsumer(ControlError):
    """The caller takes messages slower than they come."""

    code = "SLOW_CONSUMER"

    def __init__(self, slow_s: float) -> None:
        super().__init__(f"a message was not taken within {slow_s:g} s: subscribe again")
