"""Where a request comes from, and which ones with a session are taken."""

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from sidemeter_control.api.origins import Origins
from sidemeter_control.errors import Forbidden


def connection(method: str | None, peer: str = "192.0.2.1", **headers: str) -> HTTPConnection:
    """A request; without a method a websocket."""
    scope: dict[str, Any] = {
        "type": "http" if method else "websocket",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": (peer, 1),
    }
    return HTTPConnection(scope | ({"method": method} if method else {}))


HERE = {"host": "meter.test:8780"}


@pytest.mark.parametrize(
    ("method", "headers", "taken"),
    [
        ("POST", {"origin": "http://meter.test:8780"}, True),
        ("POST", {"origin": "https://meter.test:8780"}, True),
        ("POST", {"origin": "https://meter.example.com"}, True),
        ("POST", {"origin": "http://meter.test:8780", "sec_fetch_site": "same-origin"}, True),
        ("POST", {"sidemeter_page": "1"}, True),
        ("POST", {}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"origin": ""}, False),
        ("POST", {"origin": "http://evil.test", "sidemeter_page": "1"}, False),
        ("POST", {"origin": "http://meter.test:8781"}, False),
        ("POST", {"origin": "http://meter.test:8780.evil.test"}, False),
        ("POST", {"sidemeter_page": "1", "sec_fetch_site": "cross-site"}, False),
        ("POST", {"sidemeter_page": "1", "sec_fetch_site": "same-site"}, False),
        ("DELETE", {}, False),
        ("GET", {}, True),
        ("GET", {"sec_fetch_site": "none"}, True),
        ("GET", {"sec_fetch_site": "cross-site"}, False),
        ("GET", {"origin": "http://evil.test"}, False),
        (None, {"origin": "http://meter.test:8780"}, True),
        (None, {"origin": "http://evil.test"}, False),
        (None, {"sidemeter_page": "1"}, False),
        (None, {}, False),
    ],
)
def test_only_our_own_pages_ask_with_a_session(method: str | None, headers: dict[str, str], taken: bool) -> None:
    origins = Origins("https://meter.example.com")
    assert origins.is_from_here(connection(method, **HERE, **headers)) is taken
    if not taken:
        with pytest.raises(Forbidden):
            origins.check(connection(method, **HERE, **headers))


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("2001:db8::1:2:3:4", "", "2001:db8::/64"),
    ],
)
def test_an_address_is_the_peers_or_what_a_proxy_of_ours_says(peer: str, forwarded: str, source: str) -> None:
    origins = Origins(proxies=("10.0.0.1", "10.0.0.2"))
    assert origins.source_of(connection("POST", peer, x_forwarded_for=forwarded)) == source
