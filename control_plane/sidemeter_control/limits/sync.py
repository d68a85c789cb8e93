"""What an agent learns when it asks: the limits of its subjects, which of its batches their totals contain, and its leases."""

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.entitlements import QuotaAnswer
from sidemeter_control.limits.leases import Report, Sync
from sidemeter_control.limits.leasing import (
    heard_without,
    is_taken,
    take_leases,
)
from sidemeter_control.limits.prepaid import Prepaid, prepaid
from sidemeter_control.limits.quotas import feature_meters, quotas_of
from sidemeter_control.limits.recovery import HolderId
from sidemeter_control.limits.shared import Shared, of_budget, of_credits, of_quota, period_of, shared_limits
from sidemeter_control.limits.spending import Enforced, enforced
from sidemeter_control.limits.sync_messages import (
    MAX_DENIED,
    MAX_LEASES,
    MAX_SUBJECTS,
    Grant,
    LimitMeter,
    LimitState,
    PriceCap,
    PropertyRule,
    Seen,
    SyncAnswer,
    SyncQuestion,
)
from sidemeter_control.limits.units import LEASED, Slice, limit_id, pool_id
from sidemeter_control.metering import holders
from sidemeter_control.metering.identity import Claim, SyncStatus, decide_sync
from sidemeter_control.metering.meters import Aggregation, Meter
from sidemeter_control.metering.rollbacks import Rollbacks
from sidemeter_control.money import decimal_text
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind
from sidemeter_control.pricing.price_caps import MeterCap
from sidemeter_control.pricing.register import registered
from sidemeter_control.store import agents, customers, leases, state
from sidemeter_control.store.database import Database
from sidemeter_control.store.state import State
from sidemeter_control.store.witness import Statement

__all__ = ["Seen", "SyncAnswer", "SyncQuestion", "SyncStatus", "sync"]

LONGEST_MS = 60_000
"""Between two syncs, where nothing asks for more."""

_grant = attrgetter(*Grant.__struct_fields__)
_report = attrgetter(*Report.__dataclass_fields__)


async def sync(
    database: Database, rollbacks: Rollbacks, question: SyncQuestion, now_us: int, next_sync_ms: int
) -> SyncAnswer:
    """What is known of those subjects' limits, and a note of what the agent says waits with it.

    The nonce of the answer, and what it grants, are stored before it is given. InvalidInput for more than 1,000 subjects,
    leases or limits that refused something, a lease twice, or leases without a `sync_id`.
    """
    _check(question)
    known, shared = await _shared_before(database, question, now_us)
    async with database.write() as conn:
        if known is not None and _is_outdated(known, now := await state.get(conn), shared):
            shared = await shared_limits(conn, _limits_told(question), now.instant(now_us))
        answer, said = await _admit(conn, rollbacks, question, shared, now_us)
    if said is not None:
        await database.witness.keep(said)
    answer = msgspec.structs.replace(answer, next_sync_ms=min(answer.next_sync_ms, next_sync_ms))
    if answer.status not in {SyncStatus.OK, SyncStatus.RECOVERING}:
        return answer
    async with database.snapshot() as snapshot:
        return await snapshot.ask(lambda conn: _informed(conn, question, answer))


def _is_outdated(known: State, now: State, shared: Mapping[str, Shared]) -> bool:
    """Whether a limit was changed meanwhile; or, of one in money, whether anybody may have settled what was counted since:
    then the bill must not be older than that."""
    in_money = any(each.meter is None for each in shared.values())
    return known != now or (in_money and known.lease_version != now.lease_version)


