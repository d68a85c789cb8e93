"""Plans as code, against a control plane that is played: what is asked in which parts, and which answers are refused."""

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from shop import us

from sidemeter_control.errors import Conflict, ControlError, InvalidInput, StoreUnavailable
from sidemeter_control.plans_as_code import compare, last_period, publish, read_plans
from sidemeter_control.pricing.drafts import MAX_SIMULATED, Simulation
from sidemeter_control.pricing.periods import Interval, Period
from sidemeter_control.pricing.plans import PlanSpec
from sidemeter_control.remote import Remote

NOW_US = 1_795_000_000_000_000  # 18 November 2026
FREE = PlanSpec(key="free", currency="EUR", charges=())
TOO_MANY = {
    "message": "customers: must be given: more than 5000",
    "extensions": {"code": "INVALID_INPUT", "field": "customers"},
}


def remote(answer: Callable[[httpx.Request], httpx.Response]) -> Remote:
    return Remote("http://control.test/", "key", httpx.MockTransport(answer))


class Played:
    """A control plane with one plan, of which so many are subscribers."""

    def __init__(self, subscribers: int) -> None:
        self.keys = [f"c{n}" for n in range(subscribers)]
        self.version = 3
        self.simulated: list[list[str] | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = msgspec.json.decode(request.content)
        query, variables = asked["query"], asked["variables"]
        if "simulate" in query:
            return httpx.Response(200, json=self.simulate(variables["customers"]))
        if "customers(" in query:
            return httpx.Response(200, json={"data": {"customers": self.page(int(variables["after"] or 0))}})
        known = {"version": self.version, "definition": {"key": "free"}, "publishedAt": "", "subscribers": 0}
        return httpx.Response(200, json={"data": {"plan": known}})

    def simulate(self, keys: list[str] | None) -> dict[str, Any]:
        self.simulated.append(keys)
        if keys is None and len(self.keys) > MAX_SIMULATED:
            return {"data": None, "errors": [TOO_MANY]}
        amounts = {"current": {"rounded": "1"}, "simulated": {"rounded": "2"}}
        return {"data": {"simulate": {"rows": [{"customer": key} | amounts for key in keys or self.keys]}}}

    def page(self, start: int) -> dict[str, Any]:
        own = {"plan": {"key": "free"}, "startAt": "2020-01-01T00:00:00Z", "endAt": None}
        ended, later = own | {"endAt": "2026-10-01T00:00:00Z"}, own | {"startAt": "2026-11-01T00:00:00Z"}
        other = own | {"plan": {"key": "pro"}}
        some = self.keys[start : start + 200]
        edges = [{"node": {"key": key, "subscriptions": [ended, later, other, own]}} for key in some]
        edges += [{"node": {"key": f"not-{start}", "subscriptions": [ended, later, other]}}]
        more = start + 200 < len(self.keys)
        return {"edges": edges, "pageInfo": {"hasNextPage": more, "endCursor": str(start + 200)}}


@pytest.mark.parametrize(("subscribers", "parts"), [(2, [None]), (5000, [None]), (5001, [None, 5000, 1])])
def test_more_subscribers_than_one_answer_takes_are_priced_in_parts(subscribers: int, parts: list[int | None]) -> None:
    played = Played(subscribers)
    found = compare(remote(played), FREE, NOW_US)
    assert [each and len(each) for each in played.simulated] == parts
    assert isinstance(found.effect, Simulation)
    assert len({row.customer for row in found.effect.rows}) == found.effect.difference.amount == subscribers


def test_what_was_published_meanwhile_is_not_published_over() -> None:
    played = Played(0)
    compared = compare(remote(played), FREE, NOW_US)
    played.version += 1
    with pytest.raises(Conflict, match="plan 'free' was published meanwhile: look at the difference again"):
        publish(remote(played), compared)


@pytest.mark.parametrize(
    ("interval", "count", "first", "end"),
    [
        (Interval.DAY, 1, "2026-11-17", "2026-11-18"),
        (Interval.WEEK, 1, "2026-11-09", "2026-11-16"),
        (Interval.MONTH, 1, "2026-10-01", "2026-11-01"),
        (Interval.MONTH, 2, "2026-09-01", "2026-11-01"),
        (Interval.QUARTER, 1, "2026-07-01", "2026-10-01"),
        (Interval.YEAR, 1, "2025-01-01", "2026-01-01"),
    ],
)
def test_the_last_period_is_the_last_whole_interval_of_the_calendar(
    interval: Interval, count: int, first: str, end: str
) -> None:
    spec = PlanSpec(key="p", currency="EUR", charges=(), interval=interval, interval_count=count)
    assert last_period(spec, NOW_US) == Period(us(first), us(end))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing", "file: must have a plan in it"),
        (
            "key: a\ncurrency: EUR\ncharges: []\n---\nkey: a\ncurrency: EUR\ncharges: []",
            "plan 2: key: must not be 'a' again",
        ),
        ("key: a\ncurrency: EUR\ncharges: []\n---\nkey: b", "plan 2: plan: Object missing required field `currency`"),
        ("key: a\ncurrency: EUR\ncharges: [{key: x, model: FLAT}]", "charges.x.amount: "),
        ("key: a\ncurrency: no", "line 2: no must be quoted"),
    ],
)
def test_a_file_is_refused_before_anybody_is_asked(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_plans(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (httpx.Response(200, json={"data": None, "errors": [TOO_MANY]}), InvalidInput, "customers: must be given"),
        (httpx.Response(200, json={"errors": [{"message": "no", "extensions": {"code": "CONFLICT"}}]}), Conflict, "no"),
        (httpx.Response(200, json={"errors": [{"message": "broken"}]}), ControlError, "broken"),
        (
            httpx.Response(401, json={"detail": "no such key"}),
            ControlError,
            "http://control.test: answered 401: no such key",
        ),
        (
            httpx.Response(502, text="<html>"),
            StoreUnavailable,
            "http://control.test: answered 502, and not as a control",
        ),
        (
            httpx.Response(200, json=[]),
            StoreUnavailable,
            "http://control.test: answered 200, and not as a control plane",
        ),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: httpx.Response, error: type[ControlError], message: str) -> None:
    with remote(lambda _: answer) as asked, pytest.raises(error) as caught:
        asked.ask("{ __typename }")
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)
