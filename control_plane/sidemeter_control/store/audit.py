"""The audit log: who changed what, written in the transaction of the change, and only ever added to."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store.tables import api_keys, audit

__all__ = ["OPERATOR", "RECEIVER", "TOP_UP", "AuditEntry", "add", "page"]

OPERATOR = "operator"
"""Who acts without a key: whoever has the machine."""

TOP_UP = "top-up"
"""Who grants what a top-up rule buys."""

RECEIVER = "receiver"
"""Who is sent webhooks, and says that it is gone."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `seq` is the order of changes, `actor` the id of a key, OPERATOR, TOP_UP or RECEIVER, `detail` JSON text of an object.

    `actor_name` is the name of the key.
    """

    seq: int
    at_us: int
    actor: str
    actor_name: str | None
    action: str
    target: str
    detail: str


async def add(conn: AsyncConnection, at_us: int, actor: str, action: str, target: str, **detail: object) -> None:
    """Say who does what in this transaction: `action` by its name in the API, `target` by its kind and key."""
    text = msgspec.json.encode(detail).decode()
    await conn.execute(insert(audit).values(at_us=at_us, actor=actor, action=action, target=target, detail=text))


async def page(conn: AsyncConnection, limit: int, *, before: int | None = None) -> list[AuditEntry]:
    """At most `limit` entries, newest first; `before`: those with a lower number."""
    wanted = select(audit, api_keys.c.name.label("actor_name")).select_from(
        audit.outerjoin(api_keys, api_keys.c.id == audit.c.actor)
    )
    if before is not None:
        wanted = wanted.where(audit.c.seq < before)
    rows = (await conn.execute(wanted.order_by(audit.c.seq.desc()).limit(limit))).mappings()
    return [AuditEntry(**row) for row in rows]
