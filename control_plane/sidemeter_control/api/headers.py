"""What every answer tells a browser: run nothing that slipped in, show it in no frame, tell no other site of it."""

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ALWAYS", "HSTS_S", "PAGE_POLICY", "Headers"]

HSTS_S: Final = 31_536_000
"""A year, as browsers' lists ask for."""

ALWAYS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""Unless an answer says otherwise; pages have PAGE_POLICY."""

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of a page: only our own files, nothing inline, so that a value that slips into it cannot run."""


class Headers:
    """Around an application: adds ALWAYS to every answer, and with `tls` has browsers come over TLS from then on."""

    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._added = dict(ALWAYS)
        if tls:
            self._added["Strict-Transport-Security"] = f"max-age={HSTS_S}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
                for name, value in self._added.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)
