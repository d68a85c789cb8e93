"""Files of the archive on their way into its directory: written, synced, read back, and only then given their name."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sidemeter_control.errors import ArchiveUnavailable, Conflict, StoreUnavailable
from sidemeter_control.store import files, parquet
from sidemeter_control.store.archive import FILES, digest_of
from sidemeter_control.store.archived import ArchiveFile

__all__ = ["Part", "clear_away", "made", "named", "read_whole"]

_PART: Final = ".part"


class Part:
    """A file that is written beside its final name, and held so that nobody clears it away."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f"{name}{_PART}"
        with _as_unwritable(self.path):
            self._held = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, packed: parquet.Packed, id_: str, events: int) -> tuple[int, bytes]:
        """Write all of it, and see that what is on the disk says the same; answers its length and digest."""
        with _as_unwritable(self.path):
            content = memoryview(packed.content)
            written = 0
            while written < len(content):
                written += os.write(self._held, content[written:])
            os.fsync(self._held)
            files.sync_directory(self.path.parent)
        digest = hashlib.sha256(content).digest()
        try:
            with _as_unwritable(self.path):
                is_same = digest_of(self.path) == digest and packed.is_held_by(parquet.whole(self.path, id_, events))
        except parquet.Problem as exc:
            raise StoreUnavailable(f"{self.path}: was written, and {exc}") from exc
        if not is_same:
            raise StoreUnavailable(f"{self.path}: what was read back is not what was written")
        return len(content), digest

    def drop(self) -> None:
        """Nobody will need it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._held)


def made(directory: Path) -> Path:
    """The directory as an absolute path, made where it is missing, for its owner alone. StoreUnavailable when it cannot be written."""
    directory = directory.absolute()
    with _as_unwritable(directory):
        if not directory.is_dir():
            directory.mkdir(parents=True, mode=0o700)
            files.sync_directory(directory.parent)
    return directory


def named(file: ArchiveFile) -> None:
    """Give a file that was written its name, if it has not got it."""
    path = Path(file.directory) / file.name
    part = path.with_name(f"{file.name}{_PART}")
    if part.exists() and not path.exists():
        with _as_unwritable(path):
            part.rename(path)
            files.sync_directory(path.parent)


def read_whole(path: Path, file: ArchiveFile) -> parquet.Whole:
    """All of a file. ArchiveUnavailable when it cannot be read."""
    try:
        return parquet.whole(path, file.id, file.events)
    except parquet.Problem as exc:
        raise ArchiveUnavailable(path, str(exc)) from exc


def clear_away(directory: Path, names: frozenset[str]) -> None:
    """Delete what was being written when a process ended, unless it is one of those names, or somebody writes it now."""
    for left in directory.glob(f"{FILES}{_PART}"):
        if left.name.removesuffix(_PART) not in names:
            with contextlib.suppress(BlockingIOError, FileNotFoundError), left.open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


@contextlib.contextmanager
def _as_unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError as exc:
        raise Conflict(f"{path}: is being written by another process") from exc
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror or exc}") from exc
