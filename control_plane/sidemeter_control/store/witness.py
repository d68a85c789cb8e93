"""The witness: a small file beside the database that is not put back with it, so that an older copy can be told from it."""

import asyncio
import contextlib
import itertools
import os
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.limits.recovery import Attested
from sidemeter_control.store import files

__all__ = ["Statement", "Witness"]

# One sector of a disk: a power cut leaves the record before or this one.
_RECORD_BYTES: Final = 512
_CRC_BYTES: Final = 8

_read = msgspec.json.Decoder(Attested).decode


@dataclass(frozen=True, slots=True)
class Statement:
    """What a transaction will have been witnessed to leave, once it is committed; later ones have a higher `number`."""

    testimony: Attested
    number: int = field(compare=False)


class Witness:
    """The file, with what it says. `last` is None where there is none, or it is damaged: then nobody knows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._kept = 0
        self._turn = asyncio.Lock()
        self.last = self._load()

    def _load(self) -> Attested | None:
        try:
            record = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StoreUnavailable(f"{self._path}: {exc.strerror}") from exc
        crc, text = record[:_CRC_BYTES], record[_CRC_BYTES:]
        if crc != _crc(text):
            return None
        try:
            return _read(text.rstrip(b"\0"))
        except msgspec.MsgspecError:
            return None

    def statement(self, testimony: Attested) -> Statement:
        """What is to be kept after the commit of the transaction that asks: it must hold the writer's turn."""
        return Statement(testimony, next(self._numbers))

    async def keep(self, statement: Statement) -> None:
        """Write it down, unless a later one is kept already; before anybody is told of what it witnesses.

        The number of holders is durable when this returns; how far leases have come is so after the next flush, which is
        time enough: agents remember that as well. StoreUnavailable when it cannot be written.
        """
        async with self._turn:
            if statement.number < self._kept:
                return
            said = self._with_what_was_heard(statement.testimony)
            if said != self.last:
                durable = self.last is None or replace(said, lease_version=self.last.lease_version) != self.last
                if durable:
                    await asyncio.to_thread(self._write, said, durable=True)
                else:
                    self._write(said, durable=False)
            # What was heard while that was written is not in the file yet.
            self.last, self._kept = self._with_what_was_heard(said), statement.number
            if self.last != said:
                self._write(self.last, durable=False)

    def hear(self, generation: str, lease_version: int, holders: int) -> None:
        """Another control plane on the database has come so far with it: one that is older than that is an older copy.

        It is in the file after a while, or with what is kept next: whoever came so far has kept it.
        """
        last = self.last
        if last is None or last.generation != generation or lease_version <= last.lease_version:
            return
        known = None if last.holders is None else max(holders, last.holders)
        self.last = replace(last, lease_version=lease_version, holders=known)
        if not self._turn.locked():
            with contextlib.suppress(StoreUnavailable):
                self._write(self.last, durable=False)

    def _with_what_was_heard(self, said: Attested) -> Attested:
        """Never less than what others were heard to have come to meanwhile."""
        last = self.last
        if last is None or last.generation != said.generation or last.lease_version <= said.lease_version:
            return said
        known = None if said.holders is None else max(said.holders, last.holders or 0)
        return replace(said, lease_version=last.lease_version, holders=known)

    def _write(self, said: Attested, *, durable: bool) -> None:
        text = msgspec.json.encode(said).ljust(_RECORD_BYTES - _CRC_BYTES, b"\0")
        try:
            made = not self._path.exists()
            with files.private(self._path) as file:
                file.write(_crc(text) + text)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            if made:
                files.sync_directory(self._path.parent)
        except OSError as exc:
            raise StoreUnavailable(f"{self._path}: {exc.strerror}") from exc


def _crc(text: bytes) -> bytes:
    return f"{zlib.crc32(text):08x}".encode()
