"""Who is calling: the key, portal link or session behind a request or a websocket, and whether it is enough. Every door asks here."""

from collections.abc import Collection
from enum import Enum

from starlette.requests import HTTPConnection

from sidemeter_control.access.attempts import FREE_GUESSES, FREE_MISSES, Attempts
from sidemeter_control.access.keyring import MAX_CACHED_KEYS, MAX_NAME, Keyring, is_generated
from sidemeter_control.access.links import LINK_PREFIX
from sidemeter_control.access.portal import Portal
from sidemeter_control.access.sessions import Sessions
from sidemeter_control.api.origins import Origins
from sidemeter_control.clock import Clock
from sidemeter_control.errors import Forbidden, TooManyAttempts, Unauthenticated
from sidemeter_control.store import keys
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope

__all__ = ["MAX_CACHED_KEYS", "MAX_NAME", "Gate", "Narrow"]


class Narrow(Enum):
    """What a key may be for alone. A door lets such a key in only when it sees to it that nothing else is reached."""

    CUSTOMER = "one customer"
    SERVICE = "one service"
    LINK = "the pages of one customer"


class Gate(Keyring):
    """The keyring, asked by requests. `portal` and `sessions` are the other two ways in."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        remembered: int = MAX_CACHED_KEYS,
        origins: Origins | None = None,
    ) -> None:
        super().__init__(database, clock, remembered=remembered)
        self.portal = Portal(database, clock)
        self.sessions = Sessions(database, clock, self, self.portal)
        self.origins = origins or Origins()
        self._guesses = Attempts(FREE_GUESSES)
        self._misses = Attempts(FREE_MISSES)

    async def let_in(self, connection: HTTPConnection, *enough: Scope, heeds: Collection[Narrow] = ()) -> Key:
        """The key of a request or of a websocket: by its Authorization header, or by the cookie of a session.

        As `admit`; and Forbidden for what another site made a browser send with the cookie.
        """
        authorization = connection.headers.get("authorization")
        token = None if authorization is not None else self.origins.session_of(connection)
        if token is None:
            return await self.admit(authorization, *enough, source=self.origins.source_of(connection), heeds=heeds)
        self.origins.check(connection)
        key = await self.sessions.find(token)
        if key is None:
            raise Unauthenticated("the session has ended: log in again")
        return _fit(key, enough, heeds)

    async def admit(
        self, authorization: str | None, *enough: Scope, source: str = "", heeds: Collection[Narrow] = ()
    ) -> Key:
        """The key of an `Authorization: Bearer <secret>` header that allows one of `enough`; a portal link is one, too.

        `source`: the address that sends it; `heeds`: which keys that are for one thing alone the door keeps to it.

        Unauthenticated: no key, or one that is unknown, expired or revoked. Forbidden: it lacks every scope of `enough`, or
        is for one thing alone. TooManyAttempts: the address sent wrong ones before, and has to wait.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise Unauthenticated("send a key: Authorization: Bearer <key>")
        return _fit(await self._identify(secret, source), enough, heeds)

    @staticmethod
    def require(key: Key, *enough: Scope) -> None:
        """Forbidden, unless the key allows one of `enough`."""
        if not any(key.allows(scope) for scope in enough):
            raise Forbidden(f"the key lacks the scope {' or '.join(scope.value for scope in enough)}")

    async def _identify(self, secret: str, source: str) -> Key:
        is_link = secret.startswith(LINK_PREFIX)
        attempts = self._misses if is_link or is_generated(secret) else self._guesses
        now_s = int(self._clock.monotonic_s())
        wait_s = attempts.wait_s(source, now_s)
        if wait_s and attempts is self._guesses:
            raise TooManyAttempts(wait_s)  # right or wrong is not told apart before its time
        key = await (self.portal.open(secret) if is_link else self.find(keys.secret_hash(secret)))
        if key is not None:
            return key
        attempts.failed(source, now_s)
        if wait_s:
            raise TooManyAttempts(wait_s)
        raise Unauthenticated("the key is unknown, expired or revoked")


def _fit(key: Key, enough: Collection[Scope], heeds: Collection[Narrow]) -> Key:
    narrow = _narrow(key)
    if narrow is not None and narrow not in heeds:
        raise Forbidden(f"the key is for {narrow.value} alone")
    Gate.require(key, *enough)
    return key


def _narrow(key: Key) -> Narrow | None:
    if key.is_link:
        return Narrow.LINK
    if key.customer is not None:
        return Narrow.CUSTOMER
    return None if key.service is None else Narrow.SERVICE
