"""API keys: who may do what. Of a secret only its SHA-256 is stored; 256 random bits need no slower hash."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store.tables import api_keys

__all__ = ["Key", "Scope", "by_hash", "create", "every", "revoke", "secret_hash"]


class Scope(Enum):
    """What a key allows. ADMIN includes every other, WRITE includes READ."""

    AGENT = "AGENT"
    READ = "READ"
    WRITE = "WRITE"
    ADMIN = "ADMIN"


_INCLUDED = {Scope.ADMIN: frozenset(Scope), Scope.WRITE: frozenset({Scope.WRITE, Scope.READ})}


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether one of the key's scopes is or includes `scope`.

        >>> Key("key_1", "dashboard", frozenset({Scope.WRITE}), 0).allows(Scope.READ)
        True
        """
        return any(scope in _INCLUDED.get(each, frozenset({each})) for each in self.scopes)

    def valid_at(self, now_us: int) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at_us is None and (self.expires_at_us is None or now_us < self.expires_at_us)


def secret_hash(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


async def create(conn: AsyncConnection, key: Key, hashed: bytes) -> None:
    """Keep a new key under the hash of its secret."""
    await conn.execute(
        insert(api_keys).values(
            id=key.id,
            name=key.name,
            secret_hash=hashed,
            scopes=_scopes_text(key.scopes),
            created_at_us=key.created_at_us,
            expires_at_us=key.expires_at_us,
        )
    )


async def by_hash(conn: AsyncConnection, hashed: bytes) -> Key | None:
    """The key with this secret's hash, valid or not."""
    row = (await conn.execute(select(api_keys).where(api_keys.c.secret_hash == hashed))).one_or_none()
    return None if row is None else _key(row)


async def every(conn: AsyncConnection) -> list[Key]:
    """All keys, oldest first."""
    rows = await conn.execute(select(api_keys).order_by(api_keys.c.created_at_us, api_keys.c.id))
    return [_key(row) for row in rows]


async def revoke(conn: AsyncConnection, key_id: str, now_us: int) -> bool:
    """End a key for good. False when there is no such key, or it was revoked before."""
    unrevoked = (api_keys.c.id == key_id) & api_keys.c.revoked_at_us.is_(None)
    return bool((await conn.execute(update(api_keys).where(unrevoked).values(revoked_at_us=now_us))).rowcount)


def _scopes_text(scopes: Iterable[Scope]) -> str:
    return json.dumps(sorted(each.value for each in scopes))


def _key(row: Row[tuple[object, ...]]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        scopes=frozenset(Scope(each) for each in json.loads(row.scopes)),
        created_at_us=row.created_at_us,
        expires_at_us=row.expires_at_us,
        revoked_at_us=row.revoked_at_us,
    )
