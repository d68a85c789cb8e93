"""What portal links are signed with."""

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.access.links import LinkKey
from sidemeter_control.store.tables import link_keys

__all__ = ["create", "end", "in_force"]


async def create(conn: AsyncConnection, key: LinkKey) -> None:
    """Keep a new key, which signs from now on."""
    await conn.execute(
        insert(link_keys).values(id=key.id, secret=key.secret, created_at_us=key.created_at_us, ends_at_us=None)
    )


async def in_force(conn: AsyncConnection, now_us: int) -> list[LinkKey]:
    """Every key whose links may be taken, the one that signs last."""
    wanted = select(link_keys).where(link_keys.c.ends_at_us.is_(None) | (link_keys.c.ends_at_us > now_us))
    rows = await conn.execute(wanted.order_by(link_keys.c.ends_at_us.is_(None), link_keys.c.created_at_us))
    return [LinkKey(row.id, row.secret, row.created_at_us, row.ends_at_us) for row in rows]


async def end(conn: AsyncConnection, at_us: int) -> None:
    """Let every key end then, unless it ends sooner."""
    later = link_keys.c.ends_at_us.is_(None) | (link_keys.c.ends_at_us > at_us)
    await conn.execute(update(link_keys).where(later).values(ends_at_us=at_us))