def _check(question: SyncQuestion) -> None:
    if len(question.subjects) > MAX_SUBJECTS:
        raise InvalidInput("subjects", f"must be at most {MAX_SUBJECTS}")
    if len(question.leases) > MAX_LEASES:
        raise InvalidInput("leases", f"must be at most {MAX_LEASES}")
    if len(question.denied) > MAX_DENIED:
        raise InvalidInput("denied", f"must be at most {MAX_DENIED}")
    if len({(each.limit, each.period) for each in question.leases}) < len(question.leases):
        raise InvalidInput("leases", "must not name a lease twice")
    if question.hello_id is not None and question.sync_id is None:
        raise InvalidInput("sync_id", "must be given with hello_id")


async def _shared_before(
    database: Database, question: SyncQuestion, now_us: int
) -> tuple[State | None, Mapping[str, Shared]]:
    """The limits of its leases, read beside the one writer, which has better things to do; and of which state they are."""
    if question.hello_id is None or not question.leases:
        return None, {}
    async with database.snapshot() as snapshot:
        known = await snapshot.ask(state.get)
        at_us = known.instant(now_us)
        return known, await snapshot.ask(lambda conn: shared_limits(conn, _limits_told(question), at_us))


def _limits_told(question: SyncQuestion) -> Collection[str]:
    return {each.limit for each in question.leases}


async def _admit(
    conn: AsyncConnection,
    rollbacks: Rollbacks,
    question: SyncQuestion,
    shared: Mapping[str, Shared],
    now_us: int,
) -> tuple[SyncAnswer, Statement | None]:
    """The answer without limits, and what is to be witnessed before it is given."""
    told = question.leases if question.hello_id is not None else ()
    grants: Sequence[Grant] = ()
    holder = None if question.hello_id is None else (question.agent_id, question.hello_id)
    if holder is not None and await is_taken(conn, holder, has_leases=bool(told)):
        sync_ = _as_sync(question, holder)
        lacks = question.settled_batch_no > await _counted_batch_no(conn, question)
        taken = await take_leases(conn, rollbacks, sync_, shared, now_us, lacks_batches=lacks)
        status, nonce = SyncStatus(taken.status), taken.nonces.current
        next_sync_ms, grants = taken.next_sync_ms, [Grant(*_grant(each)) for each in taken.grants]
    else:
        status, nonce = await _without_leases(conn, rollbacks, question, now_us)
        next_sync_ms = LONGEST_MS
    if status in {SyncStatus.OK, SyncStatus.RECOVERING}:
        await agents.report(
            conn,
            question.agent_id,
            backlog=question.backlog,
            oldest_pending_us=question.oldest_pending_us,
            now_us=now_us,
        )
    known = await state.get(conn)
    answer = SyncAnswer(
        status=status,
        nonce=nonce,
        generation=known.generation,
        state_version=known.version,
        as_of_us=now_us,
        counted_batch_no=0,
        next_sync_ms=next_sync_ms,
        sync_id=question.sync_id or "",
        grants=grants,
    )
    return answer, await holders.witnessed(conn, rollbacks.witness) if known.lease_version else None


async def _without_leases(
    conn: AsyncConnection, rollbacks: Rollbacks, question: SyncQuestion, now_us: int
) -> tuple[SyncStatus, bytes | None]:
    """What it is answered, and the nonce that the next one brings."""
    known = await state.get(conn)
    agent = await agents.get(conn, question.agent_id)
    decided = decide_sync(
        None if agent is None else agent.epoch,
        await agents.nonces(conn, question.agent_id, question.epoch),
        _claim(question),
        generation=known.generation,
        state_version=known.version,
        counted_batch_no=await _counted_batch_no(conn, question),
    )
    if decided.rolled_back:
        await rollbacks.notice(conn, question.agent_id)
    if decided.status is SyncStatus.OK:
        await agents.keep_nonces(conn, question.agent_id, question.epoch, decided.nonces)
        if question.hello_id is None:
            await heard_without(conn, question.agent_id, question.epoch, now_us)
    return decided.status, question.nonce if question.sync_id is None else decided.nonces.current


