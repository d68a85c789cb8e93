"""The way out to webhooks: the only module that posts to addresses which somebody else names.

A name is looked up once, every address that it stands for is checked, and only a checked one is connected to: what the
name stands for a moment later changes nothing. No redirect is followed, no proxy asked, and of the answer only its status is
read.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx

from sidemeter_control.limits.webhooks import is_public

__all__ = ["ANSWERS_WITHIN_S", "Posted", "Poster", "Resolve"]

ANSWERS_WITHIN_S: Final = 15
"""For all of an attempt: the name, the connection, and the head of the answer. What Standard Webhooks recommends at least."""

CONNECTS_WITHIN_S: Final = 5
LOOK_UPS_AT_ONCE: Final = 16
MAX_ERROR_CHARS: Final = 500

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses that a name stands for."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What came of an attempt: the status of the answer, or why there was none."""

    status: int | None = None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300


class _Refused(Exception):
    """Nothing is sent there."""


class Poster:
    """Posts to URLs. `private`: also to addresses that are not the Internet's; `tls`: whom to trust, in place of the usual."""

    def __init__(
        self,
        *,
        private: bool = False,
        within_ms: int = ANSWERS_WITHIN_S * 1_000,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._private = private
        self._within_s = within_ms / 1_000
        self._threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, "sidemeter-names")
        self._resolve = resolve or self._look_up
        # A connection that is kept would serve another name of the same address, whose certificate was not looked at.
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls or httpx.create_ssl_context(), limits=httpx.Limits(max_keepalive_connections=0)
        )
        connect_s = min(CONNECTS_WITHIN_S, self._within_s)
        self._timeout = httpx.Timeout(self._within_s, connect=connect_s).as_dict()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """Send one request; whatever goes wrong is an answer, too."""
        try:
            async with asyncio.timeout(self._within_s):
                return Posted(await self._post(httpx.URL(url), headers, body))
        except TimeoutError:
            return Posted(error=f"no answer within {self._within_s:g} s")
        except (_Refused, OSError, UnicodeError, httpx.HTTPError, httpx.InvalidURL) as exc:
            name = "" if isinstance(exc, _Refused) else f"{type(exc).__name__}: "
            return Posted(error=f"{name}{exc}"[:MAX_ERROR_CHARS])

    async def close(self) -> None:
        """Let go of what is still open."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._transport.aclose()

    async def _post(self, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> int:
        host = url.raw_host.decode("ascii")
        try:
            addresses = await self._resolve(host, url.port or (443 if url.scheme == "https" else 80))
        except socket.gaierror as exc:
            raise _Refused(f"the address of {host} is not found: {exc.strerror}") from None
        if not addresses:
            raise _Refused(f"{host} stands for no address")
        for address in addresses:
            if not self._private and not is_public(address):
                raise _Refused(f"{host} stands for {address}, which is a private address")
        for address in addresses[:-1]:
            try:
                return await self._post_to(address, url, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._post_to(addresses[-1], url, headers, body)

    async def _post_to(self, address: str, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> int:
        request = httpx.Request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "host": url.netloc.decode("ascii"), "user-agent": "sidemeter", "connection": "close"},
            extensions={"timeout": self._timeout, "sni_hostname": url.raw_host.decode("ascii")},
        )
        answer = await self._transport.handle_async_request(request)
        await answer.aclose()
        return answer.status_code

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
