"""The worked examples of burning credits down hold through GraphQL, too: grants, real events, `credits(at)`.

One control plane; each case is a customer of its own, and the clock stands where the case's story is.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from credit_vectors import Case, Found, cases, check, grant, interval, overdraw
from planes import Plane, call, plane

from sidemeter_control.api.scalars import instant_text
from sidemeter_control.metering.events import parse_time
from sidemeter_control.pricing.credits.instants import Grant, Overdraw
from sidemeter_control.pricing.periods import Interval

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_PLACE = {
    "start_at": "credits are measured from the first grant on, or from a reset: it is made at start_at, or, where grants"
    " are older than that, what was used before is not sent",
    "starting_balances": "a history begins with whole grants: one is given of what is left, unless it recurs",
    "deleted_at": "nothing is deleted: a grant is voided at the earlier of the two",
    "reject": "what has been used is counted, and a hard quota refuses before: overage is what would have been refused",
    "negative": "a balance never shows less than nothing: the overage is what it would be below",
    "rate": "credits are money or units themselves: the case's rate is applied to what was answered",
    "amount_precision": "goes with the rate",
    "conversion": "credits are money or units themselves: there is nothing to convert",
    "refused": "a grant of nothing, one that ends before it begins, and one that has expired when it is made are refused",
    "recurrence": "recurs every day, week, month, quarter or year, and not every so many of them or more often",
}
"""What cases have and the product has no place for, and what is done about it. Nothing else is left out."""

STEPS = {(Interval.MONTH, 3): "QUARTER", (Interval.MONTH, 12): "YEAR"}
BALANCE = """
query($customer: ID!, $at: DateTime, $unit: CreditUnit, $feature: ID) {
  customer(key: $customer) {
    credits(at: $at, unit: $unit, feature: $feature) {
      balance overage used grants { id balance } allocations { grant amount }
    }
  }
}
"""
VOID = 'mutation($id: ID!) { voidCredits(grant: $id, reason: "as told") { id } }'
INGEST = "mutation($events: [EventInput!]!) { ingest(events: $events) { accepted rejected { message } } }"
ENCODER = msgspec.json.Encoder(decimal_format="number")
UNITS = {"unit": "FEATURE", "feature": "units"}
MONEY = {"unit": "MONEY"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with plane(tmp_path_factory.mktemp("credits")) as opened:
        await opened.make("createMeter", key="units", eventType="use", aggregation="SUM", valueProperty="units")
        await opened.make("createFeature", key="units", meter="units")
        yield opened


@pytest.mark.parametrize("case", cases())
async def test_credits_burn_as_asserted(control: Plane, case: Case) -> None:
    await KINDS[case.get("kind", "balance")](control, case)


async def balance(control: Plane, case: Case) -> None:
    customer, start_us = case["id"], parse_time(case["start_at"])
    await control.make("upsertCustomer", key=customer)
    grants, starting = [grant(each, start_us) for each in case["grants"]], case.get("starting_balances") or {}
    if not any(each.effective_at_us < start_us for each in grants):
        await control.make("resetCredits", customer=customer, **UNITS, at=case["start_at"])
    for text in case["resets"]:
        preserve = bool(case.get("preserve_overage"))
        await control.make("resetCredits", customer=customer, **UNITS, at=text, preserveOverage=preserve)
    amounts = {key: Decimal(amount) for key, amount in starting.items()}
    if any(each.recurrence and amounts.get(each.id, each.amount) != each.amount for each in grants):
        pytest.skip(NO_PLACE["starting_balances"])
    ids = await give(control, case, grants, UNITS, amounts)
    control.clock.set_wall(parse_time(case["query_at"]))
    await use(control, customer, [each for each in case["usage"] if parse_time(each["at"]) >= start_us])
    check(case, found(await stands(control, customer, case["query_at"], UNITS), ids, case))


async def active(control: Plane, case: Case) -> None:
    """Active where it has its amount left, because nothing is used."""
    (one,), expected = [grant(each) for each in case["grants"]], case["expected"]
    await control.make("upsertCustomer", key=case["id"])
    await give(control, case, [one], UNITS)

    async def full(at_us: int) -> bool:
        return Decimal((await stands(control, case["id"], instant_text(at_us), UNITS))["balance"]) == one.amount

    if "active" in expected:
        assert await full(parse_time(case["query_at"])) is expected["active"]
    start_us, end_us = (
        parse_time(expected[key]) if expected.get(key) else None for key in ("active_from", "active_to")
    )
    if start_us is not None:
        assert not await full(start_us - 1)
        assert await full(start_us) is (start_us != end_us)
    if end_us is not None:
        assert await full(end_us - 1) is (start_us != end_us)
        assert not await full(end_us)
    assert set(expected) <= {"active", "active_from", "active_to"}


async def order(control: Plane, case: Case) -> None:
    await control.make("upsertCustomer", key=case["id"])
    ids = await give(control, case, [grant(each) for each in case["grants"]], UNITS)
    given = await stands(control, case["id"], None, UNITS)
    assert [ids[each["id"]] for each in given["grants"]] == case["expected"]["order"]


async def allocate(control: Plane, case: Case) -> None:
    """Lines of an invoice are charges, one for each scope, of a meter of its own at a price of 1."""
    start_us = parse_time("2024-06-10T00:00:00Z")
    scopes = list(dict.fromkeys(frozenset(each.get("scope") or ()) for each in case["usage"]))
    names = {scope: f"line-{number}" for number, scope in enumerate(scopes)}
    await control.make("upsertCustomer", key=case["id"], currency="USD")
    charges = [await priced(control, case["id"], name) for name in names.values()]
    control.clock.set_wall(start_us)
    await control.make("publishPlan", key=case["id"], currency="USD", charges=charges)
    await control.make("subscribe", customer=case["id"], plan=case["id"])
    ids = await give(control, case, [grant(each, start_us) for each in case["grants"]], MONEY, names=names)
    control.clock.set_wall(start_us + 3_600_000_000)
    for line in case["usage"]:
        event_type = f"{case['id']}.{names[frozenset(line.get('scope') or ())]}"
        await use(control, case["id"], [{"at": instant_text(start_us), **line}], event_type)
    at = instant_text(control.clock.now_us())
    check(case, found(await stands(control, case["id"], at, MONEY), ids, case))


async def conversion(control: Plane, case: Case) -> None:
    pytest.skip(NO_PLACE["conversion"])


KINDS = {"balance": balance, "active": active, "order": order, "allocate": allocate, "conversion": conversion}


async def priced(control: Plane, prefix: str, name: str) -> dict[str, object]:
    meter = f"{prefix}.{name}"
    await control.make("createMeter", key=meter, eventType=meter, aggregation="SUM", valueProperty="units")
    return {"key": name, "meter": meter, "model": "PER_UNIT", "unitPrice": "1"}


async def give(
    control: Plane,
    case: Case,
    grants: Sequence[Grant],
    kind: dict[str, str],
    amounts: dict[str, Decimal] | None = None,
    names: Mapping[frozenset[str], str] | None = None,
) -> dict[str, str]:
    """Give the grants in the order in which they were made; answers the case's name of each id."""
    ids = {}
    earliest_us = min((each.effective_at_us for each in grants), default=0) - 1_000_000
    told = {each["id"]: each for each in case["grants"]}
    for each in sorted(grants, key=lambda grant: (grant.created_at_us, grant.id)):
        control.clock.set_wall(each.created_at_us or earliest_us)
        fields = {
            "customer": case["id"],
            **kind,
            "amount": str((amounts or {}).get(each.id, each.amount)),
            "priority": each.priority,
            "effectiveAt": instant_text(each.effective_at_us),
            "expiresAt": None if each.expires_at_us is None else instant_text(each.expires_at_us),
            "purchased": each.purchased,
            "rolloverMax": str(each.rollover_max),
            "rolloverMin": str(each.rollover_min),
            "charges": scoped(each, names or {}),
            "idempotencyKey": each.id,
            **recurring(told[each.id]),
        }
        if refused(each, Decimal(str(fields["amount"])), control.clock.now_us()):
            error = await control.refusal(call("grantCredits", "id"), input=fields)
            assert error["extensions"]["code"] == "INVALID_INPUT"
            continue
        made = await control.make("grantCredits", "id", **fields)
        ids[made["id"]] = each.id
        ends = [end for end in (each.voided_at_us, each.deleted_at_us) if end is not None]
        if ends:
            control.clock.set_wall(min(ends))
            await control.ask(VOID, id=made["id"])
    return ids


