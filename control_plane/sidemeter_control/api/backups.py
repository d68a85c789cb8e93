"""GET /v1/backup: the whole database as one file, as it was at an instant, while events go on being counted."""

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import BinaryIO, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sidemeter_control.api.auth import Gate
from sidemeter_control.api.problems import Refused
from sidemeter_control.clock import Clock
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Scope as KeyScope

__all__ = ["MAX_STALL_S", "backup_routes"]

MAX_STALL_S: Final = 60
"""How long a caller may take for a mebibyte: until it has them all, the copy takes room on the disk."""

_log = logging.getLogger(__name__)
_CHUNK = 1024 * 1024


def backup_routes(database: Database, gate: Gate, clock: Clock, *, max_stall_s: float = MAX_STALL_S) -> list[BaseRoute]:
    """`GET /v1/backup`, for keys with the scope ADMIN; one at a time."""
    turn = asyncio.Semaphore()

    async def door(request: Request) -> Response:
        await gate.let_in(request, KeyScope.ADMIN)
        if turn.locked():
            raise Refused(503, "busy", "another backup is under way", {"Retry-After": "10"})
        await turn.acquire()
        with contextlib.ExitStack() as undo:
            undo.callback(turn.release)
            copied = Path(f"{database.path}.{clock.new_id('copy').replace('_', '-')}")
            await database.copy_to(copied, _unheard)
            file = undo.enter_context(_taken(copied))
            return _File(file, undo.pop_all(), max_stall_s)

    return [Route("/v1/backup", door, methods=["GET"])]


def _taken(copied: Path) -> BinaryIO:
    """The open file, which is all there is of it from here on: a crash leaves nothing."""
    file = copied.open("rb")
    copied.unlink()
    return file


def _unheard(_step: str, _done: int, _total: int) -> None:
    """The caller sees how far it is by the bytes that come."""


class _File(Response):
    """An open file, sent as it is read. `undo` is what to let go of afterwards."""

    media_type = "application/vnd.sqlite3"

    def __init__(self, file: BinaryIO, undo: contextlib.ExitStack, max_stall_s: float) -> None:
        size = os.fstat(file.fileno()).st_size
        super().__init__(headers={"Content-Length": str(size), "Cache-Control": "no-store"})
        self._file = file
        self._undo = undo
        self._max_stall_s = max_stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- the interface
        with self._undo:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                while chunk := await asyncio.to_thread(self._file.read, _CHUNK):
                    async with asyncio.timeout(self._max_stall_s):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                _log.warning("a backup was cut short: its caller took nothing for %g s", self._max_stall_s)
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
