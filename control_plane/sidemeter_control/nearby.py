"""The control plane that runs beside a command with the same settings: where it is asked, and whether it is ready."""

import ssl
from ipaddress import ip_address
from typing import Final

import httpx

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.settings import Settings, host_and_port

__all__ = ["ANSWERS_WITHIN_S", "check_ready", "trust", "url_of"]

ANSWERS_WITHIN_S: Final = 5.0
"""Readiness is one short transaction; what asks for it has a bound of its own, mostly ten seconds."""


def url_of(settings: Settings) -> str:
    """Where a process of the same host asks it; one that listens on every address is asked on loopback.

    >>> url_of(Settings(listen="0.0.0.0:8780"))
    'http://127.0.0.1:8780'
    """
    host, port = host_and_port(settings.listen)
    address = ip_address(host)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{address}:{port}" if address.version == 4 else f"{scheme}://[{address}]:{port}"


def trust(settings: Settings) -> ssl.SSLContext | bool:
    """What `httpx` verifies with: the very certificate that is served, whose names are not those of loopback.

    Raises OSError for a file that is not there or no certificate.
    """
    if settings.tls_cert is None:
        return True
    context = ssl.create_default_context(cafile=settings.tls_cert)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be its own issuer
    return context


def check_ready(http: httpx.Client, url: str, *, alive: bool = False) -> None:
    """Return if the control plane at `url` takes requests; with `alive`, if it answers at all.

    Raises StoreUnavailable with what it said, or with why nothing answered.
    """
    path = "/healthz" if alive else "/readyz"
    try:
        answer = http.get(f"{url}{path}")
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise StoreUnavailable(f"{url}: {type(exc).__name__} {exc}") from exc
    if answer.status_code != httpx.codes.OK:
        raise StoreUnavailable(f"{url}: answered {answer.status_code}: {answer.text.strip()[:200]}")
