"""Keys are made, found, replaced and revoked here, and what was used when is noted.

Valid keys are remembered, and forgotten with every change of a key; none is where other processes may change it. The lookup goes by the secret's SHA-256, so its time
says nothing of the secret.
"""

import re
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.errors import InvalidInput, NotFound
from sidemeter_control.store import audit, customers, keys
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope

__all__ = ["MAX_CACHED_KEYS", "MAX_NAME", "MAX_OVERLAP_S", "Keyring", "is_generated"]

MAX_CACHED_KEYS = 1_000
"""Keys in use at once, far above any real number; a miss costs one point read."""

MAX_NAME = 256
MAX_OVERLAP_S = 30 * 86_400
"""How long a replaced secret may stay valid: one that is never taken out of use was not replaced."""

_SECRET_PREFIX: Final = "smk_"  # noqa: S105 -- what every secret begins with, so that leak scanners find them
_SHOWN_CHARS: Final = 8
_GENERATED = re.compile(r"smk_[A-Za-z0-9_-]{43}", re.ASCII)
_NOT_FOR_ONE_CUSTOMER = frozenset({Scope.ADMIN, Scope.AGENT})
_NOT_FOR_ONE_SERVICE = frozenset({Scope.ADMIN})


def is_generated(secret: str) -> bool:
    """Whether it has the form of a secret with 256 random bits, which nobody guesses.

    >>> is_generated("smk_" + "x" * 43), is_generated("hunter2")
    (True, False)
    """
    return _GENERATED.fullmatch(secret) is not None


