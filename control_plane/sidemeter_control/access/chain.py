"""The chain of the audit log: each entry's hash covers the one before, so that none can change or go unseen. Pure.

Whoever can write to the database can write the whole chain anew. A head that was noted elsewhere shows that, too.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from sidemeter_control.errors import InvalidInput

__all__ = ["BEFORE_THE_FIRST", "Break", "Head", "Linked", "checked", "hash_of"]


class Linked(Protocol):
    """What the chain needs to know of an entry."""

    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def at_us(self) -> int: ...  # noqa: D102
    @property
    def actor(self) -> str: ...  # noqa: D102
    @property
    def action(self) -> str: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102
    @property
    def hash(self) -> bytes | None: ...  # noqa: D102


_HEAD: Final = re.compile(r"(\d{1,18}):([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Head:
    """An entry's number and hash, which stand for it and all before it. Its text is what people note: `12:5f…`.

    >>> Head.read("3:" + "00" * 32) == Head(3, bytes(32))
    True
    """

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def read(cls, text: str, field: str = "head") -> "Head":
        """The head of that text, else InvalidInput."""
        found = _HEAD.fullmatch(text)
        if found is None:
            raise InvalidInput(field, "must be NUMBER:HASH, as an earlier check said it")
        return cls(int(found[1]), bytes.fromhex(found[2]))


BEFORE_THE_FIRST: Final = Head(0, bytes(32))


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold: the number of the entry, and what is wrong with it."""

    seq: int
    problem: str


def hash_of(previous: bytes, seq: int, *, at_us: int, actor: str, action: str, target: str, detail: str) -> bytes:
    """SHA-256 over the hash before and all that the entry says, each part told from the next."""
    said = msgspec.json.encode([seq, at_us, actor, action, target, detail])
    return hashlib.sha256(previous + said).digest()


def checked(head: Head, entries: Iterable[Linked], noted: Head | None = None) -> Head | Break:
    """The head after these entries, the oldest first, which follow on `head`; or where the chain breaks.

    `noted`: a head as somebody wrote it down; if it is among the entries, it must be what it was.
    """
    for entry in entries:
        if entry.seq != head.seq + 1:
            return Break(head.seq + 1, "is missing")
        expected = hash_of(
            head.hash,
            entry.seq,
            at_us=entry.at_us,
            actor=entry.actor,
            action=entry.action,
            target=entry.target,
            detail=entry.detail,
        )
        if entry.hash != expected:
            return Break(entry.seq, "was changed, or one before it was")
        head = Head(entry.seq, expected)
        if noted is not None and noted.seq == head.seq and noted != head:
            return Break(entry.seq, "is not what it was when its hash was noted")
    return head
