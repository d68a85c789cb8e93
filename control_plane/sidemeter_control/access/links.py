"""Portal links: a token that says which customer's pages it opens and until when, signed so that none can be made up. Pure."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["LINK_PREFIX", "MAX_LINK_S", "Link", "LinkKey", "key_id_of", "read", "signed"]

LINK_PREFIX: Final = "smp_"
"""What every token begins with, so that leak scanners find them."""

MAX_LINK_S: Final = 86_400
"""A link is followed soon after it was made; whoever finds it later finds it ended."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a token says: its own id, whose pages it opens, and until when."""

    id: str
    customer: str
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class LinkKey:
    """What links are signed with. `ends_at_us`: from when on nothing that it signed is taken; None for the present one."""

    id: str
    secret: str
    created_at_us: int
    ends_at_us: int | None = None

    def valid_at(self, now_us: int) -> bool:
        """Whether what it signed may be taken."""
        return self.ends_at_us is None or now_us < self.ends_at_us


_decode = msgspec.json.Decoder(tuple[str, str, str, int]).decode


def signed(link: Link, key: LinkKey) -> str:
    """The token of a link.

    >>> key = LinkKey("lnk_1", "secret", 0)
    >>> read(signed(Link("link_1", "acme", 5), key), key)
    Link(id='link_1', customer='acme', expires_at_us=5)
    """
    said = _text(msgspec.json.encode((key.id, link.id, link.customer, link.expires_at_us)))
    return f"{LINK_PREFIX}{said}.{_text(_mac(said, key))}"


def key_id_of(token: str) -> str | None:
    """The id of the key that the token says it is signed with; None when it is no token at all."""
    said = _said(token.partition(".")[0])
    return None if said is None else said[0]


def read(token: str, key: LinkKey) -> Link | None:
    """The link of a token that `key` has signed, byte for byte; None for any other."""
    said, _, mac = token.removeprefix(LINK_PREFIX).partition(".")
    told = _said(token.partition(".")[0])
    if told is None or told[0] != key.id:
        return None
    if not hmac.compare_digest(_text(_mac(said, key)).encode(), mac.encode()):
        return None
    return Link(*told[1:])


def _said(text: str) -> tuple[str, str, str, int] | None:
    if not text.startswith(LINK_PREFIX):
        return None
    try:
        encoded = text.removeprefix(LINK_PREFIX).encode("ascii")
        return _decode(base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, msgspec.DecodeError):
        return None


def _mac(said: str, key: LinkKey) -> bytes:
    return hmac.digest(key.secret.encode(), said.encode(), hashlib.sha256)


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