def refused(each: Grant, amount: Decimal, now_us: int) -> bool:
    """Whether the product has no such grant; it would be worth nothing."""
    return amount <= 0 or (each.expires_at_us is not None and each.expires_at_us <= max(each.effective_at_us, now_us))


def scoped(each: Grant, names: Mapping[frozenset[str], str]) -> list[str] | None:
    if each.scope is None:
        return None
    return [name for scope, name in names.items() if each.may_pay(scope)] or ["no-line-here"]


def recurring(told: Case) -> dict[str, object]:
    if told.get("recurrence") is None:
        return {}
    try:
        step = interval(told["recurrence"]["interval"])
    except KeyError:
        pytest.skip(NO_PLACE["recurrence"])
    name = step[0].value if step[1] == 1 else STEPS.get(step)
    if name is None:
        pytest.skip(NO_PLACE["recurrence"])
    return {"recurrence": name, "recurrenceAnchor": told["recurrence"].get("anchor")}


async def use(control: Plane, customer: str, used: Sequence[Case], event_type: str = "use") -> None:
    """Send each use as an event, its number digit for digit."""
    events = [
        {
            "id": control.clock.new_id("event"),
            "type": event_type,
            "subject": customer,
            "time": each["at"],
            "data": {"units": Decimal(each["amount"])},
        }
        for each in used
    ]
    if events:
        body = ENCODER.encode({"query": INGEST, "variables": {"events": events}})
        answer = await control.http.post("/graphql", content=body, headers={"Content-Type": "application/json"})
        assert answer.json() == {"data": {"ingest": {"accepted": len(events), "rejected": []}}}


async def stands(control: Plane, customer: str, at: str | None, kind: dict[str, str]) -> dict[str, Any]:
    return (await control.ask(BALANCE, customer=customer, at=at, **kind))["customer"]["credits"]


def found(answer: dict[str, Any], ids: dict[str, str], case: Case) -> Found:
    policy, nothing = overdraw(case), {each["id"]: Decimal(0) for each in case["grants"]}
    applied: dict[str, Decimal] = {}
    for each in answer["allocations"]:
        applied[ids[each["grant"]]] = applied.get(ids[each["grant"]], Decimal(0)) + Decimal(each["amount"])
    over, left = Decimal(answer["overage"]), Decimal(answer["balance"])
    return Found(
        balance=left - over if policy is Overdraw.NEGATIVE else left,
        overage=Decimal(0) if policy is Overdraw.NEGATIVE else over,
        used=Decimal(answer["used"]),
        per_grant=nothing | {ids[each["id"]]: Decimal(each["balance"]) for each in answer["grants"]},
        applied=applied,
        rejected=policy is Overdraw.REJECT and over > 0,
    )
