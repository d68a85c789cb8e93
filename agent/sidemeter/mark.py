"""The mark: what the database must hold, kept outside of it, so that rows that vanish are missed.

A plain `pwrite` into a file of one page survives every kill, costs two microseconds, and fails with an error where a
store into mapped memory would end the process: a file system that goes read-only or full under a mapping raises SIGBUS.
"""

import logging
import os
import zlib
from pathlib import Path
from typing import Final, Self

import msgspec

from sidemeter.batches import Counted

__all__ = ["Facts", "Mark"]

log = logging.getLogger(__name__)

_SLOT_BYTES: Final = 2048
"""Two slots take turns, so one that is torn leaves the one before. Far apart: no sector holds both."""
_MAGIC: Final = b"smk1"
_HEAD_BYTES: Final = len(_MAGIC) + 4 + 2  # then the CRC-32 and the length of what follows


class Facts(msgspec.Struct, frozen=True):
    """What the database of `file_id` holds at least: of `committed` rows, up to row `last_seq`, `settled` are counted.

    Every row up to `settled_seq` is among the settled ones. `boot_id` tells the run of the machine in which this was
    written; `clean` that nothing was written to the database after it. `form` is the database's. Of the settled rows
    `kept` are there still, from `kept_from_seq` on, and `counted` is the last batch of them. Beside the rows there are
    `refused` events kept apart, and `losses`, of which `open_losses` are not declared yet.
    """

    file_id: str
    form: int
    agent_id: str = ""
    last_seq: int = 0
    committed: int = 0
    settled: int = 0
    settled_seq: int = 0
    open_losses: int = 0
    boot_id: str = ""
    clean: bool = False
    kept: int = 0
    kept_from_seq: int = 0
    counted: Counted | None = None
    refused: int = 0
    losses: int = 0

    @property
    def unsettled(self) -> int:
        """Rows that are committed and not settled."""
        return self.committed - self.settled


class _Slot(msgspec.Struct, frozen=True):
    turn: int
    facts: Facts


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Slot).decode


class Mark:
    """The open file. `facts` is what it said when it was opened: None if it was missing or did not prove itself."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = 0
        self._written: Facts | None = None
        self._synced: int | None = None
        self._failure: OSError | None = None
        self.facts: Facts | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the mark, made if it is missing or is not a file. Raises OSError."""
        if path.exists() and not path.is_file():
            path.replace(path.with_name(f"{path.name}.not-a-file"))
        self = cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            self._read()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def write(self, facts: Facts) -> None:
        """Say what the database holds, before anybody is told. What fails is said again by the next one."""
        if facts == self._written:
            return
        self._turn += 1
        body = _encode(_Slot(self._turn, facts))
        slot = _MAGIC + zlib.crc32(body).to_bytes(4, "big") + len(body).to_bytes(2, "big") + body
        try:
            os.pwrite(self._descriptor, slot, self._turn % 2 * _SLOT_BYTES)
        except OSError as exc:
            if self._written is not None:
                log.warning("the mark of the buffer cannot be written: %s", exc)
            self._written, self._failure = None, exc
            return
        self._written, self._failure = facts, None

    def sync(self) -> None:
        """Return once the mark is on disk as it is now. Raises OSError."""
        turn = self._turn
        if self._failure is not None:
            raise self._failure
        if turn != self._synced:
            os.fsync(self._descriptor)
            self._synced = turn

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _read(self) -> None:
        content = os.pread(self._descriptor, 2 * _SLOT_BYTES, 0)
        slots = [_slot(content[at : at + _SLOT_BYTES]) for at in (0, _SLOT_BYTES)]
        newest = max((slot for slot in slots if slot), key=lambda slot: slot.turn, default=None)
        if newest is not None:
            self._turn, self.facts = newest.turn, newest.facts
        if len(content) < 2 * _SLOT_BYTES:  # all of it exists from here on: later writes need no room on the disk
            os.pwrite(self._descriptor, content.ljust(2 * _SLOT_BYTES, b"\0"), 0)
            self.sync()


def _slot(content: bytes) -> _Slot | None:
    """What a slot holds; None if it does not prove itself."""
    length = int.from_bytes(content[8:_HEAD_BYTES], "big")
    body = content[_HEAD_BYTES : _HEAD_BYTES + length]
    if not content.startswith(_MAGIC) or zlib.crc32(body) != int.from_bytes(content[4:8], "big"):
        return None
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        return None