async def _counted_batch_no(conn: AsyncConnection, question: SyncQuestion) -> int:
    cursor = await agents.cursor(conn, question.agent_id, question.epoch)
    return cursor.next_batch_no - 1 if cursor else 0


def _as_sync(question: SyncQuestion, holder: HolderId) -> Sync:
    seen = question.seen
    return Sync(
        holder,
        question.epoch,
        question.sync_id or "",
        question.nonce,
        "" if seen is None else seen.generation,
        0 if seen is None else seen.state_version,
        tuple(Report(*_report(each)) for each in question.leases),
        question.complete,
    )


def _claim(question: SyncQuestion) -> Claim:
    seen = question.seen
    return Claim(
        epoch=question.epoch,
        nonce=question.nonce,
        sync_id=question.sync_id,
        generation=None if seen is None else seen.generation,
        state_version=None if seen is None else seen.state_version,
        settled_batch_no=question.settled_batch_no,
    )


async def _informed(conn: AsyncConnection, question: SyncQuestion, answer: SyncAnswer) -> SyncAnswer:
    """The answer with limits, their totals, and the last batch that these contain: all of one snapshot."""
    known = await state.get(conn)
    owners = await customers.owners(conn, question.subjects)
    keys, prices = set(owners.values()), question.knows_prices
    at_us = known.instant(answer.as_of_us)
    limits = await _limits(conn, keys, known.config_version, at_us, knows_prices=prices)
    ids = {key: [limit.id for limit in own] for key, own in limits.items()}
    return msgspec.structs.replace(
        answer,
        generation=known.generation,
        state_version=known.version,
        counted_batch_no=await _counted_batch_no(conn, question),
        subjects={subject: ids[owners[subject]] if subject in owners else [] for subject in question.subjects},
        limits=[limit for own in limits.values() for limit in own],
    )


async def _limits(
    conn: AsyncConnection, keys: Collection[str], policy_version: int, now_us: int, *, knows_prices: bool
) -> Mapping[str, Sequence[LimitState]]:
    found = await registered(conn, sorted(keys))
    answers = await quotas_of(conn, found.values(), now_us)
    taken = await feature_meters(conn, {quota.feature for own in answers.values() for quota in own})
    budgets = await enforced(conn, found.values(), now_us)
    covered = await prepaid(conn, found.values(), now_us)
    told = {
        key: [
            *(_limit(found[key], quota, taken.get(quota.feature), policy_version) for quota in own),
            *(
                limit
                for each in budgets[key]
                for limit in _budget_limits(found[key], each, policy_version, knows_prices=knows_prices)
            ),
            *(
                limit
                for each in ([covered[key]] if key in covered else ())
                for limit in _credit_limits(found[key], each, policy_version, knows_prices=knows_prices)
            ),
        ]
        for key, own in answers.items()
    }
    return await _as_pooled(conn, told)


async def _as_pooled(
    conn: AsyncConnection, told: Mapping[str, Sequence[LimitState]]
) -> Mapping[str, Sequence[LimitState]]:
    """The same, with the scales that their pools have, where there are any: a limit that is raised keeps its own."""
    ids = [pool_id((each.id, each.period)) for own in told.values() for each in own if each.scale is not None]
    if not ids or not (await state.get(conn)).lease_version:
        return told
    made = await leases.pools(conn, ids)

    def pooled(limit: LimitState) -> LimitState:
        pool = None if limit.scale is None else made.get(pool_id((limit.id, limit.period)))
        return limit if pool is None else msgspec.structs.replace(limit, scale=pool.scale)

    return {key: list(map(pooled, own)) for key, own in told.items()}


