"""The audit log, looked through for what was changed behind its back."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.access.chain import Break, Head, checked
from sidemeter_control.store import audit

__all__ = ["MAX_CHECKED", "Check", "check"]

MAX_CHECKED: Final = 10_000
"""Entries in one go; some 50 ms."""


@dataclass(frozen=True, slots=True)
class Check:
    """How far the log was found to be as it was written; `broken`: where it is not. `more`: entries follow."""

    head: Head
    broken: Break | None = None
    more: bool = False


async def check(conn: AsyncConnection, after: Head, noted: Head | None = None) -> Check:
    """Look at the entries that come after that head, MAX_CHECKED at most. `noted`: see `chain.checked`."""
    entries = await audit.stretch(conn, after.seq, MAX_CHECKED)
    found = checked(after, entries, noted)
    if isinstance(found, Break):
        return Check(after, found)
    if len(entries) == MAX_CHECKED:
        return Check(found, more=True)
    newest = await audit.head(conn)
    if newest != found:
        return Check(found, Break(found.seq + 1, f"is missing: the newest is said to be {newest.seq}"))
    if noted is not None and noted.seq > found.seq:
        return Check(found, Break(found.seq + 1, f"is missing: {noted.seq} was noted once"))
    return Check(found)
