"""Customers: who is billed, in which currency and time zone, and whose usage is theirs."""

from dataclasses import dataclass, field

__all__ = ["Customer"]


@dataclass(frozen=True, slots=True)
class Customer:
    """Who pays. `subjects` is never empty: a customer who lists none has one, the own key.

    `time_zone` is an IANA name; `metadata` is JSON text of an object, or None.
    """

    key: str
    name: str | None = None
    currency: str | None = None
    time_zone: str = "UTC"
    subjects: tuple[str, ...] = field(default=())
    metadata: str | None = None
    created_at_us: int = 0

    def __post_init__(self) -> None:
        if not self.subjects:
            object.__setattr__(self, "subjects", (self.key,))
