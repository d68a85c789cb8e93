"""Webhooks: where alerts are sent, signed after Standard Webhooks, and when they are sent again. Pure rules, no I/O."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.alerts import Alert, AlertKind
from sidemeter_control.money import decimal_text

__all__ = [
    "GONE",
    "MAX_ATTEMPTS",
    "MAX_URL_CHARS",
    "MAX_WEBHOOKS",
    "OVERLAP_S",
    "RETRY_AFTER_S",
    "Delivery",
    "DeliveryState",
    "Webhook",
    "body_of",
    "check_secret",
    "check_url",
    "headers_of",
    "is_public",
    "read_kinds",
    "retry_after_ms",
    "secret_of",
]

MAX_WEBHOOKS: Final = 20
"""Each alert is a delivery to every one of them."""

MAX_URL_CHARS: Final = 2_048

RETRY_AFTER_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""What is waited after each attempt that failed: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. Three days in all."""

MAX_ATTEMPTS: Final = len(RETRY_AFTER_S) + 1

JITTER: Final = 5
"""Up to a fifth more is waited, so that what failed together is not sent again together."""

OVERLAP_S: Final = 86_400
"""For how long the secret before a new one signs as well: a day to tell the receiver of it."""

GONE: Final = 410
"""The status with which a receiver says that it will never take anything again."""

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts are sent. `kinds` None: alerts of every kind. `disabled_at_us`: when its receiver said that it is gone.

    The `secret` is kept as it is, because it signs; whoever holds the database or a backup of it can sign as well. The one
    before it signs, too, until `old_secret_until_us`.
    """

    id: str
    url: str
    kinds: tuple[AlertKind, ...] | None
    created_at_us: int
    secret: str = field(repr=False)
    old_secret: str | None = field(default=None, repr=False)
    old_secret_until_us: int | None = None
    disabled_at_us: int | None = None

    def wants(self, kind: AlertKind) -> bool:
        """Whether alerts of that kind are sent there."""
        return self.disabled_at_us is None and (self.kinds is None or kind in self.kinds)

    def secrets(self, now_us: int) -> tuple[str, ...]:
        """What a message is signed with at an instant, the newest first."""
        if self.old_secret is None or now_us >= (self.old_secret_until_us or 0):
            return (self.secret,)
        return self.secret, self.old_secret

    def with_secret(self, secret: str, now_us: int) -> "Webhook":
        """The same with another secret; the present one signs as well for a while."""
        if secret == self.secret:
            return self
        until_us = now_us + OVERLAP_S * 1_000_000
        return replace(self, secret=secret, old_secret=self.secret, old_secret_until_us=until_us)


class DeliveryState(Enum):
    """PENDING: to be sent, for the first time or again. DELIVERED: answered with 2xx. FAILED: given up."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert on its way to one webhook. `seq` is the order in which deliveries were made.

    `message_id` is the webhook-id: the same in every attempt, and in a delivery that repeats this one. `body` never changes.
    `last_status` is that of the last answer, `last_error` why the last attempt failed.
    """

    seq: int
    id: str
    webhook_id: str
    message_id: str
    alert_id: str
    body: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at_us: int
    ended_at_us: int | None


def read_kinds(names: Sequence[str] | None) -> tuple[AlertKind, ...] | None:
    """The kinds that `events` names, each once; None for all. InvalidInput for what is none."""
    if names is None:
        return None
    known = {kind.value: kind for kind in AlertKind}
    if not names:
        raise InvalidInput("events", "must name at least one kind of alert, or be absent for all")
    for index, name in enumerate(names):
        if name not in known:
            raise InvalidInput(f"events[{index}]", f"must be one of {', '.join(known)}")
    return tuple(kind for kind in AlertKind if kind.value in names)


def check_url(url: str, *, private: bool) -> None:
    """Raise InvalidInput unless the URL can be posted to; `private`: also over plain http, and to private addresses.

    A name may stand for any address, so what it stands for is looked at each time before something is sent.
    """
    if len(url) > MAX_URL_CHARS or not url.isascii() or any(not "!" <= sign <= "~" for sign in url):
        raise InvalidInput("url", f"must be at most {MAX_URL_CHARS} printable ASCII characters without spaces")
    parts, host = _parsed(url)
    schemes = ("https", "http") if private else ("https",)
    if parts.scheme not in schemes or not host:
        raise InvalidInput("url", f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidInput("url", "must have no user, password or fragment")
    if not private and _is_private_name(host):
        raise InvalidInput("url", "must not be a private or loopback address")


def _parsed(url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is read only now
    except ValueError as exc:
        raise InvalidInput("url", f"is no URL: {exc}") from exc
    return parts, (parts.hostname or "").rstrip(".")


def _is_private_name(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet's; ValueError when it is no address.

    >>> [is_public(each) for each in ("93.184.216.34", "127.0.0.1", "10.1.2.3", "169.254.169.254", "::ffff:127.0.0.1")]
    [True, False, False, False, False]
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    # An address of IPv4 within one of IPv6 may be where the packets end.
    if ip in _COMPATIBLE or ip in _NAT64 or ip.ipv4_mapped is not None:
        return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)))
    if ip.sixtofour is not None and not is_public(str(ip.sixtofour)):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_site_local and ip not in _NAT64_LOCAL


def secret_of(random: bytes) -> str:
    """A secret in the form in which people pass it on.

    >>> secret_of(bytes(24))
    'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    return _PREFIX + base64.b64encode(random).decode()


