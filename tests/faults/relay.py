"""Between control planes and their PostgreSQL: what they say goes through, until it shall not any more."""

import asyncio
from pathlib import Path
from typing import Final, Self

__all__ = ["Relay"]

SOCKET: Final = ".s.PGSQL.5432"
AT_ONCE_BYTES: Final = 1 << 16


class Relay:
    """Listens on a Unix socket in the directory `here`, and passes on to the one in `there`, byte by byte."""

    def __init__(self, here: Path, there: Path) -> None:
        self._here, self._there = here / SOCKET, there / SOCKET
        self._swallows = False
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._here.parent.mkdir()
        self._listener = await asyncio.start_unix_server(self._serve, self._here)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def cut(self) -> None:
        """End all connections there are, in the middle of whatever is said."""
        for writer in self._open:
            writer.transport.abort()

    async def swallow(self, for_s: float) -> None:
        """What is asked is done from now on, and nobody hears that it was; then all connections end."""
        self._swallows = True
        await asyncio.sleep(for_s)
        self.cut()
        self._swallows = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        ends = [writer]
        try:
            answers, asked = await asyncio.open_unix_connection(self._there)
            ends.append(asked)
            self._open |= {writer, asked}
            await asyncio.gather(self._pass(reader, asked), self._pass(answers, writer, swallowed=True))
        except OSError:  # one of both is gone, and with it the other
            pass
        finally:
            self._passing.discard(task)
            self._open.difference_update(ends)
            for each in ends:
                each.transport.abort()

    async def _pass(self, said: asyncio.StreamReader, to: asyncio.StreamWriter, *, swallowed: bool = False) -> None:
        while some := await said.read(AT_ONCE_BYTES):
            if not (swallowed and self._swallows):
                to.write(some)
                await to.drain()
        to.transport.abort()
