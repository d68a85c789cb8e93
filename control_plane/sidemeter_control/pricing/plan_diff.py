"""What differs between two plans, each as JSON values: place by place, whatever fields there are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Change", "changes"]

_NAMES = ("key", "feature")
"""By one of these an element of a list is known: a charge, an entitlement."""


@dataclass(frozen=True, slots=True)
class Change:
    """At `path` it says `new` instead of `old`; None where it says nothing, and a default holds."""

    path: str
    old: object
    new: object


def changes(old: object, new: object, path: str = "") -> list[Change]:
    """Every place where `new` says something else than `old`.

    Charges and entitlements are compared by their keys, and what is in both but in another order is one change.

    >>> was = {"charges": [{"key": "api", "unitPrice": "0.1"}, {"key": "base", "amount": "9"}]}
    >>> for each in changes(was, {"charges": [{"key": "api", "unitPrice": "0.2"}]}):
    ...     print(each.path, each.old, each.new)
    charges.api.unitPrice 0.1 0.2
    charges.base {'key': 'base', 'amount': '9'} None
    """
    return list(_changes(path, old, new))


def _changes(path: str, old: object, new: object) -> Iterator[Change]:
    match old, new:
        case Mapping(), Mapping():
            yield from _fields(path, old, new)
        case [*before], [*after]:
            by_name = _by_name(before), _by_name(after)
            if by_name[0] is None or by_name[1] is None:
                yield from _elements(path, before, after)
            else:
                yield from _fields(path, by_name[0], by_name[1])
                yield from _order(path, list(by_name[0]), list(by_name[1]))
        case _ if not _same(old, new):
            yield Change(path, old, new)


def _fields(path: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Change]:
    for key in [*old, *(key for key in new if key not in old)]:
        yield from _changes(f"{path}.{key}".lstrip("."), old.get(key), new.get(key))


def _elements(path: str, old: Sequence[object], new: Sequence[object]) -> Iterator[Change]:
    for index in range(max(len(old), len(new))):
        pair = (each[index] if index < len(each) else None for each in (old, new))
        yield from _changes(f"{path}[{index}]", *pair)


def _order(path: str, old: list[str], new: list[str]) -> Iterator[Change]:
    kept = [name for name in old if name in new], [name for name in new if name in old]
    if kept[0] != kept[1]:
        yield Change(f"{path} (order)", *kept)


def _by_name(elements: list[Any]) -> dict[str, object] | None:
    """The elements by what they are known by; None when they are not known by anything, each by its own."""
    for name in _NAMES:
        if all(isinstance(each, Mapping) and isinstance(each.get(name), str) for each in elements):
            named = {each[name]: each for each in elements}
            return named if len(named) == len(elements) else None
    return None


def _same(old: object, new: object) -> bool:
    """In JSON, true is not 1."""
    return isinstance(old, bool) is isinstance(new, bool) and old == new
