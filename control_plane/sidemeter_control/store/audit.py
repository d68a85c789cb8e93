"""The audit log: who changed what, written in the transaction of the change, and only ever added to.

Each entry's hash covers the one before; the newest stands in the database's state as well, so that its end cannot go unseen.
"""

from dataclasses import dataclass

import msgspec
from sqlalchemy import case, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.access.chain import BEFORE_THE_FIRST, Head, hash_of
from sidemeter_control.store.tables import api_keys, audit, state

__all__ = ["OPERATOR", "RECEIVER", "TOP_UP", "AuditEntry", "add", "head", "page", "stretch"]

OPERATOR = "operator"
"""Who acts without a key: whoever has the machine."""

TOP_UP = "top-up"
"""Who grants what a top-up rule buys."""

RECEIVER = "receiver"
"""Who is sent webhooks, and says that it is gone."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `seq` is the order of changes, `actor` the id of a key or of a portal link, OPERATOR, TOP_UP or RECEIVER,
    `detail` JSON text of an object, `hash` of the entry and all before it.

    `actor_name` is the name of the key.
    """

    seq: int
    at_us: int
    actor: str
    actor_name: str | None
    action: str
    target: str
    detail: str
    hash: bytes | None


async def add(conn: AsyncConnection, at_us: int, actor: str, action: str, target: str, **detail: object) -> None:
    """Say who does what in this transaction: `action` by its name in the API, `target` by its kind and key."""
    before = await head(conn)
    seq, text = before.seq + 1, msgspec.json.encode(detail).decode()
    hashed = hash_of(before.hash, seq, at_us=at_us, actor=actor, action=action, target=target, detail=text)
    await conn.execute(
        insert(audit).values(seq=seq, at_us=at_us, actor=actor, action=action, target=target, detail=text, hash=hashed)
    )
    latest = case((state.c.changed_at_us < at_us, at_us), else_=state.c.changed_at_us)
    await conn.execute(update(state).values(audit_seq=seq, audit_hash=hashed, changed_at_us=latest))


async def head(conn: AsyncConnection) -> Head:
    """The newest entry's number and hash, as the state says them."""
    found = (await conn.execute(select(state.c.audit_seq, state.c.audit_hash))).one()
    return Head(found.audit_seq, found.audit_hash or BEFORE_THE_FIRST.hash)


async def stretch(conn: AsyncConnection, after: int, limit: int) -> list[AuditEntry]:
    """At most `limit` entries that come after that number, the oldest first."""
    wanted = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    return [AuditEntry(**row, actor_name=None) for row in (await conn.execute(wanted)).mappings()]


async def page(conn: AsyncConnection, limit: int, *, before: int | None = None) -> list[AuditEntry]:
    """At most `limit` entries, newest first; `before`: those with a lower number."""
    wanted = select(audit, api_keys.c.name.label("actor_name")).select_from(
        audit.outerjoin(api_keys, api_keys.c.id == audit.c.actor)
    )
    if before is not None:
        wanted = wanted.where(audit.c.seq < before)
    rows = (await conn.execute(wanted.order_by(audit.c.seq.desc()).limit(limit))).mappings()
    return [AuditEntry(**row) for row in rows]