def _limit(customer: Customer, quota: QuotaAnswer, meter: Meter | None, policy_version: int) -> LimitState:
    counted = quota.kind is EntitlementKind.METERED
    limit = quota.ceiling if quota.enforcement is Enforcement.HARD else quota.limit
    shared = of_quota(customer, quota, meter)
    return LimitState(
        id=limit_id(customer.key, quota.feature),
        customer=customer.key,
        feature=quota.feature,
        kind=quota.kind.value,
        enforcement=quota.enforcement.value,
        value=quota.value,
        limit=None if limit is None else decimal_text(limit),
        used=None if quota.used is None else decimal_text(quota.used),
        meter=_meter(meter) if counted and meter else None,
        period_start_us=quota.period_start_us,
        resets_at_us=quota.resets_at_us,
        policy_version=policy_version,
        period=period_of(quota),
        scale=None if shared is None else shared.scale,
    )


def _budget_limits(
    customer: Customer, enforced_: Enforced, policy_version: int, *, knows_prices: bool
) -> Sequence[LimitState]:
    """The limit that a HARD budget is. Its feature is none that there can be: it has a slash."""
    answer, budget = enforced_.answer, enforced_.answer.budget
    shared = of_budget(customer, enforced_)
    caps = () if enforced_.caps is None else enforced_.caps.meters
    limit = LimitState(
        id=budget.limit_id,
        customer=customer.key,
        feature=f"budget/{budget.key}",
        kind=EntitlementKind.METERED.value,
        enforcement=budget.enforcement.value,
        value=None,
        limit=decimal_text(budget.amount),
        used=decimal_text(answer.spent),
        meter=None if enforced_.meter is None else _meter(enforced_.meter, budget.slice),
        period_start_us=answer.period_start_us,
        resets_at_us=answer.resets_at_us,
        policy_version=policy_version,
        period=period_of(answer),
        scale=None if shared is None else shared.scale,
        prices=tuple(_price_cap(each, budget.slice) for each in caps),
    )
    return [limit] if enforced_.caps is None or knows_prices else _without_prices(limit)


def _credit_limits(
    customer: Customer, covered: Prepaid, policy_version: int, *, knows_prices: bool
) -> Sequence[LimitState]:
    """The limit that the credits of a prepaid customer are; `limit` is what they cover of the billing period."""
    shared = of_credits(customer, covered)
    limit = LimitState(
        id=shared.limit,
        customer=customer.key,
        feature="credits/money",
        kind=EntitlementKind.METERED.value,
        enforcement=Enforcement.HARD.value,
        value=None,
        limit=decimal_text(covered.covers),
        used=decimal_text(covered.owed),
        meter=None,
        period_start_us=None,
        resets_at_us=None,
        policy_version=policy_version,
        period=shared.id[2],
        scale=shared.scale,
        prices=tuple(_price_cap(each) for each in covered.caps.meters),
    )
    return [limit] if knows_prices else _without_prices(limit)


def _price_cap(cap: MeterCap, sliced: Slice = ()) -> PriceCap:
    meter = _meter(cap.meter, sliced)
    if cap.meter.aggregation not in LEASED:  # of unique values an event adds one at most
        meter = LimitMeter(meter.event_type, Aggregation.COUNT.value, None, meter.filters)
    return PriceCap(meter, decimal_text(cap.per_unit), decimal_text(cap.per_event))


def _without_prices(limit: LimitState) -> Sequence[LimitState]:
    """A limit in money for an agent that cannot count it: whatever costs something is beyond it."""
    return [
        msgspec.structs.replace(
            limit,
            id=f"{limit.id}#{index}",
            feature=f"{limit.feature}/{index}",
            limit="0",
            used="1",
            meter=cap.meter,
            scale=None,
            prices=(),
        )
        for index, cap in enumerate(limit.prices)
    ]


def _meter(meter: Meter, sliced: Slice = ()) -> LimitMeter:
    rules = [PropertyRule(each.property, each.is_in, each.not_in) for each in meter.filters]
    properties = {each.key: each.property for each in meter.dimensions}
    rules += [PropertyRule(properties[key], (value,), None) for key, value in sliced]
    return LimitMeter(meter.event_type, meter.aggregation.value, meter.value_property, rules)
