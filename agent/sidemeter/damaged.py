"""Damaged databases, moved aside: `damaged/<n>/` holds the files and what is known of them, until it is read back."""

import contextlib
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from sidemeter.mark import Facts
from sidemeter.salvage import Content

__all__ = ["Damage", "Damaged", "begun", "finish", "move_aside", "opened", "pending", "remember"]

log = logging.getLogger(__name__)

_DATABASE: Final = "buffer.sqlite3"
_LOG: Final = "buffer.sqlite3-wal"
_PENDING: Final = "salvage"
_DONE: Final = "salvaged"


class Damaged(Exception):
    """The database is not what it must be. Never leaves the buffer: whoever meets it has the files moved aside.

    `same_file` and `overtaken` are those of the `Damage` that it becomes.
    """

    def __init__(self, reason: str, *, same_file: bool = True, overtaken: bool = False) -> None:
        super().__init__(reason)
        self.same_file = same_file
        self.overtaken = overtaken


class Damage(msgspec.Struct, frozen=True):
    """One damaged database: what the mark said of it, and why it was given up.

    `exact` tells that the mark was not behind, `same_file` that the file was the one that the mark speaks of, and
    `overtaken` that rows behind the missing ones are settled: then nobody knows which are missing.
    """

    facts: Facts
    reason: str
    noticed_at_us: int
    exact: bool
    same_file: bool
    overtaken: bool = False
    number: int = 0
    moved: bool = False


def move_aside(directory: Path, damage: Damage) -> Damage:
    """Write down `damage`, then move the files it speaks of; what a kill interrupts is finished by the next call.

    Raises OSError.
    """
    known = begun(directory, damage.facts.file_id)
    if known is not None and known.moved:  # then what has the database's name now is a file that no mark speaks of
        facts = msgspec.structs.replace(damage.facts, file_id=f"{damage.facts.file_id}-{known.number}")
        damage = msgspec.structs.replace(damage, facts=facts, exact=False, same_file=False)
        known = begun(directory, facts.file_id)
    if known is None:
        known = msgspec.structs.replace(damage, number=max(_numbers(directory), default=0) + 1, moved=False)
        aside = directory / "damaged" / str(known.number)
        aside.mkdir(mode=0o700, parents=True)
        _write(aside / _PENDING, known)
        for each in (aside, aside.parent, directory):
            _sync(each)
    aside = directory / "damaged" / str(known.number)
    for name in (_LOG, _DATABASE):
        with contextlib.suppress(FileNotFoundError):
            (directory / name).replace(aside / name)
    _sync(directory)
    known = msgspec.structs.replace(known, moved=True)
    _write(aside / _PENDING, known)
    _sync(aside)
    return known


def remember(directory: Path, damages: Iterable[Damage]) -> None:
    """Write down again what a directory that was taken away said of these. What it held of them is lost. Raises OSError."""
    for damage in damages:
        aside = directory / "damaged" / str(damage.number)
        if not (aside / _PENDING).exists():
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(aside / _PENDING, damage)
            for each in (aside, aside.parent, directory):
                _sync(each)


def begun(directory: Path, file_id: str) -> Damage | None:
    """The database `file_id`, when it was being moved aside or is, and was not read back yet."""
    return next((each for each in pending(directory) if each.facts.file_id == file_id), None)


def pending(directory: Path) -> list[Damage]:
    """What was moved aside and not read back yet, oldest first."""
    found = []
    for number in sorted(_numbers(directory)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.append(_read(directory / "damaged" / str(number) / _PENDING, number))
    return found


def finish(directory: Path, damage: Damage) -> None:
    """It is read back: keep the newest damaged files for whoever wants to look, and let older ones go. Raises OSError."""
    aside = directory / "damaged" / str(damage.number)
    (aside / _PENDING).replace(aside / _DONE)
    _sync(aside)
    unread = {each.number for each in pending(directory)}
    for number in sorted(_numbers(directory))[:-1]:
        if number not in unread:
            shutil.rmtree(directory / "damaged" / str(number))


@contextlib.contextmanager
def opened(directory: Path, damage: Damage) -> Iterator[tuple[Content, Content]]:
    """The bytes of the moved database and of its write-ahead log, whichever of them is there."""
    aside = directory / "damaged" / str(damage.number)
    with ExitStack() as files:
        yield _content(aside / _DATABASE, files), _content(aside / _LOG, files)


def _content(path: Path, files: ExitStack) -> Content:
    """Read as asked, not mapped: under a mapping, a sector that cannot be read ends the process."""
    if not path.is_file():
        return Content(0, lambda _at, _length: b"")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    files.callback(os.close, descriptor)

    def read(at: int, length: int) -> bytes:
        try:
            return os.pread(descriptor, length, at)
        except OSError as exc:
            log.warning("%d bytes at %d of %s cannot be read: %s", length, at, path, exc)
            return b""

    return Content(os.fstat(descriptor).st_size, read)


def _numbers(directory: Path) -> list[int]:
    aside = directory / "damaged"
    return [int(each.name) for each in aside.iterdir() if each.name.isdecimal()] if aside.is_dir() else []


def _write(path: Path, damage: Damage) -> None:
    body = msgspec.msgpack.encode(damage)
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(zlib.crc32(body).to_bytes(4, "big") + body)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _read(path: Path, number: int) -> Damage:
    content = path.read_bytes()
    if zlib.crc32(content[4:]) == int.from_bytes(content[:4], "big"):
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.msgpack.decode(content[4:], type=Damage)
    facts = Facts(f"damaged-{number}", 0)
    return Damage(facts, "what was known of it is damaged too", 0, exact=False, same_file=False, number=number)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
