"""The cell: the counts of every lease, in memory that belongs to the kernel, so that `kill -9` neither frees nor forgets
what was spent.

A file in tmpfs, mapped. It is there after the end of a process and gone after a reboot, which is what a holder's epoch is
to be. Each record has two slots that take turns, each of one line of the processor's cache, with a checksum: one that is half
written leaves the one before, and whoever wrote it was not told "allowed". The checksum begins with whose counts they
are, so a head of another holder makes every record empty at once.

Nothing removes a file but the end of this run of the machine. It is some 26 KiB, and outlives a data directory that is
deleted: an agent that finds no directory for another's cell cannot tell one that is gone from one on a disk that is not mounted
yet, or seen in another container only, and would put into doubt what that agent holds.

Where there is no tmpfs the counts are in the process's own memory, and every start is a new epoch: a file on a disk could be
put back from a copy, and would forget.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec

from sidemeter.holder import Head
from sidemeter.leases import Counts, Key

__all__ = ["MAX_RECORDS", "Cell", "FileMemory", "Memory", "OwnMemory", "candidates"]

log = logging.getLogger(__name__)

MAX_RECORDS: Final = 1 << 17
"""Leases of one holder: 24 MiB. One more is refused, until leases of periods that are over make room."""

_FIRST_RECORDS: Final = 128
_MAGIC: Final = b"smc1"
_HEAD_SLOT_BYTES: Final = 1024
_HEAD_BYTES: Final = 2 * _HEAD_SLOT_BYTES
_SLOT_BYTES: Final = 64
_RECORD_BYTES: Final = 3 * _SLOT_BYTES
"""Its key, then two slots."""

_KEY_BYTES: Final = 16
_counts: Final = struct.Struct("=7Q")
_check: Final = struct.Struct("=Q")
_empty: Final = bytes(_RECORD_BYTES)
_encode: Final = msgspec.msgpack.Encoder().encode


class _HeadSlot(msgspec.Struct, frozen=True):
    turn: int
    head: Head


_decode: Final = msgspec.msgpack.Decoder(_HeadSlot).decode


class Memory(Protocol):
    """Bytes that a cell is in. `survives` a kill of the process, or not."""

    view: memoryview
    survives: bool

    def grow(self, size: int) -> None:
        """Make `view` that large, with what was in it. Raises OSError, and then nothing changed."""
        ...

    def close(self) -> None:
        """Let go of it; what is in it stays, if it survives."""
        ...


class OwnMemory:
    """Memory of this process alone."""

    survives = False

    def __init__(self) -> None:
        self.view = memoryview(bytearray())

    def grow(self, size: int) -> None:
        """See `Memory.grow`."""
        grown = bytearray(size)
        grown[: len(self.view)] = self.view
        self.view = memoryview(grown)

    def close(self) -> None:
        """See `Memory.close`."""
        self.view = memoryview(bytearray())


class FileMemory:
    """A file in tmpfs, mapped. The file is locked: one live process has it."""

    survives = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None
        self.view = memoryview(b"")
        size = os.fstat(descriptor).st_size
        if size:
            self.grow(size)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open and lock the file, made if it is missing. Raises OSError; BlockingIOError if another process has it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, 0o600)  # fails if it is another user's
            return cls(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def grow(self, size: int) -> None:
        """See `Memory.grow`. The room is taken first: a store into memory that the system cannot give ends the process."""
        os.posix_fallocate(self._descriptor, 0, size)
        mapped = mmap.mmap(self._descriptor, size)
        self._unmap()
        self._map, self.view = mapped, memoryview(mapped)

    def close(self) -> None:
        """See `Memory.close`."""
        self._unmap()
        os.close(self._descriptor)

    def _unmap(self) -> None:
        self.view.release()
        if self._map is not None:
            self._map.close()
            self._map = None


class Cell:
    """The counts of one holder's leases. `head` and `found` are what was there when it was opened.

    `found` has the digest of each key that has counts, its place, and the counts. One that `is_damaged` lacks some.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.head: Head | None = None
        self.found: dict[bytes, tuple[int, Counts]] = {}
        self.is_damaged = False
        self._head_turn = 0
        self._seed = 0
        self._seeds: list[int] = []
        self._turns: list[int] = []
        self._unused: list[int] = []
        if len(memory.view) < _HEAD_BYTES:
            memory.grow(_HEAD_BYTES)
        self._read()

    @classmethod
    def open(cls, directories: Sequence[Path], name: str) -> Self:
        """The cell `name` in the first of the directories that has one or takes one; else one that forgets, and says so."""
        for directory in directories:
            try:
                return cls(FileMemory.open(directory / name))
            except OSError as exc:
                log.debug("no cell in %s: %s", directory, exc)
        log.warning(
            "no directory in memory for the counts of leases (tried %s): after a kill, what this agent held of hard limits"
            " stays in doubt",
            ", ".join(map(str, directories)),
        )
        return cls(OwnMemory())

    @property
    def survives(self) -> bool:
        """Whether the counts are there after the end of the process."""
        return self._memory.survives

    def begin(self, head: Head) -> None:
        """Let it be the cell of a new holder, with no counts."""
        self._turn_head(head)
        self._seed = _seed_of(head)
        self.found = {}
        count = len(self._turns)
        self._turns, self._seeds = [0] * count, [0] * count
        self._unused = list(range(count - 1, -1, -1))

    def turn(self, head: Head) -> None:
        """Note how far the same holder has come."""
        self._turn_head(head)

    def claim(self, key: Key) -> int:
        """The place for a lease's counts. Raises OSError when there is no room for one more; all others stay."""
        if not self._unused:
            self._grow()
        index = self._unused.pop()
        digest = digest_of(key)
        seed = zlib.crc32(digest, self._seed)
        self._turns[index], self._seeds[index] = 0, seed
        self._store(_offset(index), _empty)
        self.write(index, *Counts())  # before its key: a key without counts is damage
        self._store(_offset(index), digest + _check.pack(seed))
        return index

    def release(self, index: int) -> None:
        """Let a place be used again: its lease is of a period that is over. One that never had a place has -1."""
        if index < 0:
            return
        self._store(_offset(index), _empty)
        self._unused.append(index)

    def write(  # noqa: PLR0917 -- positional, because a check is counted in nanoseconds
        self, index: int, granted: int, returned: int, used: int, reserved: int, refunded: int, overrun: int
    ) -> None:
        """Keep the counts of one lease, all of them or those of before."""
        turn = self._turns[index] = self._turns[index] + 1
        body = _counts.pack(turn, granted, returned, used, reserved, refunded, overrun)
        self._store(
            _HEAD_BYTES + _RECORD_BYTES * index + _SLOT_BYTES * (1 + (turn & 1)),
            body + _check.pack(zlib.crc32(body, self._seeds[index])),
        )

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()

    def _store(self, offset: int, content: bytes) -> None:
        self._memory.view[offset : offset + len(content)] = content

    def _turn_head(self, head: Head) -> None:
        self._head_turn += 1
        body = _encode(_HeadSlot(self._head_turn, head))
        slot = _MAGIC + zlib.crc32(body).to_bytes(4, "big") + len(body).to_bytes(8, "big") + body
        self._store(self._head_turn % 2 * _HEAD_SLOT_BYTES, slot.ljust(-(-len(slot) // 8) * 8, b"\0"))
        self.head = head

    def _grow(self) -> None:
        before = len(self._turns)
        count = min(max(2 * before, _FIRST_RECORDS), MAX_RECORDS)
        if count == before:
            raise OSError(f"the cell holds {MAX_RECORDS} leases, and no more")
        self._memory.grow(_offset(count))
        self._extend(count)

    def _extend(self, count: int) -> None:
        before = len(self._turns)
        self._turns += [0] * (count - before)
        self._seeds += [0] * (count - before)
        self._unused += range(count - 1, before - 1, -1)

    def _read(self) -> None:
        view = self._memory.view
        slots = [_head_slot(bytes(view[at : at + _HEAD_SLOT_BYTES])) for at in (0, _HEAD_SLOT_BYTES)]
        newest = max((slot for slot in slots if slot), key=lambda slot: slot.turn, default=None)
        self._extend((len(view) - _HEAD_BYTES) // _RECORD_BYTES)
        if newest is None:
            return
        self.head, self._head_turn, self._seed = newest.head, newest.turn, _seed_of(newest.head)
        self._unused.clear()
        for index in range(len(self._turns) - 1, -1, -1):
            self._read_record(index, bytes(view[_offset(index) : _offset(index + 1)]))

    def _read_record(self, index: int, record: bytes) -> None:
        digest = record[:_KEY_BYTES]
        seed = zlib.crc32(digest, self._seed)
        self._seeds[index] = seed
        if record[_KEY_BYTES : _KEY_BYTES + 8] != _check.pack(seed):
            self._unused.append(index)
            return
        slots = []
        for at in (_SLOT_BYTES, 2 * _SLOT_BYTES):
            body, check = record[at : at + _counts.size], record[at + _counts.size : at + _SLOT_BYTES]
            if check == _check.pack(zlib.crc32(body, seed)):
                slots.append(_counts.unpack(body))
        if not slots:
            self.is_damaged = True
            return
        turn, *counts = max(slots)
        self._turns[index] = turn
        self.found[digest] = (index, Counts(*counts))


def digest_of(key: Key) -> bytes:
    """What a record says of its key: names are of any length, and in the database."""
    return hashlib.blake2b(f"{key[1]}\0{key[0]}".encode(), digest_size=_KEY_BYTES).digest()


def candidates(environ: Iterable[tuple[str, str]]) -> list[Path]:
    """The directories in memory that this system may have."""
    runtime = dict(environ).get("XDG_RUNTIME_DIR")
    return [Path("/dev/shm"), *([Path(runtime)] if runtime else []), Path("/run")]  # noqa: S108 -- tmpfs is the point


def _offset(index: int) -> int:
    return _HEAD_BYTES + _RECORD_BYTES * index


def _seed_of(head: Head) -> int:
    return zlib.crc32(f"{head.hello_id}\0{head.epoch}".encode())


def _head_slot(content: bytes) -> _HeadSlot | None:
    """What a slot holds; None if it does not prove itself."""
    length = int.from_bytes(content[8:16], "big")
    body = content[16 : 16 + length]
    if not content.startswith(_MAGIC) or zlib.crc32(body) != int.from_bytes(content[4:8], "big"):
        return None
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        return None
