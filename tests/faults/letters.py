"""Dead letters as the control plane keeps them: whose bytes they are, and why."""

import json
from dataclasses import dataclass
from typing import Any

import msgpack

from .reading import Kept, read

__all__ = ["Letter", "letters_of"]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and the event that its bytes are; of all meters, or of the one named `meter`."""

    code: str
    reason: str
    meter: str | None
    type: str
    subject: str
    data: dict[str, Any]


def letters_of(database: Kept) -> list[Letter]:
    """Every dead letter in a control plane's database that was not counted after all."""
    rows = read(database, "SELECT code, reason, meter_key, raw FROM dead_letters WHERE replayed_at_us IS NULL")
    return [Letter(code, reason, meter, *_event(raw)) for code, reason, meter, raw in rows]


def _event(raw: bytes) -> tuple[str, str, dict[str, Any]]:
    """Type, subject and data of an event in either form: JSON, or the array that agents send."""
    if raw[:1] == b"{":
        event = json.loads(raw)
        return event["type"], event["subject"], event.get("data") or {}
    _, _, kind, subject, _, data = msgpack.unpackb(raw)
    return kind, subject, json.loads(data or "{}")
