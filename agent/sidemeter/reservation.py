"""A reservation, as its caller holds it: in process, or of an agent in another process."""

from collections.abc import Callable, Coroutine, Generator, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

from sidemeter.errors import InvalidInput
from sidemeter.events import Receipt
from sidemeter.tracked import Decision

__all__ = ["MAX_TTL_S", "Ends", "Reservation", "Reserving", "check_ttl"]

MAX_TTL_S: Final = 86_400.0
"""The longest time that a reservation may ask for, or be extended by."""


class Ends(Protocol):
    """Who made a reservation, and takes its end."""

    def is_open(self, hold_id: str) -> bool:
        """Whether it has no end yet."""

    async def commit(self, hold_id: str, data: Mapping[str, object] | None) -> Receipt | None:
        """Its operation used this."""

    async def release(self, hold_id: str) -> bool:
        """Its operation did not start."""

    async def extend(self, hold_id: str, ttl_s: float) -> bool:
        """It goes on."""


class Reservation:
    """What `Agent.reserve` gives: the `decision`, and if it is allowed a part of each limit, until its one end.

    As a context manager it ends with what `used` says, also when its block fails or is cancelled. Without that nobody
    knows: what it holds is charged when its time is over, until somebody commits it after all.
    """

    def __init__(self, reserver: Ends, hold_id: str, decision: Decision) -> None:
        self._reserver = reserver
        self.id = hold_id
        self.decision = decision
        self.used: Mapping[str, object] | None = None

    @property
    def allowed(self) -> bool:
        """Whether the operation may start."""
        return self.decision.allowed

    async def commit(self, data: Mapping[str, object] | None = None) -> Receipt | None:
        """The operation used this: record it as its event. More than was reserved counts in full. Said again, it
        changes nothing. None if it was released."""
        return await self._reserver.commit(self.id, data)

    async def release(self) -> bool:
        """The operation did not start: all is free again. False if it has another end already."""
        return await self._reserver.release(self.id)

    async def extend(self, ttl_s: float) -> bool:
        """Let it last until `ttl_s` from now; False if it has an end, or its time was over before."""
        return await self._reserver.extend(self.id, ttl_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.used is not None and self._reserver.is_open(self.id):
            await self.commit(self.used)


class Reserving:
    """A reservation to be made: await it, or enter it."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Reservation]]) -> None:
        self._make = make
        self._made: Reservation | None = None

    def __await__(self) -> Generator[Any, None, Reservation]:
        return self._make().__await__()

    async def __aenter__(self) -> Reservation:
        self._made = await self._make()
        return self._made

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            await self._made.__aexit__(kind, error, trace)


def check_ttl(ttl_s: object) -> None:
    """Raise InvalidInput unless that is how long a reservation may last."""
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 0 < ttl_s <= MAX_TTL_S:
        raise InvalidInput("ttl_s", f"must be a number of seconds above 0, {MAX_TTL_S:g} at most")
