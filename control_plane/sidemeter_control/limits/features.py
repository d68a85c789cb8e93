"""Features: what a customer may use, and the meter that says how much of it was. Pure rules, no I/O."""

import re
from dataclasses import dataclass

from sidemeter_control.errors import InvalidInput

__all__ = ["Feature", "new_feature"]

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Feature:
    """Something a customer may use. Without a meter it can be allowed or given a value, not counted."""

    key: str
    name: str | None
    meter_key: str | None
    created_at_us: int


def new_feature(key: str, *, name: str | None = None, meter_key: str | None = None, now_us: int) -> Feature:
    """A feature that keeps every rule, else InvalidInput naming the field.

    >>> new_feature("seats", now_us=0).key
    'seats'
    """
    if not _KEY.fullmatch(key):
        raise InvalidInput("key", "must be 1 to 128 letters, digits and . _ : -, beginning with a letter or digit")
    if name is not None and not 1 <= len(name) <= 256:
        raise InvalidInput("name", "must be 1 to 256 characters")
    return Feature(key, name, meter_key, now_us)
