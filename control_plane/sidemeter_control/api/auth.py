"""Who is calling: the key behind a request, and whether its scopes are enough. Every door asks here."""

from collections import OrderedDict

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from sidemeter_control.store import audit, keys
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope

__all__ = ["MAX_CACHED_KEYS", "MAX_NAME", "Gate"]

# Keys in use at once, far above any real number; a miss costs one point read.
MAX_CACHED_KEYS = 1_000

_SECRET_PREFIX = "smk_"  # noqa: S105 -- what every secret begins with, so that leak scanners find them
MAX_NAME = 256


class Gate:
    """Tells keys apart and makes them. Valid keys are remembered, and forgotten with every change of a key.

    The lookup goes by the secret's SHA-256, so its time says nothing of the secret.
    """

    def __init__(self, database: Database, clock: Clock, *, remembered: int = MAX_CACHED_KEYS) -> None:
        self._database = database
        self._clock = clock
        self._known: OrderedDict[bytes, Key] = OrderedDict()
        self._remembered = remembered
        self._revocations = 0

    async def admit(self, authorization: str | None, *enough: Scope) -> Key:
        """The key of an `Authorization: Bearer <secret>` header that allows one of `enough`.

        Unauthenticated: no key, or one that is unknown, expired or revoked. Forbidden: it lacks every scope of `enough`.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated("send a key: Authorization: Bearer <key>")
        key = await self._find(keys.secret_hash(secret.strip()))
        if key is None or not key.valid_at(self._clock.now_us()):
            raise Unauthenticated("the key is unknown, expired or revoked")
        self.require(key, *enough)
        return key

    @staticmethod
    def require(key: Key, *enough: Scope) -> None:
        """Forbidden, unless the key allows one of `enough`."""
        if not any(key.allows(scope) for scope in enough):
            raise Forbidden(f"the key lacks the scope {' or '.join(scope.value for scope in enough)}")

    async def make(
        self, name: str, scopes: frozenset[Scope], expires_at_us: int | None, *, by: str = audit.OPERATOR
    ) -> tuple[Key, str]:
        """A new key and its secret, which is never shown again."""
        now_us = self._clock.now_us()
        if not 1 <= len(name) <= MAX_NAME:
            raise InvalidInput("name", f"must be 1 to {MAX_NAME} characters")
        if not scopes:
            raise InvalidInput("scopes", "must name at least one scope")
        if expires_at_us is not None and expires_at_us <= now_us:
            raise InvalidInput("expiresAt", "must be in the future")
        key = Key(self._clock.new_id("key"), name, scopes, now_us, expires_at_us)
        secret = _SECRET_PREFIX + self._clock.new_secret()
        async with self._database.write() as conn:
            await _create(conn, key, keys.secret_hash(secret), by)
        return key, secret

    async def revoke(self, key_id: str, *, by: str = audit.OPERATOR) -> None:
        """End a key at once; NotFound when there is none that could be revoked."""
        now_us = self._clock.now_us()
        async with self._database.write() as conn:
            revoked = await keys.revoke(conn, key_id, now_us)
            if revoked:
                await audit.add(conn, now_us, by, "revokeApiKey", f"key {key_id}")
        self._revocations += 1
        self._known.clear()
        if not revoked:
            raise NotFound("key in force", key_id)

    async def first_key(self, given: str | None) -> str | None:
        """See that an admin key exists. Returns the secret of one made now, which must be shown; else None.

        A `given` secret that is new becomes an admin key; one that was revoked stays revoked.
        """
        if given is not None:
            await self._accept(given)
            return None
        async with self._database.read() as conn:
            admins = [key for key in await keys.every(conn) if key.allows(Scope.ADMIN)]
        if admins:
            return None
        _, secret = await self.make("first admin", frozenset({Scope.ADMIN}), None)
        return secret

    async def _accept(self, secret: str) -> None:
        hashed = keys.secret_hash(secret)
        async with self._database.write() as conn:
            if await keys.by_hash(conn, hashed) is None:
                now_us = self._clock.now_us()
                key = Key(self._clock.new_id("key"), "SIDEMETER_ADMIN_KEY", frozenset({Scope.ADMIN}), now_us)
                await _create(conn, key, hashed, audit.OPERATOR)

    async def _find(self, hashed: bytes) -> Key | None:
        key = self._known.get(hashed)
        if key is None:
            revocations = self._revocations
            async with self._database.read() as conn:
                key = await keys.by_hash(conn, hashed)
            # A key read before a revocation must not be remembered after it.
            if key is not None and revocations == self._revocations:
                self._known[hashed] = key
                if len(self._known) > self._remembered:
                    self._known.popitem(last=False)
        return key


async def _create(conn: AsyncConnection, key: Key, hashed: bytes, by: str) -> None:
    await keys.create(conn, key, hashed)
    detail = {"name": key.name, "scopes": sorted(scope.value for scope in key.scopes), "expiresAtUs": key.expires_at_us}
    await audit.add(conn, key.created_at_us, by, "createApiKey", f"key {key.id}", **detail)
