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
from sidemeter.limits import Decision, Enforcement, Kind, QuotaView

__all__ = [
    "Accepted",
    "DecisionAnswer",
    "Ended",
    "Problem",
    "Quota",
    "Quotas",
    "Rejection",
    "ReservationAnswer",
    "encode",
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


class DecisionAnswer(msgspec.Struct, frozen=True):
    """The JSON of a `Decision`.

    >>> decision = Decision(True, "unlimited", "acme", as_of_us=1_767_225_600_000_001)
    >>> DecisionAnswer.of(decision).as_of, DecisionAnswer.of(decision).decision() == decision
    ('2026-01-01T00:00:00.000001Z', True)
    """

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

    @classmethod
    def of(cls, decision: Decision) -> "DecisionAnswer":
        """The answer that shows `decision`."""
        return cls(
            allowed=decision.allowed,
            reason=decision.reason,
            subject=decision.subject,
            feature=decision.feature,
            limit=decision.limit,
            used=decision.used,
            remaining=decision.remaining,
            wait_s=decision.wait_s,
            resets_at=_text_of(decision.resets_at_us),
            as_of=_text_of(decision.as_of_us),
            policy_version=decision.policy_version,
            receipt=decision.receipt,
        )

    def decision(self) -> Decision:
        """The decision it shows."""
        return Decision(
            allowed=self.allowed,
            reason=self.reason,
            subject=self.subject,
            feature=self.feature,
            limit=self.limit,
            used=self.used,
            remaining=self.remaining,
            wait_s=self.wait_s,
            resets_at_us=_us_of(self.resets_at),
            as_of_us=_us_of(self.as_of),
            policy_version=self.policy_version,
            receipt=self.receipt,
        )


class ReservationAnswer(msgspec.Struct, frozen=True):
    """The JSON of a reservation: its `id` is for its final call, if it was allowed."""

    id: str
    decision: DecisionAnswer


class Ended(msgspec.Struct, frozen=True):
    """The answer to a final call: whether this reservation was open, and what was recorded at its end."""

    id: str
    done: bool
    receipt: Receipt | None = None


class Quota(msgspec.Struct, frozen=True):
    """The JSON of a `QuotaView`; `value` is JSON in JSON."""

    customer: str
    feature: str
    kind: Kind
    enforcement: Enforcement
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
            resets_at=_text_of(view.resets_at_us),
            as_of=rfc_3339(view.as_of_us),
            policy_version=view.policy_version,
        )

    def view(self) -> QuotaView:
        """The view it shows."""
        value = str(self.value, "utf-8")
        return QuotaView(
            customer=self.customer,
            feature=self.feature,
            kind=self.kind,
            enforcement=self.enforcement,
            value=None if value == "null" else value,
            limit=self.limit,
            used=self.used,
            remaining=self.remaining,
            resets_at_us=_us_of(self.resets_at),
            as_of_us=unix_us(self.as_of),
            policy_version=self.policy_version,
        )


class Quotas(msgspec.Struct, frozen=True):
    """What an agent knows of one subject's limits."""

    subject: str
    quotas: list[Quota]


class Nearest(msgspec.Struct, frozen=True):
    """The limits that are nearest to their end, of all that an agent knows; those first that have the least left."""

    quotas: list[Quota]


@functools.lru_cache(maxsize=1024)
def rfc_3339(instant_us: int) -> str:
    """An instant, given in microseconds since 1970, as text in UTC.

    >>> rfc_3339(1_767_225_600_000_000)
    '2026-01-01T00:00:00Z'
    """
    return (_EPOCH + instant_us * _MICROSECOND).isoformat().replace("+00:00", "Z")


def unix_us(text: str) -> int:
    """The inverse of `rfc_3339`."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def _text_of(instant_us: int | None) -> str | None:
    return None if instant_us is None else rfc_3339(instant_us)


def _us_of(text: str | None) -> int | None:
    return None if text is None else unix_us(text)
