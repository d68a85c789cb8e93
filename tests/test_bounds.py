"""Every bound has a number, a place and an answer, and the page of them says what the code does (P13).

Each rule is tried with one less than its number, with its number, and with one more.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib
import itertools
import pkgutil
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fakes import eventually
from planes import Plane, plane

import sidemeter
import sidemeter.events as agents_events
import sidemeter.formats as agents_formats
import sidemeter_control
from sidemeter.agent import Agent
from sidemeter.api import MAX_REQUESTS, Api
from sidemeter.client import _bodies as bodies
from sidemeter.errors import InvalidInput as AgentsInvalidInput
from sidemeter.errors import SettingsError as AgentsSettingsError
from sidemeter.limits import Limits
from sidemeter.refresh import MAX_SUBJECTS_PER_SYNC
from sidemeter.settings import Settings as AgentSettings
from sidemeter.uplink import Answer
from sidemeter_control import money
from sidemeter_control.api import bounds
from sidemeter_control.errors import InvalidInput, StoreUnavailable
from sidemeter_control.limits import given, quotas, spending
from sidemeter_control.limits.given import MAX_CUSTOMERS_REMEMBERED as GIVEN_REMEMBERS
from sidemeter_control.limits.quotas import MAX_SETS_REMEMBERED
from sidemeter_control.limits.spending import MAX_CUSTOMERS_REMEMBERED as SPENDING_REMEMBERS
from sidemeter_control.metering import events, formats, meters, windows
from sidemeter_control.metering.explain import MAX_LOOKED_AT, counted_events
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.metering.usage import MAX_ROWS
from sidemeter_control.pricing import catalogue, customers, plans, register
from sidemeter_control.pricing.catalogue import MAX_CUSTOMERS_REMEMBERED as CATALOGUE_REMEMBERS
from sidemeter_control.pricing.charges import (
    BandSpec,
    ChargeSpec,
    MatrixRateSpec,
    OutcomeSpec,
    PricingModel,
    TierSpec,
    parameters,
)
from sidemeter_control.pricing.charges.bands import read_bands
from sidemeter_control.pricing.charges.matrix import read_rates
from sidemeter_control.pricing.charges.modifiers import read_percentages
from sidemeter_control.pricing.charges.outcome import read_outcome
from sidemeter_control.pricing.charges.tiers import read_tiers
from sidemeter_control.pricing.credits import books, grants, instants
from sidemeter_control.pricing.credits.books import MAX_CUSTOMERS_REMEMBERED as BOOKS_REMEMBER
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec, PlanSpec, read_plan
from sidemeter_control.pricing.preview import UsageSpec, preview
from sidemeter_control.pricing.register import MAX_CUSTOMERS_REMEMBERED as REGISTER_REMEMBERS
from sidemeter_control.store import credits as stored_credits
from sidemeter_control.store import meters as stored_meters
from sidemeter_control.store.database import MAX_WAIT_S, READERS, Database
from sidemeter_control.store.remembered import Remembered
from sidemeter_control.store.state import State

PAGE = Path(__file__).parent / "bounds.md"
ROW = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<number>[^|]+) \| `(?P<where>[^`|]+)` \| (?P<answer>[^|]+) \| (?P<test>[^|]+) \|$"
)
SAID_AS = {"keep_sent_s": "keep_s=", "keep_sent_bytes": "keep_bytes="}
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1, "min": 60, "h": 3600, "days": 86_400, "B": 1}


def rows() -> dict[str, re.Match[str]]:
    """The rows of the page by the place of their number."""
    found = [ROW.match(line) for line in PAGE.read_text().splitlines()]
    return {row["where"]: row for row in found if row}


def value_of(where: str) -> Any:
    """What `package.module:NAME` or `NAME.field` is; of a setting, its default."""
    module, _, name = where.partition(":")
    of: Any = importlib.import_module(module)
    if "." not in name:
        return getattr(of, name)
    owner, _, field = name.partition(".")
    whole = getattr(of, owner)
    if not isinstance(whole, type):
        return getattr(whole, field)
    return next(each.default for each in dataclasses.fields(whole) if each.name == field)


@pytest.mark.parametrize("where", rows())
def test_a_row_of_the_page_has_the_number_of_the_code_and_the_name_of_a_test(where: str) -> None:
    row = rows()[where]
    number, _, unit = row["number"].strip().partition(" ")
    assert value_of(where) == float(number.replace(",", "")) * UNITS[unit]
    file = PAGE.parent.parent / row["test"].strip().strip("`")
    assert file.is_file()
    name = where.partition(":")[2].rpartition(".")[2]
    assert SAID_AS.get(name, name).lower() in file.read_text().lower()


def test_every_public_bound_of_both_programs_is_a_row_of_the_page() -> None:
    named = set()
    for package in (sidemeter, sidemeter_control):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name:
                source = Path(importlib.util.find_spec(module.name).origin).read_text()  # type: ignore[union-attr, arg-type]
                found = re.findall(r"^(MAX_[A-Z_]+)(?:: Final)? = ", source, re.MULTILINE)
                named |= {f"{module.name}:{name}" for name in found}
    assert named - rows().keys() - NOT_A_NUMBER == set()


# One for each interval, and tried for each below.
NOT_A_NUMBER = {"sidemeter_control.pricing.plans:MAX_INTERVAL_COUNT"}

EVENT = {"type": "call", "subject": "acme"}
TEXT = "x" * 100_000
NUMBERS = [0] * 100_000


def deep(levels: int) -> Any:
    return {} if levels == 1 else {"a": deep(levels - 1)}


def data_of(size: int) -> dict[str, str]:
    """An object whose JSON takes so many bytes."""
    return {"a": "x" * (size - len('{"a":""}'))}


def read_by_agent(count: int) -> None:
    agents_formats.read_events(agents_formats.Form.JSON, msgspec.json.encode([EVENT] * count), 10_000)


def read_by_control_plane(count: int) -> None:
    formats.read_events(formats.Form.JSON, msgspec.json.encode([EVENT] * count), lambda: "id", 0)


def control_planes(**fields: Any) -> None:
    event = events.Event(**({"id": "1", "source": "s", "type": "call", "subject": "acme", "time_us": 0} | fields))
    events.check_fields(event)
    events.check(event)


def meter(**fields: Any) -> None:
    made = {"key": "k", "event_type": "t", "aggregation": meters.Aggregation.COUNT, "now_us": 0} | fields
    meters.new_meter(made.pop("key"), made.pop("event_type"), made.pop("aggregation"), **made)


def dimensions(count: int) -> list[meters.Dimension]:
    return [meters.Dimension(f"d{n}", "p") for n in range(count)]


def a_plan(**fields: Any) -> None:
    read_plan(PlanSpec(**({"key": "k", "currency": "EUR", "charges": ()} | fields)), 1, 0)


def fees(count: int) -> tuple[ChargeSpec, ...]:
    return tuple(ChargeSpec(key=f"c{n}", model=PricingModel.FLAT, amount=Decimal(1)) for n in range(count))


def entitlements(count: int) -> tuple[EntitlementSpec, ...]:
    return tuple(EntitlementSpec(feature=f"f{n}", kind=EntitlementKind.BOOLEAN) for n in range(count))


def tiers(count: int) -> None:
    lower = [TierSpec(up_to=Decimal(n), unit_price=Decimal(1)) for n in range(1, count)]
    read_tiers("tiers", [*lower, TierSpec(unit_price=Decimal(1))])


def rate(match: dict[str, Any]) -> MatrixRateSpec:
    return MatrixRateSpec(match=match, unit_price=Decimal(1))


def bands(count: int) -> None:
    times = [f"{minute // 60:02}:{minute % 60:02}" for minute in range(count + 1)]
    read_bands("bands", [BandSpec(from_=a, to=b, unit_price=Decimal(1)) for a, b in itertools.pairwise(times)])


def value(size: int) -> EntitlementSpec:
    return EntitlementSpec(feature="f", kind=EntitlementKind.STATIC, value='"' + "x" * (size - 2) + '"')


def grace(days: int) -> EntitlementSpec:
    return EntitlementSpec(
        feature="f", kind=EntitlementKind.METERED, limit=Decimal(1), enforcement=Enforcement.HARD, grace_days=days
    )


def customer(**fields: Any) -> None:
    customers.new_customer("k", now_us=0, **fields)


def hours(count: int) -> None:
    windows.windows(windows.Interval(0, count * 3_600_000_000), windows.Window.HOUR, "UTC")


def measured(digits: int) -> None:
    try:
        meters.to_nano(10**digits - 1)
    except meters.Uncountable as exc:
        raise InvalidInput("value", str(exc)) from exc


def decimal(digits: int) -> None:
    try:
        money.parse_decimal("1" * digits)
    except ValueError as exc:
        raise InvalidInput("decimal", str(exc)) from exc


def retry_after(seconds: int) -> None:
    """An agent waits as long as it is told, and not longer than its bound."""
    if Answer(503, {"retry-after": str(seconds)}, b"").retry_after_s != seconds:
        raise InvalidInput("Retry-After", "waits less")


def packed_by_control_plane(size: int) -> None:
    """Of data that begins with an extension, which is what is wrong with it as soon as it is read."""
    count = size - len(b"\x81\xa1n\xdd....") - len(b"\xd4\x05x") + 1
    data = b"\x81\xa1n\xdd" + count.to_bytes(4) + b"\xd4\x05x" + b"\xc0" * (count - 1)
    assert len(data) == size
    body = b"\x83\xa4type\xa4call\xa7subject\xa4acme\xa4data" + data
    (rejected,) = formats.read_events(formats.Form.MESSAGE_PACK, body, lambda: "id", 0).rejected
    if rejected.code == "too_large":
        raise InvalidInput("data", "was not read")


def in_a_request_of_the_client(size: int) -> None:
    if len(list(bodies([b"x" * (size - 10), b"x" * 10]))) > 1:
        raise InvalidInput("body", "takes two requests")


def asked_in_a_sync(count: int) -> None:
    limits = Limits(allow_unknown=False)
    for n in range(count):
        limits.see(f"s{n}")
    if len(limits.to_ask(MAX_SUBJECTS_PER_SYNC)) < count:
        raise InvalidInput("subjects", "are asked about in the next sync")


def top_ups(count: int) -> None:
    rule = grants.TopUp("acme", grants.MONEY, Decimal(1), Decimal(1), count, 0)
    grants.check_top_up(rule, "EUR")


def changes(count: int) -> None:
    resets = [instants.Reset(at_us) for at_us in range(count)]
    instants.instants([], resets, 0, count - 1)


RULES: dict[str, Callable[[int], None]] = {
    "sidemeter.client:MAX_REQUEST_BYTES": in_a_request_of_the_client,
    "sidemeter.refresh:MAX_SUBJECTS_PER_SYNC": asked_in_a_sync,
    "sidemeter.settings:MAX_SOCKET_PATH_BYTES": lambda n: void(
        AgentSettings(service="s", socket=Path("/" + TEXT[: n - 1]))
    ),
    "sidemeter.uplink:MAX_RETRY_AFTER_S": lambda n: retry_after(int(n)),
    "sidemeter_control.metering.formats:MAX_PACKED_DATA_BYTES": packed_by_control_plane,
    "sidemeter.events:MAX_ID": lambda n: void(agents_events.Event.of("call", "acme", id=TEXT[:n])),
    "sidemeter.events:MAX_SOURCE": lambda n: void(agents_events.Event.of("call", "acme", source=TEXT[:n])),
    "sidemeter.events:MAX_TYPE": lambda n: void(agents_events.Event.of(TEXT[:n], "acme")),
    "sidemeter.events:MAX_SUBJECT": lambda n: void(agents_events.Event.of("call", TEXT[:n])),
    "sidemeter.events:MAX_DATA_BYTES": lambda n: void(agents_events.Event.of("call", "acme", data_of(n))),
    "sidemeter.events:MAX_DEPTH": lambda n: void(agents_events.Event.of("call", "acme", deep(n))),
    "sidemeter.settings:Settings.max_array_events": read_by_agent,
    "sidemeter_control.metering.events:MAX_ID": lambda n: control_planes(id=TEXT[:n], source=TEXT[:n]),
    "sidemeter_control.metering.events:MAX_TYPE": lambda n: control_planes(type=TEXT[:n]),
    "sidemeter_control.metering.events:MAX_SUBJECT": lambda n: control_planes(subject=TEXT[:n]),
    "sidemeter_control.metering.events:MAX_DATA_BYTES": lambda n: control_planes(
        data=msgspec.json.encode(data_of(n)).decode()
    ),
    "sidemeter_control.metering.events:MAX_DEPTH": lambda n: control_planes(data=msgspec.json.encode(deep(n)).decode()),
    "sidemeter_control.metering.formats:MAX_EVENTS": read_by_control_plane,
    "sidemeter_control.metering.meters:MAX_DIGITS": measured,
    "sidemeter_control.metering.meters:MAX_DIMENSIONS": lambda n: meter(dimensions=dimensions(n)),
    "sidemeter_control.metering.meters:MAX_FILTERS": lambda n: meter(filters=[meters.PropertyFilter("p", ("x",))] * n),
    "sidemeter_control.metering.meters:MAX_FILTER_VALUES": lambda n: meter(
        filters=[meters.PropertyFilter("p", not_in=("x",) * n)]
    ),
    "sidemeter_control.metering.meters:MAX_TEXT": lambda n: meter(name=TEXT[:n]),
    "sidemeter_control.metering.windows:MAX_WINDOWS": hours,
    "sidemeter_control.money:MAX_DECIMAL_DIGITS": decimal,
    "sidemeter_control.pricing.charges.parameters:MAX_DIGITS_BEFORE": lambda n: void(
        parameters.bounded("p", Decimal("1" * n))
    ),
    "sidemeter_control.pricing.charges.parameters:MAX_DIGITS_AFTER": lambda n: void(
        parameters.bounded("p", Decimal("0." + "1" * n))
    ),
    "sidemeter_control.pricing.charges.tiers:MAX_TIERS": tiers,
    "sidemeter_control.pricing.charges.matrix:MAX_RATES": lambda n: void(read_rates("rates", [rate({"a": "x"})] * n)),
    "sidemeter_control.pricing.charges.matrix:MAX_MATCHED_KEYS": lambda n: void(
        read_rates("rates", [rate({str(key): "x" for key in range(n)})])
    ),
    "sidemeter_control.pricing.charges.matrix:MAX_MATCHED_VALUES": lambda n: void(
        read_rates("rates", [rate({"a": tuple(map(str, range(n)))})])
    ),
    "sidemeter_control.pricing.charges.bands:MAX_BANDS": bands,
    "sidemeter_control.pricing.charges.modifiers:MAX_DISCOUNTS": lambda n: void(
        read_percentages("discounts", [Decimal(1)] * n)
    ),
    "sidemeter_control.pricing.charges.outcome:MAX_OUTCOME_WINDOW_HOURS": lambda n: void(
        read_outcome("outcome", OutcomeSpec(confirm_type="a", reverse_type="b", window_hours=n))
    ),
    "sidemeter_control.pricing.preview:MAX_PREVIEW_PARTS": lambda n: void(
        preview("EUR", ChargeSpec(key="k", model=PricingModel.DYNAMIC), UsageSpec(events=[Decimal(1)] * n))
    ),
    "sidemeter_control.pricing.plans:MAX_CHARGES": lambda n: a_plan(charges=fees(n)),
    "sidemeter_control.pricing.plans:MAX_ENTITLEMENTS": lambda n: a_plan(entitlements=entitlements(n)),
    "sidemeter_control.pricing.plans:MAX_TRIAL_DAYS": lambda n: a_plan(trial_days=n),
    "sidemeter_control.pricing.plans:MAX_GRACE_DAYS": lambda n: a_plan(entitlements=(grace(n),)),
    "sidemeter_control.pricing.plans:MAX_NAME_CHARS": lambda n: a_plan(name=TEXT[:n]),
    "sidemeter_control.pricing.plans:MAX_VALUE_BYTES": lambda n: a_plan(entitlements=(value(n),)),
    "sidemeter_control.pricing.credits.grants:MAX_TOP_UPS_PER_PERIOD": top_ups,
    "sidemeter_control.pricing.credits.instants:MAX_INSTANTS": changes,
    "sidemeter_control.pricing.customers:MAX_NAME_CHARS": lambda n: customer(name=TEXT[:n]),
    "sidemeter_control.pricing.customers:MAX_SUBJECTS": lambda n: customer(subjects=[f"s{i}" for i in range(n)]),
    "sidemeter_control.pricing.customers:MAX_METADATA_BYTES": lambda n: customer(metadata=TEXT[:n]),
    "sidemeter_control.api.bounds:MAX_PAGE": lambda n: void(bounds.page_size(n)),
}


def void(_: object) -> None:
    """What it came to does not matter, only that it came to something."""


@pytest.mark.parametrize("where", RULES)
def test_a_rule_holds_at_its_number_and_refuses_one_more(where: str) -> None:
    most = value_of(where)
    for number in (most - 1, most):
        RULES[where](number)
    with pytest.raises((InvalidInput, AgentsInvalidInput, AgentsSettingsError)):
        RULES[where](most + 1)


@pytest.mark.parametrize(("more", "whole"), [(-1, True), (0, False)])
async def test_a_page_of_events_behind_a_line_looks_at_no_more_than_its_bound(
    tmp_path: Path, more: int, whole: bool
) -> None:
    async with plane(tmp_path) as opened:
        assert await events_looked_at(opened, MAX_LOOKED_AT + more) is whole


REMEMBERED = {
    quotas: MAX_SETS_REMEMBERED,
    register: REGISTER_REMEMBERS,
    catalogue: CATALOGUE_REMEMBERS,
    given: GIVEN_REMEMBERS,
    books: BOOKS_REMEMBER,
    spending: SPENDING_REMEMBERS,
}


@pytest.mark.parametrize("most", REMEMBERED.values())
def test_what_is_remembered_is_forgotten_when_it_is_too_much(most: int) -> None:
    """MAX_SETS_REMEMBERED, and MAX_CUSTOMERS_REMEMBERED of customers, what they subscribe to and what they are given."""
    assert {module: module._known._most for module in REMEMBERED} == REMEMBERED
    remembered: Remembered[int, int] = Remembered(most)
    for number in range(2 * most + 1):
        known = remembered.at(State("g", 1))
        known[number] = number
        assert len(known) <= most
    assert len(known) == 1


@pytest.mark.parametrize(("more", "status"), [(-1, 0), (0, 503), (1, 503)])
async def test_the_agent_has_only_so_many_requests_at_work(tmp_path: Path, more: int, status: int) -> None:
    """MAX_REQUESTS, held open by callers whose bodies never end."""
    settings = AgentSettings(service="s", data_dir=tmp_path)
    async with Agent(settings) as agent:
        api = Api(agent, settings)
        statuses: list[int] = []

        async def never() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": []}
        waiting = [asyncio.create_task(api(scope, never, send)) for _ in range(MAX_REQUESTS + more + 1)]
        await eventually(lambda: api.at_work == MAX_REQUESTS + min(more + 1, 0) or statuses)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert max(statuses, default=0) == status


async def test_a_transaction_waits_for_its_turn_as_long_as_it_is_told(tmp_path: Path) -> None:
    """MAX_WAIT_S, here a tenth of a second."""
    database = await Database.open(f"sqlite:///{tmp_path}/control.db", 0.1)
    async with database.write():
        with pytest.raises(StoreUnavailable, match="no turn came in time"):
            async with database.write():
                pass
    async with contextlib.AsyncExitStack() as readers:
        for _ in range(READERS):
            await readers.enter_async_context(database.snapshot())
        with pytest.raises(StoreUnavailable, match="no turn came in time"):
            await readers.enter_async_context(database.snapshot())
    async with database.write(), database.snapshot():
        pass
    await database.close()
    assert MAX_WAIT_S > 0.1


@pytest.mark.parametrize("interval", plans.MAX_INTERVAL_COUNT)
def test_an_interval_may_be_as_many_as_its_number(interval: plans.Interval) -> None:
    most = plans.MAX_INTERVAL_COUNT[interval]
    for number in (most - 1, most):
        a_plan(interval=interval, interval_count=number)
    with pytest.raises(InvalidInput, match="intervalCount"):
        a_plan(interval=interval, interval_count=most + 1)


AGENTS = {"Content-Type": "application/msgpack", "Sidemeter-Protocol": "1"}
HELLO = {"agent_id": "a", "hello_id": "h", "boot_id": "b", "service": "s", "version": "1", "previous_epoch": None}


async def tell(opened: Plane, path: str, **message: object) -> httpx.Response:
    return await opened.http.post(f"/agent/v1/{path}", content=msgspec.msgpack.encode(message), headers=AGENTS)


async def losses(opened: Plane, count: int) -> bool:
    loss = {"first_seq": 1, "last_seq": 2, "events": 2, "reason": "x", "noticed_at_us": 0}
    answer = await tell(opened, "hello", **HELLO, losses=[loss | {"id": f"l{n}"} for n in range(count)])
    assert answer.status_code == 200 or (answer.status_code, answer.json()["code"]) == (400, "malformed")
    return answer.status_code == 200


async def subjects(opened: Plane, count: int) -> bool:
    question = {"agent_id": "a", "epoch": 1, "sync_seq": 1, "nonce": None, "seen": None, "leases": [], "backlog": 0}
    asked = [f"s{n}" for n in range(count)]
    answer = await tell(opened, "sync", **question, oldest_pending_us=None, subjects=asked)
    assert answer.status_code == 200 or (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    return answer.status_code == 200


async def leases(opened: Plane, count: int) -> bool:
    question = {"agent_id": "a", "epoch": 1, "subjects": [], "backlog": 0, "hello_id": "h", "sync_id": "s"}
    told = [{"limit": "acme/calls", "period": n} for n in range(count)]
    answer = await tell(opened, "sync", **question, leases=told)
    assert answer.status_code == 200 or (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    return answer.status_code == 200


async def denied(opened: Plane, count: int) -> bool:
    told = [{"limit": f"acme/{n}", "period": 0, "amount": "1"} for n in range(count)]
    answer = await tell(opened, "sync", agent_id="a", epoch=1, subjects=[], backlog=0, denied=told)
    assert answer.status_code == 200 or (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    return answer.status_code == 200


async def batch_of(opened: Plane, count: int) -> bool:
    body = msgspec.msgpack.encode([[f"e{n}", "s", "call", "acme", 0, None] for n in range(count)])
    batch = {"agent_id": "a", "epoch": 1, "batch_no": 1, "prev_digest": bytes(32), "backlog": 0}
    digest = hashlib.sha256(bytes(32) + body).digest()
    await tell(opened, "hello", **HELLO)
    answer = await tell(opened, "batch", **batch, digest=digest, events=msgspec.Raw(body))
    said = msgspec.msgpack.decode(answer.content)
    assert said["status"] == "OK" or (said["status"], said["reason"]) == ("REFUSED", "events: must be at most 5000")
    return said["status"] == "OK"


async def tokens(opened: Plane, count: int) -> bool:
    body = await opened.post("{" + " nothing" * (count - 2) + "}")
    return "more than 2000 tokens" not in str(body["errors"])


async def billing_periods(opened: Plane, count: int) -> bool:
    await opened.make("upsertCustomer", key="acme", currency="EUR")
    fee = {"key": "fee", "model": "FLAT", "amount": "1"}
    await opened.make("publishPlan", key="daily", currency="EUR", interval="DAY", charges=[fee])
    await opened.make("subscribe", customer="acme", plan="daily", startAt="2020-01-01T00:00:00Z")
    first = datetime(2020, 1, 1, tzinfo=UTC)
    asked = {"from": first.isoformat(), "to": (first + timedelta(days=count)).isoformat()}
    query = """query($from: DateTime!, $to: DateTime!) {
      customer(key: "acme") { cost(from: $from, to: $to) { total { amount } } } }"""
    body = await opened.post(query, **asked)
    assert "errors" not in body or "must be within 400 billing periods" in body["errors"][0]["message"]
    return "errors" not in body


async def usage_rows(opened: Plane, starts: list[int]) -> int | None:
    """How many rows a question has once one more group each has a running total from that hour on; None: it is refused.

    A total that stands gives every later hour a row, so that few events make many.
    """
    made = [
        events.Event(f"e{hour}-{n}", "s", "call", "acme", hour * HOUR_US, f'{{"g":"{hour}-{n}","n":1}}')
        for n, hour in enumerate(starts)
    ]
    await Ingest(opened.database, opened.clock).record(made)
    to = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=HOURS_ASKED)
    query = """query($to: DateTime!) {
      usage(meter: "m", from: "1970-01-01T00:00:00Z", to: $to, window: HOUR, groupBy: ["g"]) { events } }"""
    body = await opened.post(query, to=to.isoformat())
    return None if "errors" in body else len(body["data"]["usage"])


HOURS_ASKED = 500


@pytest.mark.no_cover
async def test_an_answer_of_usage_has_only_so_many_rows(tmp_path: Path) -> None:
    assert MAX_ROWS % HOURS_ASKED == 0
    async with plane(tmp_path) as opened:
        groups = [{"key": "g", "property": "g"}]
        of = {"aggregation": "TIME_WEIGHTED", "valueProperty": "n", "groupBy": groups}
        await opened.make("createMeter", key="m", eventType="call", **of)
        whole = MAX_ROWS // HOURS_ASKED
        assert await usage_rows(opened, [0] * (whole - 1) + [1]) == MAX_ROWS - 1
        assert await usage_rows(opened, [HOURS_ASKED - 1]) == MAX_ROWS
        assert await usage_rows(opened, [HOURS_ASKED - 2]) is None


async def events_looked_at(opened: Plane, count: int) -> bool:
    """Whether one look goes through so many events of which the meter counts none."""
    await opened.make("createMeter", key="m", eventType="call", aggregation="SUM", valueProperty="n")
    made = [events.Event(f"e{n}", "s", "call", "acme", n, None) for n in range(count)]
    await Ingest(opened.database, opened.clock).record(made)
    async with opened.database.read() as conn:
        (known,) = await stored_meters.list_all(conn, archived=True)
        found, go_on = await counted_events(conn, known, ["acme"], 0, count, limit=1)
    assert found == []
    return go_on is None


OF_USE = grants.Denomination(grants.CreditUnit.FEATURE, "units")


async def credits_of(opened: Plane, given: int, resets: int) -> None:
    """A customer who was given so many credits, which were reset so often."""
    await opened.make("createMeter", key="units", eventType="use", aggregation="COUNT")
    await opened.make("createFeature", key="units", meter="units")
    await opened.make("upsertCustomer", key="acme")
    spec = grants.GrantSpec(customer="acme", amount=Decimal(1), denomination=OF_USE)
    async with opened.database.write() as conn:
        for number in range(given):
            await stored_credits.add(conn, grants.new_grant(spec, f"g{number}", 0, None))
        for number in range(resets):
            await stored_credits.add_reset(conn, grants.CreditReset("acme", OF_USE, number))


async def granted(opened: Plane, count: int) -> bool:
    await credits_of(opened, count - 1, 0)
    body = await opened.post(
        'mutation { grantCredits(input: {customer: "acme", unit: FEATURE, feature: "units", amount: "1"}) { id } }'
    )
    return "errors" not in body


async def reset(opened: Plane, count: int) -> bool:
    await credits_of(opened, 0, count - 1)
    body = await opened.post(
        'mutation { resetCredits(input: {customer: "acme", unit: FEATURE, feature: "units"}) { balance } }'
    )
    return "errors" not in body


async def key_name(opened: Plane, count: int) -> bool:
    body = await opened.post(f'mutation {{ createApiKey(input: {{name: "{TEXT[:count]}", scopes: [READ]}}) {{ id }} }}')
    return "errors" not in body


DOORS: dict[str, Callable[[Plane, int], Awaitable[bool]]] = {
    "sidemeter_control.api.agent_messages:MAX_LOSSES": losses,
    "sidemeter_control.limits.sync_messages:MAX_SUBJECTS": subjects,
    "sidemeter_control.limits.sync_messages:MAX_LEASES": leases,
    "sidemeter_control.limits.sync_messages:MAX_DENIED": denied,
    "sidemeter_control.metering.pacing:MAX_BATCH_EVENTS": batch_of,
    "sidemeter_control.api.bounds:MAX_TOKENS": tokens,
    "sidemeter_control.api.auth:MAX_NAME": key_name,
    "sidemeter_control.pricing.cost:MAX_BILLING_PERIODS": billing_periods,
    "sidemeter_control.pricing.credits.grants:MAX_GRANTS": granted,
    "sidemeter_control.pricing.credits.grants:MAX_RESETS": reset,
}


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("where", DOORS)
async def test_a_door_takes_as_many_as_its_number_and_refuses_one_more(tmp_path: Path, where: str, more: int) -> None:
    async with plane(tmp_path) as opened:
        assert await DOORS[where](opened, value_of(where) + more) is (more <= 0)
