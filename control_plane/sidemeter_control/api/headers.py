"""What every answer tells a browser: run nothing that slipped in, show it in no frame, tell no other site of it."""

from collections.abc import Mapping
from typing import Final

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
        added = dict(ALWAYS)
        if tls:
            added["Strict-Transport-Security"] = f"max-age={HSTS_S}"
        self._added = _raw(added)
        self._added_to_pages = _raw(added | {"Content-Security-Policy": PAGE_POLICY})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                is_page = headers.get(b"content-type", b"").startswith(b"text/html")
                added = self._added_to_pages if is_page else self._added
                more = [each for each in added if each[0] not in headers]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, sending)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
