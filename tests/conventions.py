"""What Prometheus asks of names, units and helps of metrics, for the tests of both programs."""

import re
from collections.abc import Iterable

from prometheus_client import Metric

__all__ = ["breaches"]

NAME = re.compile(r"(sidemeter|process)_[a-z0-9]+(_[a-z0-9]+)*")
OTHER_UNITS = {"us", "ms", "ns", "millis", "minutes", "hours", "days", "kib", "mib", "kb", "mb", "percent"}
"""Base units are seconds, bytes and ratios."""

TYPES = {"counter", "gauge", "histogram", "summary"}


def breaches(families: Iterable[Metric]) -> list[str]:
    """Each breach of a convention, as text; none is expected."""
    found: list[str] = []
    for family in families:
        words = set(family.name.split("_"))
        if not NAME.fullmatch(family.name):
            found.append(f"{family.name}: snake case, with the program before it")
        if words & OTHER_UNITS:
            found.append(f"{family.name}: base units")
        if words & TYPES:
            found.append(f"{family.name}: the type is not a part of the name")
        if family.type == "gauge" and family.name.endswith(("_total", "_count", "_sum")):
            found.append(f"{family.name}: an ending that is for counters")
        if family.type == "counter" and not all(sample.name.endswith("_total") for sample in family.samples):
            found.append(f"{family.name}: counters end with _total")
        if family.type == "unknown":
            found.append(f"{family.name}: a type")
        if not family.documentation.endswith(".") or family.documentation == family.name:
            found.append(f"{family.name}: a sentence as its help")
    return found