def check_secret(secret: str) -> None:
    """Raise InvalidInput unless something can be signed with it."""
    try:
        raw = _raw(secret)
    except (binascii.Error, ValueError):
        raw = b""
    if not secret.startswith(_PREFIX) or len(raw) not in _SECRET_BYTES:
        raise InvalidInput("secret", f"must be {_PREFIX} and 24 to 64 bytes in base64")


def _raw(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)


def headers_of(secrets: tuple[str, ...], message_id: str, at_us: int, body: bytes) -> Mapping[str, str]:
    """What an attempt at an instant says besides its body: https://www.standardwebhooks.com. One signature of each secret."""
    timestamp = str(at_us // 1_000_000)
    content = b".".join([message_id.encode(), timestamp.encode(), body])
    signed = (hmac.new(_raw(secret), content, hashlib.sha256).digest() for secret in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signed),
    }


def body_of(alert: Alert) -> str:
    """What is sent of an alert.

    >>> from decimal import Decimal
    >>> made = Alert(1, "alert_1", "acme", "budget:b", AlertKind.BUDGET_THRESHOLD, 90, 0, "90% …", Decimal(9), Decimal(10), None)
    >>> print(body_of(made))
    {"type":"alert.budget_threshold","timestamp":"1970-01-01T00:00:00Z","data":{"id":"alert_1","customer":"acme","kind":"budget_threshold","what":"budget:b","threshold":90,"used":"9","amount":"10","periodStart":null,"at":"1970-01-01T00:00:00Z","text":"90% …"}}
    """
    at = _instant(alert.at_us)
    data = {
        "id": alert.id,
        "customer": alert.customer_key,
        "kind": alert.kind.value,
        "what": alert.what,
        "threshold": alert.threshold,
        "used": decimal_text(alert.used),
        "amount": decimal_text(alert.amount),
        "periodStart": None if alert.period_start_us is None else _instant(alert.period_start_us),
        "at": at,
        "text": alert.text,
    }
    return msgspec.json.encode({"type": f"alert.{alert.kind.value}", "timestamp": at, "data": data}).decode()


def _instant(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")


def retry_after_ms(attempts: int, luck: int) -> int | None:
    """How long to wait after so many attempts, all of which failed; None: no more are made. `luck` is any number.

    >>> [retry_after_ms(attempts, 0) for attempts in (1, 2, 9, 10)]
    [5000, 300000, 86400000, None]
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    base_ms = RETRY_AFTER_S[attempts - 1] * 1_000
    return base_ms + luck % (base_ms // JITTER)
