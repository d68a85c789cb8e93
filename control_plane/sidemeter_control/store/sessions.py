"""Sessions of pages. Of a session's token only its SHA-256 is stored, as of a key's secret."""

from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.store.tables import sessions

__all__ = ["Session", "count", "create", "end", "end_expired", "end_oldest", "get"]


@dataclass(frozen=True, slots=True)
class Session:
    """What a session stands for: the secret of a key by its hash, or a portal link. `owner`: the id of the key or link."""

    token_hash: bytes
    owner: str
    secret_hash: bytes | None
    link: str | None
    created_at_us: int
    expires_at_us: int


async def create(conn: AsyncConnection, session: Session) -> None:
    """Keep a new session."""
    await conn.execute(
        insert(sessions).values(
            token_hash=session.token_hash,
            owner=session.owner,
            secret_hash=session.secret_hash,
            link=session.link,
            created_at_us=session.created_at_us,
            expires_at_us=session.expires_at_us,
        )
    )


async def get(conn: AsyncConnection, token_hash: bytes) -> Session | None:
    """The session of a token's hash, expired or not."""
    found = (await conn.execute(select(sessions).where(sessions.c.token_hash == token_hash))).mappings().one_or_none()
    return None if found is None else Session(**found)


async def end(conn: AsyncConnection, token_hash: bytes) -> None:
    """Forget a session."""
    await conn.execute(delete(sessions).where(sessions.c.token_hash == token_hash))


async def end_expired(conn: AsyncConnection, now_us: int) -> None:
    """Forget those that have expired."""
    await conn.execute(delete(sessions).where(sessions.c.expires_at_us <= now_us))


async def count(conn: AsyncConnection, owner: str | None = None) -> int:
    """How many sessions there are, of one owner or of all."""
    wanted = select(func.count()).select_from(sessions)
    return (await conn.execute(wanted if owner is None else wanted.where(sessions.c.owner == owner))).scalar_one()


async def end_oldest(conn: AsyncConnection, owner: str, keep: int) -> None:
    """Forget the oldest sessions of an owner, so that no more than `keep` stay."""
    newest = select(sessions.c.token_hash).where(sessions.c.owner == owner)
    newest = newest.order_by(sessions.c.created_at_us.desc(), sessions.c.token_hash).limit(keep)
    await conn.execute(delete(sessions).where(sessions.c.owner == owner, sessions.c.token_hash.not_in(newest)))
