"""Where a request comes from: its address, its site, and the cookie of its session.

A browser sends the cookie with whatever any site makes it send. SameSite=Strict keeps it from doing so, and what is let in here
must say besides that it comes from these pages: by its Origin, or by a header that no form can set.
"""

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from sidemeter_control.errors import Forbidden

__all__ = ["COOKIE", "PAGE_HEADER", "SECURE_COOKIE", "Origins"]

COOKIE: Final = "sidemeter"
SECURE_COOKIE: Final = "__Host-sidemeter"
"""Over TLS: browsers take a cookie of that name from this very host alone."""

PAGE_HEADER: Final = "sidemeter-page"
"""What pages send with a request that has no Origin."""

_READING: Final = frozenset({"GET", "HEAD"})
_REMEMBERED: Final = 1_000
"""Addresses, which ask again and again."""
_ITS_OWN: Final = frozenset({"same-origin", "none"})


class Origins:
    """`public_url`: where browsers find the pages, if not where they are served. `proxies`: addresses whose word on
    whom they forward for is taken. `tls`: whether this server speaks it."""

    def __init__(self, public_url: str | None = None, proxies: Collection[str] = (), *, tls: bool = False) -> None:
        self.base_url = (public_url or "").rstrip("/")
        self._public = None if public_url is None else urlsplit(public_url).netloc.lower()
        self._proxies = frozenset(proxies)
        self.is_secure = tls or (public_url or "").startswith("https://")

    def source_of(self, connection: HTTPConnection) -> str:
        """The address that a request comes from: the last that a proxy of ours was reached from, else the peer's."""
        peer = connection.client.host if connection.client else ""
        if peer not in self._proxies:
            return _network(peer)
        forwarded = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
        while peer in self._proxies and forwarded and (told := _address(forwarded.pop())):
            peer = told
        return _network(peer)

    def session_of(self, connection: HTTPConnection) -> str | None:
        """The token in the cookie of a session."""
        return connection.cookies.get(self._name) or None

    def check(self, connection: HTTPConnection) -> None:
        """Forbidden, unless a request with a cookie comes from these pages, or only reads and from no other site's."""
        if not self.is_from_here(connection):
            raise Forbidden(
                "a request with a session must come from these pages: with their Origin, or with the header Sidemeter-Page"
            )

    def is_from_here(self, connection: HTTPConnection) -> bool:
        """Whether it comes from these pages, or from no page at all. A websocket must say so by its Origin."""
        headers = connection.headers
        if headers.get("sec-fetch-site", "none") not in _ITS_OWN:
            return False
        origin = headers.get("origin")
        if origin is not None:
            return urlsplit(origin).netloc.lower() in {headers.get("host", "").lower(), self._public} - {"", None}
        if connection.scope["type"] == "websocket":
            return False
        return connection.scope["method"] in _READING or PAGE_HEADER in headers

    def keep(self, response: Response, token: str, lasts_s: int) -> None:
        """Have the browser keep a session's token, where no script reads it."""
        response.set_cookie(
            self._name, token, max_age=lasts_s, path="/", secure=self.is_secure, httponly=True, samesite="strict"
        )

    def drop(self, response: Response) -> None:
        """Have it forget the token."""
        response.delete_cookie(self._name, path="/", secure=self.is_secure, httponly=True, samesite="strict")

    @property
    def _name(self) -> str:
        return SECURE_COOKIE if self.is_secure else COOKIE


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None


@lru_cache(maxsize=_REMEMBERED)
def _network(address: str) -> str:
    """Whoever has one address of IPv6 has 2^64 of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
