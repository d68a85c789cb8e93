"""API keys: who may do what, and for whom. Of a secret only its SHA-256 is stored; 256 random bits need no slower hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sqlalchemy import bindparam, insert, select, tuple_, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store.tables import api_keys, retired_secrets

__all__ = [
    "Key",
    "Scope",
    "by_hash",
    "by_id",
    "create",
    "every",
    "page",
    "replace_secret",
    "retiring",
    "revoke",
    "secret_hash",
    "used",
]


class Scope(Enum):
    """What a key allows. ADMIN includes every other, WRITE includes READ."""

    AGENT = "AGENT"
    READ = "READ"
    WRITE = "WRITE"
    ADMIN = "ADMIN"


_INCLUDED = {Scope.ADMIN: frozenset(Scope), Scope.WRITE: frozenset({Scope.WRITE, Scope.READ})}


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret, or what a portal link allows in the form of one: `is_link`.

    `customer` or `service`: the only one that it is for; None: it is for all. `prefix`: how its secret begins.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None
    prefix: str | None = None
    customer: str | None = None
    service: str | None = None
    last_used_at_us: int | None = None
    is_link: bool = False

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
            prefix=key.prefix,
            customer_key=key.customer,
            service=key.service,
        )
    )


async def by_hash(conn: AsyncConnection, hashed: bytes) -> Key | None:
    """The key with this secret's hash, valid or not. With a secret that was replaced it ends when that one does."""
    row = (await conn.execute(select(api_keys).where(api_keys.c.secret_hash == hashed))).one_or_none()
    if row is not None:
        return _key(row)
    retired = (
        await conn.execute(
            select(api_keys, retired_secrets.c.ends_at_us)
            .join(retired_secrets, retired_secrets.c.key_id == api_keys.c.id)
            .where(retired_secrets.c.secret_hash == hashed)
        )
    ).one_or_none()
    if retired is None:
        return None
    key = _key(retired)
    ends = (retired.ends_at_us, key.expires_at_us)
    return replace(key, expires_at_us=min(each for each in ends if each is not None))


async def by_id(conn: AsyncConnection, key_id: str) -> Key | None:
    """The key with this id, valid or not."""
    row = (await conn.execute(select(api_keys).where(api_keys.c.id == key_id))).one_or_none()
    return None if row is None else _key(row)


async def replace_secret(conn: AsyncConnection, key: Key, hashed: bytes, prefix: str, ends_at_us: int) -> None:
    """Keep the key under the hash of a new secret; the one it had is taken until then."""
    own = api_keys.c.id == key.id
    former = await conn.scalar(select(api_keys.c.secret_hash).where(own))
    await conn.execute(insert(retired_secrets).values(secret_hash=former, key_id=key.id, ends_at_us=ends_at_us))
    await conn.execute(update(api_keys).where(own).values(secret_hash=hashed, prefix=prefix))


async def retiring(conn: AsyncConnection, ids: Iterable[str], now_us: int) -> dict[str, int]:
    """Until when the last of a key's replaced secrets is taken, by the key's id; absent: no such secret is taken now."""
    wanted = select(retired_secrets.c.key_id, retired_secrets.c.ends_at_us).where(
        retired_secrets.c.key_id.in_(list(ids)), retired_secrets.c.ends_at_us > now_us
    )
    rows = await conn.execute(wanted.order_by(retired_secrets.c.ends_at_us))
    return {row.key_id: row.ends_at_us for row in rows}


async def used(conn: AsyncConnection, at_us: Mapping[str, int]) -> None:
    """Say when keys were used last, by their ids; who says so later may know of an earlier use."""
    if at_us:
        earlier = api_keys.c.last_used_at_us.is_(None) | (api_keys.c.last_used_at_us < bindparam("at"))
        own = (api_keys.c.id == bindparam("key")) & earlier
        last = update(api_keys).where(own).values(last_used_at_us=bindparam("at"))
        await conn.execute(last, [{"key": key_id, "at": at} for key_id, at in at_us.items()])


async def page(conn: AsyncConnection, limit: int, after: tuple[int, str] | None = None) -> list[Key]:
    """At most `limit` keys, oldest first; `after`: those made after that instant, or then with a greater id."""
    place = tuple_(api_keys.c.created_at_us, api_keys.c.id)
    wanted = select(api_keys).order_by(api_keys.c.created_at_us, api_keys.c.id).limit(limit)
    if after is not None:
        wanted = wanted.where(place > after)
    return [_key(row) for row in await conn.execute(wanted)]


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


def _key(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        scopes=frozenset(Scope(each) for each in json.loads(row.scopes)),
        created_at_us=row.created_at_us,
        expires_at_us=row.expires_at_us,
        revoked_at_us=row.revoked_at_us,
        prefix=row.prefix,
        customer=row.customer_key,
        service=row.service,
        last_used_at_us=row.last_used_at_us,
    )
