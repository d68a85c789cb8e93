"""Sessions of pages: a browser keeps a token that no script can read, in place of a key that any could.

A session stands for the key or link that it was opened with, and ends with it.
"""

from dataclasses import dataclass
from typing import Final

from sidemeter_control.access.keyring import Keyring
from sidemeter_control.access.links import LINK_PREFIX
from sidemeter_control.access.portal import Portal
from sidemeter_control.clock import Clock
from sidemeter_control.errors import Conflict
from sidemeter_control.store import keys, sessions
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key
from sidemeter_control.store.sessions import Session

__all__ = ["MAX_SESSIONS", "MAX_SESSIONS_EACH", "SESSION_S", "Opened", "Sessions"]

SESSION_S: Final = 12 * 3600
"""A working day; then the key is asked for again."""

MAX_SESSIONS_EACH: Final = 20
"""Of one key or link: the oldest ends when there is one more."""

MAX_SESSIONS: Final = 10_000
"""Of all; a row of some 300 bytes each."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session: its token, which is stored nowhere, and until when it is."""

    token: str
    expires_at_us: int


class Sessions:
    """All sessions of a database."""

    def __init__(self, database: Database, clock: Clock, keyring: Keyring, portal: Portal) -> None:
        self._database = database
        self._clock = clock
        self._keyring = keyring
        self._portal = portal

    async def open(self, key: Key, credential: str) -> Opened:
        """A session of the key or link that `credential` was found to be. Conflict when there are MAX_SESSIONS."""
        now_us, token = self._clock.now_us(), self._clock.new_secret()
        is_link = credential.startswith(LINK_PREFIX)
        expires_at_us = min(now_us + SESSION_S * 1_000_000, key.expires_at_us or now_us + SESSION_S * 1_000_000)
        session = Session(
            keys.secret_hash(token),
            key.id,
            None if is_link else keys.secret_hash(credential),
            credential if is_link else None,
            now_us,
            expires_at_us,
        )
        async with self._database.write() as conn:
            await sessions.end_expired(conn, now_us)
            await sessions.end_oldest(conn, key.id, MAX_SESSIONS_EACH - 1)
            if await sessions.count(conn) >= MAX_SESSIONS:
                raise Conflict(f"{MAX_SESSIONS} sessions are open, and no more are allowed")
            await sessions.create(conn, session)
        return Opened(token, expires_at_us)

    async def find(self, token: str) -> Key | None:
        """What the session of that token stands for, if both are valid now."""
        async with self._database.point() as conn:
            session = await sessions.get(conn, keys.secret_hash(token))
        if session is None or session.expires_at_us <= self._clock.now_us():
            return None
        if session.link is not None:
            return await self._portal.open(session.link)
        return None if session.secret_hash is None else await self._keyring.find(session.secret_hash)

    async def close(self, token: str) -> None:
        """End a session; one that there is not stays so."""
        async with self._database.write() as conn:
            await sessions.end(conn, keys.secret_hash(token))
