"""The answers of the agent's HTTP API as JSON, both ways: the API writes them, the client reads them.

Exact decimals are strings, instants RFC 3339 in UTC, errors RFC 9457 problems.
"""

import functools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Final, Literal

import msgspec

from sidemeter.errors import InvalidInput
from sidemeter.events import Receipt
from sidemeter.limits import Decision, QuotaView

__all__ = [
    "Accepted",
    "Problem",
    "Quota",
    "Rejection",
    "decode_decision",
    "encode",
    "encode_decision",
    "rfc_3339",
    "unix_us",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

encode: Final = msgspec.json.Encoder(decimal_format="string").encode
"""The JSON of an answer."""


class Rejection(msgspec.Struct, frozen=True):
    """Why one event of a request was not taken: its place there, the field, and the rule it breaks."""

    index: int
    field: str
    code: str
    message: str

    @classmethod
    def of(cls, index: int, error: InvalidInput) -> "Rejection":
        """The rejection of event `index` that `error` explains."""
        return cls(index, error.field, error.code, str(error))


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a request's events; `receipts`, in the order of the accepted ones, only when asked for."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]
    durability: Literal["disk"]
    receipts: list[Receipt] | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as RFC 9457 has it; `code` is stable, `errors` names each bad event."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[Rejection] = []

    @classmethod
    def of(cls, status: int, code: str, detail: str, errors: list[Rejection] | None = None) -> "Problem":
        """A problem titled as its status.

        >>> Problem.of(404, "not_found", "no such route").type
        'urn:sidemeter:problem:not_found'
        """
        return cls(f"urn:sidemeter:problem:{code}", HTTPStatus(status).phrase, status, detail, code, errors or [])


class _DecisionAnswer(msgspec.Struct, frozen=True):
    allowed: bool
    reason: str
    subject: str
    feature: str | None
    limit: Decimal | None
    used: Decimal | None
    remaining: Decimal | None
    wait_s: float
    resets_at: str | None
    as_of: str | None
    policy_version: int | None
    receipt: Receipt | None


class Quota(msgspec.Struct, frozen=True):
    """The JSON of one `QuotaView`."""

    customer: str
    feature: str
    kind: str
    enforcement: str
    value: msgspec.Raw
    limit: Decimal | None
    used: Decimal | None
    remaining: Decimal | None
    resets_at: str | None
    as_of: str
    policy_version: int

    @classmethod
    def of(cls, view: QuotaView) -> "Quota":
        """The answer that shows `view`."""
        return cls(
            customer=view.customer,
            feature=view.feature,
            kind=view.kind,
            enforcement=view.enforcement,
            value=msgspec.Raw((view.value or "null").encode()),
            limit=view.limit,
            used=view.used,
            remaining=view.remaining,
            resets_at=_optional_rfc_3339(view.resets_at_us),
            as_of=rfc_3339(view.as_of_us),
            policy_version=view.policy_version,
        )


_decision: Final = msgspec.json.Decoder(_DecisionAnswer).decode


def encode_decision(decision: Decision) -> bytes:
    """The JSON of a decision."""
    return encode(
        _DecisionAnswer(
            decision.allowed,
            decision.reason,
            decision.subject,
            decision.feature,
            decision.limit,
            decision.used,
            decision.remaining,
            decision.wait_s,
            _optional_rfc_3339(decision.resets_at_us),
            _optional_rfc_3339(decision.as_of_us),
            decision.policy_version,
            decision.receipt,
        )
    )


def decode_decision(body: bytes) -> Decision:
    """The decision of such JSON; raises msgspec.DecodeError for anything else.

    >>> decision = Decision(True, "unlimited", "acme", as_of_us=1_767_225_600_000_001)
    >>> decode_decision(encode_decision(decision)) == decision
    True
    """
    answer = _decision(body)
    return Decision(
        allowed=answer.allowed,
        reason=answer.reason,
        subject=answer.subject,
        feature=answer.feature,
        limit=answer.limit,
        used=answer.used,
        remaining=answer.remaining,
        wait_s=answer.wait_s,
        resets_at_us=None if answer.resets_at is None else unix_us(answer.resets_at),
        as_of_us=None if answer.as_of is None else unix_us(answer.as_of),
        policy_version=answer.policy_version,
        receipt=answer.receipt,
    )


@functools.lru_cache(maxsize=1024)
def rfc_3339(unix_us: int) -> str:
    """An instant, given in microseconds since 1970, as text in UTC.

    >>> rfc_3339(1_767_225_600_000_000)
    '2026-01-01T00:00:00Z'
    """
    return (_EPOCH + unix_us * _MICROSECOND).isoformat().replace("+00:00", "Z")


def _optional_rfc_3339(unix_us: int | None) -> str | None:
    return None if unix_us is None else rfc_3339(unix_us)


def unix_us(text: str) -> int:
    """The inverse of `rfc_3339`."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
