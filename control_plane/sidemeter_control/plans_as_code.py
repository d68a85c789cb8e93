"""Plans as code: what a plan file would change on a running control plane, what that would cost whom, and doing it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sidemeter_control.errors import Conflict, InvalidInput, NotFound
from sidemeter_control.pricing.documents import Document, document, read_document
from sidemeter_control.pricing.drafts import MAX_SIMULATED, Simulation, SimulationRow
from sidemeter_control.pricing.periods import Period, Recurrence
from sidemeter_control.pricing.plan_diff import Change, changes
from sidemeter_control.pricing.plan_files import read_yaml
from sidemeter_control.pricing.plans import PlanSpec, read_plan
from sidemeter_control.remote import Remote

__all__ = ["Comparison", "Published", "compare", "instant_text", "last_period", "publish", "published", "read_plans"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_2001_US = 978_307_200_000_000

_PLAN = "query($key: ID!, $version: Int) { plan(key: $key, version: $version) { version definition publishedAt subscribers } }"
_PUBLISH = "mutation($plan: PlanInput!) { publishPlan(input: $plan) { version } }"
_SIMULATE = """
query($plan: PlanInput!, $from: DateTime!, $to: DateTime!, $customers: [ID!]) {
  simulate(plan: $plan, from: $from, to: $to, customers: $customers) {
    rows { customer current { rounded } simulated { rounded } } } }
"""
_CUSTOMERS = """
query($after: String) {
  customers(first: 200, after: $after) {
    edges { node { key subscriptions { plan { key } startAt endAt } } } pageInfo { hasNextPage endCursor } } }
"""


@dataclass(frozen=True, slots=True)
class Published:
    """A version that is published, and how many subscribe to it."""

    version: int
    definition: Document
    published_at: str
    subscribers: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan of a file beside its newest published version (None: there is none yet).

    `effect`: what subscribers owe for `period` as it is, and would under the file's plan; or why that cannot be told. None
    where nothing changes, or nobody can have it yet.
    """

    spec: PlanSpec
    now: Published | None
    changes: tuple[Change, ...]
    period: Period
    effect: Simulation | InvalidInput | None


def read_plans(text: str) -> list[PlanSpec]:
    """The plans of a file; InvalidInput names the line or the field, and the plan where there are several."""
    written = read_yaml(text)
    specs: list[PlanSpec] = []
    for number, each in enumerate(written, start=1):
        try:
            spec = read_document(each)
            read_plan(spec, 1, 0)
        except InvalidInput as exc:
            raise InvalidInput(exc.field if len(written) == 1 else f"plan {number}: {exc.field}", exc.rule) from exc
        if spec.key in {other.key for other in specs}:
            raise InvalidInput(f"plan {number}: key", f"must not be {spec.key!r} again")
        specs.append(spec)
    if not specs:
        raise InvalidInput("file", "must have a plan in it")
    return specs


def published(remote: Remote, key: str, version: int | None = None) -> Published:
    """A version of the plan, by default the newest; NotFound when there is none."""
    found = _published(remote, key, version)
    if found is None:
        raise NotFound("plan", key if version is None else f"{key} version {version}")
    return found


def compare(remote: Remote, spec: PlanSpec, now_us: int) -> Comparison:
    """What publishing it would change, and for whom. It is checked by the control plane; nothing is stored."""
    now, wanted = _published(remote, spec.key), document(spec)
    period = last_period(spec, now_us)
    found = changes({} if now is None else now.definition, wanted)
    if not found:
        return Comparison(spec, now, (), period, None)
    if now is None:
        _simulated(remote, wanted, period, [])
        return Comparison(spec, None, tuple(found), period, None)
    return Comparison(spec, now, tuple(found), period, _effect(remote, wanted, period))


def publish(remote: Remote, compared: Comparison) -> int:
    """Publish what was compared, and answer its version; Conflict when another version was published meanwhile."""
    latest = _published(remote, compared.spec.key)
    if (latest and latest.version) != (compared.now and compared.now.version):
        raise Conflict(f"plan {compared.spec.key!r} was published meanwhile: look at the difference again")
    version: int = remote.ask(_PUBLISH, plan=document(compared.spec))["publishPlan"]["version"]
    return version


def last_period(spec: PlanSpec, now_us: int) -> Period:
    """The last whole interval of the plan on UTC's calendar: the month before this one, for a monthly plan.

    Subscribers' own periods begin on days of their own; in an interval of this length each has one beginning and one end.

    >>> last = last_period(PlanSpec(key="p", currency="EUR", charges=()), 1_795_000_000_000_000)  # 18 November 2026
    >>> [f"{_EPOCH + timedelta(microseconds=at):%Y-%m-%d}" for at in (last.start_us, last.end_us)]
    ['2026-10-01', '2026-11-01']
    """
    on_calendar = Recurrence.every(spec.interval, spec.interval_count, _2001_US, "UTC")
    return on_calendar.period_at(on_calendar.period_at(now_us).start_us - 1)


def _published(remote: Remote, key: str, version: int | None = None) -> Published | None:
    found = remote.ask(_PLAN, key=key, version=version)["plan"]
    if found is None:
        return None
    return Published(found["version"], found["definition"], found["publishedAt"], found["subscribers"])


def _effect(remote: Remote, wanted: Document, period: Period) -> Simulation | InvalidInput:
    """For all subscribers; in parts where they are too many for one answer. InvalidInput: one cannot be on the plan."""
    try:
        rows = _simulated(remote, wanted, period, None)
    except InvalidInput as exc:
        if exc.field != "customers":
            raise
        keys = list(_subscribers(remote, str(wanted["key"]), period))
        if len(keys) <= MAX_SIMULATED:
            return exc
        rows = []
        for start in range(0, len(keys), MAX_SIMULATED):
            rows += _simulated(remote, wanted, period, keys[start : start + MAX_SIMULATED])
    return Simulation.of(rows, str(wanted["currency"]))


def _simulated(
    remote: Remote, wanted: Document, period: Period, customers: Sequence[str] | None
) -> list[SimulationRow]:
    asked = {
        "plan": wanted,
        "from": instant_text(period.start_us),
        "to": instant_text(period.end_us),
        "customers": customers,
    }
    rows = remote.ask(_SIMULATE, **asked)["simulate"]["rows"]
    currency = str(wanted["currency"])
    return [
        SimulationRow.of(
            row["customer"], Decimal(row["current"]["rounded"]), Decimal(row["simulated"]["rounded"]), currency
        )
        for row in rows
    ]


def _subscribers(remote: Remote, key: str, period: Period) -> Iterator[str]:
    after: str | None = None
    while True:
        page = remote.ask(_CUSTOMERS, after=after)["customers"]
        for edge in page["edges"]:
            if any(_within(own, key, period) for own in edge["node"]["subscriptions"]):
                yield edge["node"]["key"]
        if not page["pageInfo"]["hasNextPage"]:
            return
        after = page["pageInfo"]["endCursor"]


def _within(own: dict[str, Any], key: str, period: Period) -> bool:
    starts_us, ends_us = _us(own["startAt"]), None if own["endAt"] is None else _us(own["endAt"])
    ends_later = ends_us is None or ends_us > period.start_us
    return own["plan"]["key"] == key and starts_us < period.end_us and ends_later


def _us(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def instant_text(at_us: int) -> str:
    """RFC 3339 in UTC.

    >>> instant_text(0)
    '1970-01-01T00:00:00Z'
    """
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")
