"""Texts of queries that clients need not send again: automatic persisted queries, by the SHA-256 of the text."""

import hashlib
from collections import OrderedDict
from typing import Any, Final

import msgspec

from sidemeter_control.errors import ControlError, InvalidInput

__all__ = ["MAX_PERSISTED", "MAX_PERSISTED_CHARS", "NotPersisted", "Persisted", "hash_in"]

MAX_PERSISTED: Final = 1_000
"""A product has some hundred queries; the one that was asked longest ago goes first, and its client sends it again."""

MAX_PERSISTED_CHARS: Final = 16_384
"""Of one text, so that all of them take 16 MiB at most. A longer one is answered, and not kept."""


class NotPersisted(ControlError):
    """No text of that hash is known: the client sends it with the hash, as the protocol says."""

    code = "PERSISTED_QUERY_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("PersistedQueryNotFound")


class Persisted:
    """The texts that are known, each under its hash."""

    def __init__(self, most: int = MAX_PERSISTED) -> None:
        self._most = most
        self._texts: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, hashed: str, sent: str | None) -> str:
        """The text of that hash; `sent` with it, it is kept. NotPersisted, or InvalidInput when it has another hash."""
        if sent is None:
            return self._known(hashed)
        if hashlib.sha256(sent.encode()).hexdigest() != hashed:
            raise InvalidInput("extensions.persistedQuery.sha256Hash", "must be the SHA-256 of the query")
        if len(sent) <= MAX_PERSISTED_CHARS:
            self._texts[hashed] = sent
            self._texts.move_to_end(hashed)
            if len(self._texts) > self._most:
                self._texts.popitem(last=False)
        return sent

    def _known(self, hashed: str) -> str:
        try:
            self._texts.move_to_end(hashed)
        except KeyError:
            raise NotPersisted from None
        return self._texts[hashed]


class _Named(msgspec.Struct, rename="camel"):
    version: int
    sha256_hash: str


def hash_in(extensions: dict[str, Any] | None) -> str | None:
    """The hash under `persistedQuery` of a request's extensions; None without one. InvalidInput: it is none of version 1."""
    named = (extensions or {}).get("persistedQuery")
    if named is None:
        return None
    try:
        found = msgspec.convert(named, _Named)
    except msgspec.ValidationError as exc:
        raise InvalidInput("extensions.persistedQuery", f"must have version and sha256Hash: {exc}") from exc
    if found.version != 1:
        raise InvalidInput("extensions.persistedQuery.version", "must be 1")
    return found.sha256_hash.lower()