class Keyring:
    """All keys of a database."""

    def __init__(self, database: Database, clock: Clock, *, remembered: int = MAX_CACHED_KEYS) -> None:
        self._database = database
        self._clock = clock
        self._known: OrderedDict[bytes, Key] = OrderedDict()
        self._remembered = remembered
        self._most_known = 0 if database.is_shared else remembered
        self._changes = 0
        self._used_at_us: dict[str, int] = {}

    async def find(self, hashed: bytes) -> Key | None:
        """The key with a secret of that hash, if it is valid now."""
        key = self._known.get(hashed)
        if key is None:
            changes = self._changes
            async with self._database.point() as conn:
                key = await keys.by_hash(conn, hashed)
            # A key read before a change must not be remembered after it.
            if key is not None and changes == self._changes:
                self._known[hashed] = key
                if len(self._known) > self._most_known:
                    self._known.popitem(last=False)
        now_us = self._clock.now_us()
        if key is None or not key.valid_at(now_us):
            return None
        if key.id in self._used_at_us or len(self._used_at_us) < self._remembered:
            self._used_at_us[key.id] = now_us
        return key

    async def make(
        self,
        name: str,
        scopes: frozenset[Scope],
        expires_at_us: int | None,
        *,
        customer: str | None = None,
        service: str | None = None,
        by: str = audit.OPERATOR,
    ) -> tuple[Key, str]:
        """A new key and its secret, which is never shown again. `customer` or `service`: the only one it is for."""
        secret = self._new_secret()
        key = Key(
            self._clock.new_id("key"),
            name,
            scopes,
            self._clock.now_us(),
            expires_at_us,
            prefix=secret[:_SHOWN_CHARS],
            customer=customer,
            service=service,
        )
        _check(key)
        async with self._database.write() as conn:
            if customer is not None and not await customers.get(conn, [customer]):
                raise NotFound("customer", customer)
            await _create(conn, key, keys.secret_hash(secret), by)
        return key, secret

    async def replace_secret(self, key_id: str, overlap_s: int, *, by: str = audit.OPERATOR) -> tuple[Key, str]:
        """A new secret of a key, in place of the one it has, which is still taken for `overlap_s` seconds.

        NotFound when there is no such key in force, InvalidInput when the overlap is too long.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise InvalidInput("overlapSeconds", f"must be from 0 to {MAX_OVERLAP_S}")
        now_us, secret = self._clock.now_us(), self._new_secret()
        ends_at_us = now_us + overlap_s * 1_000_000
        async with self._database.write() as conn:
            key = await keys.by_id(conn, key_id)
            if key is None or not key.valid_at(now_us):
                raise NotFound("key in force", key_id)
            prefix = secret[:_SHOWN_CHARS]
            await keys.replace_secret(conn, key, keys.secret_hash(secret), prefix, ends_at_us)
            detail = {"formerPrefix": key.prefix, "prefix": prefix, "formerEndsAtUs": ends_at_us}
            await audit.add(conn, now_us, by, "rotateApiKey", f"key {key_id}", **detail)
        self._forget()
        return replace(key, prefix=prefix), secret

    async def revoke(self, key_id: str, *, by: str = audit.OPERATOR) -> None:
        """End a key at once, with every secret of it; NotFound when there is none that could be revoked."""
        now_us = self._clock.now_us()
        async with self._database.write() as conn:
            revoked = await keys.revoke(conn, key_id, now_us)
            if revoked:
                await audit.add(conn, now_us, by, "revokeApiKey", f"key {key_id}")
        self._forget()
        if not revoked:
            raise NotFound("key in force", key_id)

    async def has_admin(self) -> bool:
        """Whether there ever was an admin key: who let the last one end, makes another on the machine."""
        async with self._database.read() as conn:
            return await _has_admin(conn)

    async def first_key(self, given: str | None) -> str | None:
        """See that an admin key exists. Returns the secret of one made now, which must be shown; else None.

        A `given` secret that is new becomes an admin key; one that was revoked or replaced stays so.
        """
        if given is not None:
            await self._accept(given)
            return None
        secret, now_us = self._new_secret(), self._clock.now_us()
        async with self._database.write() as conn:
            if await _has_admin(conn):
                return None
            admin = frozenset({Scope.ADMIN})
            key = Key(self._clock.new_id("key"), "first admin", admin, now_us, prefix=secret[:_SHOWN_CHARS])
            await _create(conn, key, keys.secret_hash(secret), audit.OPERATOR)
        return secret

    async def note_uses_once(self) -> int:
        """Write down when keys were used that were since the last time; answers how many. Once a minute is enough."""
        used, self._used_at_us = self._used_at_us, {}
        if used:
            try:
                async with self._database.write() as conn:
                    await keys.used(conn, used)
            except BaseException:
                self._used_at_us = used | self._used_at_us  # the next time writes them
                raise
        return len(used)

    async def _accept(self, secret: str) -> None:
        hashed = keys.secret_hash(secret)
        async with self._database.write() as conn:
            if await keys.by_hash(conn, hashed) is None:
                now_us = self._clock.now_us()
                key = Key(self._clock.new_id("key"), "SIDEMETER_ADMIN_KEY", frozenset({Scope.ADMIN}), now_us)
                await _create(conn, key, hashed, audit.OPERATOR)

    def _new_secret(self) -> str:
        return _SECRET_PREFIX + self._clock.new_secret()

    def _forget(self) -> None:
        self._changes += 1
        self._known.clear()


def _check(key: Key) -> None:
    if not 1 <= len(key.name) <= MAX_NAME:
        raise InvalidInput("name", f"must be 1 to {MAX_NAME} characters")
    if not key.scopes:
        raise InvalidInput("scopes", "must name at least one scope")
    if key.expires_at_us is not None and key.expires_at_us <= key.created_at_us:
        raise InvalidInput("expiresAt", "must be in the future")
    if key.customer is not None and key.service is not None:
        raise InvalidInput("service", "must not be there beside customer")
    if key.service is not None and not 1 <= len(key.service) <= MAX_NAME:
        raise InvalidInput("service", f"must be 1 to {MAX_NAME} characters")
    if key.customer is not None and key.scopes & _NOT_FOR_ONE_CUSTOMER:
        raise InvalidInput("scopes", "must be READ or WRITE for one customer")
    if key.service is not None and key.scopes & _NOT_FOR_ONE_SERVICE:
        raise InvalidInput("scopes", "must be AGENT, READ or WRITE for one service")


async def _has_admin(conn: AsyncConnection) -> bool:
    return any(key.allows(Scope.ADMIN) for key in await keys.every(conn))


async def _create(conn: AsyncConnection, key: Key, hashed: bytes, by: str) -> None:
    await keys.create(conn, key, hashed)
    detail = {"name": key.name, "scopes": sorted(scope.value for scope in key.scopes), "expiresAtUs": key.expires_at_us}
    only = {"customer": key.customer, "service": key.service}
    detail |= {kind: name for kind, name in only.items() if name is not None}
    await audit.add(conn, key.created_at_us, by, "createApiKey", f"key {key.id}", **detail)
