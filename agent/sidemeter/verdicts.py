"""What an error of SQLite says: of the file, of the disk, or of neither."""

import sqlite3
from typing import Final

from sidemeter.errors import StorageRefused

__all__ = ["ERRORS", "is_damage", "is_damage_at_opening", "is_not_kept", "is_unreadable", "name_of", "refused"]

_NOT_KEPT: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE"})
"""Errors of a commit before its last page was written: only what comes after that leaves in doubt whether it is kept."""


_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG})
"""Errors that only the bytes of the file can bring. The primary code is the last byte of an extended one."""

_NOT_THE_FILE: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOLFS,
    }
)
"""Errors of the disk or the machine. While a file is opened, before anything is asked of it, all others are the file's."""


ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""The second comes when a damaged text is read, or stands in the message of an error."""


_UNREADABLE: Final = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ"})
"""Errors of a copy that come from the file that is copied."""


def is_damage(exc: Exception) -> bool:
    """Whether it is the bytes of the file, when something was asked of it."""
    code = _primary_code(exc)
    return code in _DAMAGE or (code is None and "decode" in str(exc))


def is_damage_at_opening(exc: Exception) -> bool:
    """Whether it is the bytes of the file, while it is opened."""
    return _primary_code(exc) not in _NOT_THE_FILE


def is_not_kept(exc: Exception) -> bool:
    """Whether a commit that failed so is certainly not kept."""
    return name_of(exc) in _NOT_KEPT


def is_unreadable(exc: Exception) -> bool:
    """Whether a copy failed at the file that is copied."""
    return name_of(exc) in _UNREADABLE


def _primary_code(exc: Exception) -> int | None:
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def name_of(exc: Exception) -> str:
    """SQLite's name for the error, or else Python's."""
    return getattr(exc, "sqlite_errorname", type(exc).__name__)


def refused(exc: Exception, said: OSError | None = None) -> StorageRefused:
    """What a caller is told; `said` is what the system says to a plain write."""
    why = f"; a write to the directory says: {said}" if said else ""
    return StorageRefused(f"the buffer takes nothing now: {exc} ({name_of(exc)}){why}")
