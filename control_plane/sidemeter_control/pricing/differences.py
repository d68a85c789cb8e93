"""What is different between two versions of a plan, field by field, under the names that they were written with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from sidemeter_control.pricing.definitions import plain
from sidemeter_control.pricing.plans import Plan

__all__ = ["Difference", "FieldDifference", "Kind", "PlanDifferences", "differences"]


class Kind(Enum):
    """What became of a part of a plan."""

    ADDED = "ADDED"
    REMOVED = "REMOVED"
    CHANGED = "CHANGED"


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field and what it says in each version, as JSON values; None where it is not said, or has its default."""

    field: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Difference:
    """A charge, by its key, or an entitlement, by its feature's."""

    key: str
    kind: Kind
    fields: tuple[FieldDifference, ...]


@dataclass(frozen=True, slots=True)
class PlanDifferences:
    """Everything that is different, in the order of the newer version; what was removed comes last."""

    fields: tuple[FieldDifference, ...]
    charges: tuple[Difference, ...]
    entitlements: tuple[Difference, ...]


def differences(before: Plan, after: Plan) -> PlanDifferences:
    """What has to be done to the one to get the other."""
    return PlanDifferences(
        _fields(_terms(before), _terms(after)),
        _parts(
            {charge.spec.key: plain(charge.spec) for charge in before.charges},
            {charge.spec.key: plain(charge.spec) for charge in after.charges},
        ),
        _parts(
            {spec.feature: plain(spec) for spec in before.entitlements},
            {spec.feature: plain(spec) for spec in after.entitlements},
        ),
    )


def _terms(plan: Plan) -> Mapping[str, object]:
    return {
        "name": plan.name,
        "currency": plan.currency,
        "interval": plan.interval.value,
        "intervalCount": plan.interval_count,
        "trialDays": plan.trial_days,
        "proration": plan.proration.value,
        "minimumSpend": plain(plan.minimum_spend),
        "commitment": plain(plan.commitment),
    }


def _parts(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[Difference, ...]:
    found = [
        _part(key, before.get(key), after.get(key)) for key in [*after, *(key for key in before if key not in after)]
    ]
    return tuple(each for each in found if each.fields)


def _part(key: str, before: object, after: object) -> Difference:
    kind = Kind.ADDED if before is None else Kind.REMOVED if after is None else Kind.CHANGED
    return Difference(key, kind, _fields(before, after))


def _fields(before: object, after: object) -> tuple[FieldDifference, ...]:
    old, new = (each if isinstance(each, dict) else {} for each in (before, after))
    names: Sequence[str] = [*new, *sorted(old.keys() - new.keys())]
    changed = (FieldDifference(name, old.get(name), new.get(name)) for name in names)
    return tuple(each for each in changed if each.before != each.after)
