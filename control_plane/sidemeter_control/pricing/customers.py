"""Customers: who is billed, in which currency and time zone, and whose usage is theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sidemeter_control.errors import InvalidInput
from sidemeter_control.metering.events import MAX_SUBJECT
from sidemeter_control.money import check_currency
from sidemeter_control.pricing.sentences import Language

__all__ = [
    "MAX_METADATA_BYTES",
    "MAX_NAME_CHARS",
    "MAX_SUBJECTS",
    "Customer",
    "check_time_zone",
    "new_customer",
]

MAX_NAME_CHARS = 256
# Usage is folded over a customer's subjects, one range of rollups each.
MAX_SUBJECTS = 1_000
MAX_METADATA_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Customer:
    """Who pays. `subjects` is never empty: a customer who lists none has one, the own key.

    `time_zone` is an IANA name; `metadata` is JSON text of an object, or None. Bills and quotas are in its `language`.
    `prepaid`: its credits in money are all that may be spent.
    """

    key: str
    name: str | None = None
    currency: str | None = None
    time_zone: str = "UTC"
    subjects: tuple[str, ...] = ()
    metadata: str | None = None
    created_at_us: int = 0
    language: Language = Language.EN
    prepaid: bool = False

    def __post_init__(self) -> None:
        if not self.subjects:
            object.__setattr__(self, "subjects", (self.key,))


def new_customer(
    key: str,
    *,
    name: str | None = None,
    currency: str | None = None,
    time_zone: str = "UTC",
    subjects: Sequence[str] = (),
    metadata: str | None = None,
    language: Language = Language.EN,
    prepaid: bool = False,
    now_us: int,
) -> Customer:
    """A customer that keeps every rule, else InvalidInput naming the field; its subjects each once, in order.

    >>> new_customer("acme", time_zone="Berlin", now_us=0)
    Traceback (most recent call last):
    sidemeter_control.errors.InvalidInput: timeZone: 'Berlin' is not a time zone of the IANA database
    """
    _check_subject("key", key)
    if not key.isprintable() or key != key.strip():
        raise InvalidInput("key", "must be printable, without blanks at the ends")
    if name is not None and not 1 <= len(name) <= MAX_NAME_CHARS:
        raise InvalidInput("name", f"must be 1 to {MAX_NAME_CHARS} characters")
    if currency is not None:
        check_currency("currency", currency)
    check_time_zone("timeZone", time_zone)
    if metadata is not None and len(metadata.encode()) > MAX_METADATA_BYTES:
        raise InvalidInput("metadata", f"must be at most {MAX_METADATA_BYTES} bytes")
    if len(subjects) > MAX_SUBJECTS:
        raise InvalidInput("subjects", f"must be at most {MAX_SUBJECTS}")
    for index, subject in enumerate(subjects):
        _check_subject(f"subjects[{index}]", subject)
    own = tuple(sorted(set(subjects)))
    return Customer(key, name, currency, time_zone, own, metadata, now_us, language, prepaid)


def check_time_zone(field: str, name: str) -> None:
    """Raise InvalidInput for `field` unless `name` is a time zone of the IANA database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise InvalidInput(field, f"{name!r} is not a time zone of the IANA database") from exc


def _check_subject(field: str, text: str) -> None:
    """Whatever events may name as their subject can be a customer's."""
    if not 1 <= len(text) <= MAX_SUBJECT or "\0" in text:
        raise InvalidInput(field, f"must be 1 to {MAX_SUBJECT} characters, none of them NUL")
