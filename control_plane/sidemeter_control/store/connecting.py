"""Connections to PostgreSQL: to the server that takes writes, where several are named, and to no other once that changes.

All servers of a URL are asked at once, and the first that says it takes writes has the connection: one that hangs, or cannot
be reached, says nothing, and nobody waits for it while another answers.

A server that hangs keeps its connections open, and whoever has asked it something waits for minutes. So whoever finds the
database at another server, or at one begun anew, ends those connections: what they were asked is then looked up (P15).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import asyncpg

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.settings import each_server, without_password

__all__ = ["Connections", "Made", "connected", "nothing_more"]

CONNECTS_WITHIN_S: Final = 10.0
ONE_OF_SEVERAL_WITHIN_S: Final = 3.0
"""All are asked again soon: until then one that begins to take writes meanwhile is not heard."""
ANSWERS_WITHIN_S: Final = 600.0
"""A server that has not answered a statement by then is taken for one that is gone."""

_BEGAN = "SELECT pg_postmaster_start_time()"

Take = Callable[[asyncpg.Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Made:
    """A connection, and the instant at which its server began, which no two servers have in common."""

    raw: asyncpg.Connection
    server: datetime


class Connections:
    """Those of one process that are open, and where."""

    def __init__(self) -> None:
        self._open: WeakKeyDictionary[asyncpg.Connection, datetime] = WeakKeyDictionary()

    def made(self, made: Made) -> asyncpg.Connection:
        """Take it in."""
        self._open[made.raw] = made.server
        return made.raw

    def end_elsewhere(self, here: Made) -> None:
        """End all that are not with that server. Whoever waits for an answer of theirs hears that none comes."""
        for raw, server in list(self._open.items()):
            if server != here.server:
                raw.terminate()


async def nothing_more(_: asyncpg.Connection) -> None:
    """A reader needs nothing but its settings."""


async def connected(url: str, own: dict[str, str], take: Take) -> Made:
    """A connection with these settings of its own, once `take` has taken it. StoreUnavailable when there is none to be had."""
    asked = {"application_name": "sidemeter-control", "jit": "off"} | own
    try:
        raw = await _first(url, asked)
        try:
            server: datetime = await raw.fetchval(_BEGAN, timeout=CONNECTS_WITHIN_S)
            await take(raw)
        except BaseException:
            raw.terminate()
            raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise StoreUnavailable(f"the database server does not take the connection: {_said(exc)}") from exc
    return Made(raw, server)


async def _first(url: str, settings: dict[str, str]) -> asyncpg.Connection:
    """Of the one server, or of the first of several that takes writes."""
    urls = each_server(url)
    if len(urls) == 1:
        return await _of(url, settings, CONNECTS_WITHIN_S, is_primary="target_session_attrs" in urlsplit(url).query)
    asking = {
        asyncio.create_task(_of(each, settings, ONE_OF_SEVERAL_WITHIN_S, is_primary=True)): without_password(each)
        for each in urls
    }
    chosen: asyncio.Task[asyncpg.Connection] | None = None
    try:
        waiting = set(asking)
        while waiting and chosen is None:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            chosen = next((each for each in done if each.exception() is None), None)
    finally:
        for each in asking:
            if each is not chosen:
                each.cancel()
                each.add_done_callback(_end)
    if chosen is None:
        raise StoreUnavailable("; ".join(f"{name}: {_said(each.exception())}" for each, name in asking.items()))
    return chosen.result()


async def _of(url: str, settings: dict[str, str], within_s: float, *, is_primary: bool) -> asyncpg.Connection:
    # What readers set makes a session read-only, so `read-write` would take none of theirs: what is meant is the primary.
    which: dict[str, Any] = {"target_session_attrs": "primary"} if is_primary else {}
    return await asyncpg.connect(
        url, timeout=within_s, command_timeout=ANSWERS_WITHIN_S, server_settings=settings, **which
    )


def _end(asked: asyncio.Task[asyncpg.Connection]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        asked.result().terminate()


def _said(exc: BaseException | None) -> str:
    return str(exc) or type(exc).__name__
