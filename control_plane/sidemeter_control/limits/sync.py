"""What an agent learns when it asks: the limits of its subjects, and which of its batches their totals contain."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.budgets import BudgetAnswer
from sidemeter_control.limits.entitlements import QuotaAnswer
from sidemeter_control.limits.quotas import feature_meters, quotas_of
from sidemeter_control.limits.spending import enforced
from sidemeter_control.metering.identity import NONCE_BYTES, Claim, SyncStatus, decide_sync
from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.rollbacks import Rollbacks
from sidemeter_control.money import decimal_text
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind
from sidemeter_control.pricing.register import registered
from sidemeter_control.store import agents, customers, state
from sidemeter_control.store.database import Database

__all__ = [
    "MAX_SUBJECTS",
    "LimitMeter",
    "LimitState",
    "PropertyRule",
    "SyncAnswer",
    "SyncQuestion",
    "SyncStatus",
    "sync",
]

MAX_SUBJECTS = 1_000
"""That one question may ask for; an agent with more asks in turns."""


_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Seen(msgspec.Struct, frozen=True):
    """The state that an agent saw last."""

    generation: _Short
    state_version: int


class SyncQuestion(msgspec.Struct, frozen=True):
    """What an agent asks, how many events wait with it, and what shows that it is the one that was answered before."""

    agent_id: str
    epoch: int
    subjects: tuple[str, ...]
    backlog: int
    nonce: Annotated[bytes, msgspec.Meta(max_length=NONCE_BYTES)] | None = None
    oldest_pending_us: int | None = None
    seen: Seen | None = None
    sync_id: _Short | None = None
    settled_batch_no: int = 0


class PropertyRule(msgspec.Struct, frozen=True, rename={"is_in": "in"}):
    """A meter's filter, as agents apply it."""

    property: str
    is_in: Sequence[str] | None
    not_in: Sequence[str] | None


class LimitMeter(msgspec.Struct, frozen=True):
    """Which events count toward a limit, and what of them."""

    event_type: str
    aggregation: str
    value_property: str | None
    filters: Sequence[PropertyRule]


class LimitState(msgspec.Struct, frozen=True):
    """One limit of one customer. Quantities are decimal text in the meter's unit; `limit` None is unlimited.

    Of a HARD limit it is the quantity at which usage stops: overage that is allowed is in it, and while a grace lets
    usage run on without end it is None. An agent that is cut off goes on with what it heard last.
    """

    id: str
    customer: str
    feature: str
    kind: str
    enforcement: str
    value: str | None
    limit: str | None
    used: str | None
    meter: LimitMeter | None
    period_start_us: int | None
    resets_at_us: int | None
    policy_version: int


class SyncAnswer(msgspec.Struct, frozen=True):
    """All of one snapshot: `used` contains the agent's batches up to `counted_batch_no`, and no later one.

    `subjects` names the limits of every subject asked for; none: nothing is granted to it.
    """

    status: SyncStatus
    nonce: bytes | None
    generation: str
    state_version: int
    as_of_us: int
    counted_batch_no: int
    next_sync_ms: int
    subjects: Mapping[str, Sequence[str]] = {}
    limits: Sequence[LimitState] = ()
    grants: tuple[()] = ()
    recalls: tuple[()] = ()


async def sync(
    database: Database, rollbacks: Rollbacks, question: SyncQuestion, now_us: int, next_sync_ms: int
) -> SyncAnswer:
    """What is known of those subjects' limits, and a note of what the agent says waits with it.

    The nonce of the answer is stored before it is given. InvalidInput for more than 1,000 subjects.
    """
    if len(question.subjects) > MAX_SUBJECTS:
        raise InvalidInput("subjects", f"must be at most {MAX_SUBJECTS}")
    async with database.write() as conn:
        answer = await _admit(conn, rollbacks, question, now_us, next_sync_ms)
    if answer.status is not SyncStatus.OK:
        return answer
    async with database.snapshot() as snapshot:
        return await snapshot.ask(lambda conn: _informed(conn, question, answer))


async def _admit(
    conn: AsyncConnection, rollbacks: Rollbacks, question: SyncQuestion, now_us: int, next_sync_ms: int
) -> SyncAnswer:
    """The answer without limits; one that is OK has been noted."""
    known = await state.get(conn)
    generation = known.generation
    agent = await agents.get(conn, question.agent_id)
    cursor = await agents.cursor(conn, question.agent_id, question.epoch)
    decided = decide_sync(
        None if agent is None else agent.epoch,
        await agents.nonces(conn, question.agent_id, question.epoch),
        _claim(question),
        generation=generation,
        state_version=known.config_version,
        counted_batch_no=0 if cursor is None else cursor.next_batch_no - 1,
    )
    if decided.rolled_back:
        generation = await rollbacks.notice(conn, question.agent_id)
    if decided.status is SyncStatus.OK:
        await agents.keep_nonces(conn, question.agent_id, question.epoch, decided.nonces)
        await agents.report(
            conn,
            question.agent_id,
            backlog=question.backlog,
            oldest_pending_us=question.oldest_pending_us,
            now_us=now_us,
        )
    return SyncAnswer(
        status=decided.status,
        nonce=question.nonce if question.sync_id is None else decided.nonces.current,
        generation=generation,
        state_version=known.config_version,
        as_of_us=now_us,
        counted_batch_no=0,
        next_sync_ms=next_sync_ms,
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
    cursor = await agents.cursor(conn, question.agent_id, question.epoch)
    owners = await customers.owners(conn, question.subjects)
    limits = await _limits(conn, set(owners.values()), known.config_version, answer.as_of_us)
    ids = {key: [limit.id for limit in own] for key, own in limits.items()}
    return msgspec.structs.replace(
        answer,
        generation=known.generation,
        state_version=known.config_version,
        counted_batch_no=cursor.next_batch_no - 1 if cursor else 0,
        subjects={subject: ids[owners[subject]] if subject in owners else [] for subject in question.subjects},
        limits=[limit for own in limits.values() for limit in own],
    )


async def _limits(
    conn: AsyncConnection, keys: Collection[str], policy_version: int, now_us: int
) -> Mapping[str, Sequence[LimitState]]:
    found = await registered(conn, sorted(keys))
    answers = await quotas_of(conn, found.values(), now_us)
    taken = await feature_meters(conn, {quota.feature for own in answers.values() for quota in own})
    budgets = await enforced(conn, found.values(), now_us)
    return {
        key: [
            *(_limit(key, quota, taken.get(quota.feature), policy_version) for quota in own),
            *(_budget_limit(spent, meter, policy_version) for spent, meter in budgets[key]),
        ]
        for key, own in answers.items()
    }


def _limit(customer: str, quota: QuotaAnswer, meter: Meter | None, policy_version: int) -> LimitState:
    counted = quota.kind is EntitlementKind.METERED
    limit = quota.ceiling if quota.enforcement is Enforcement.HARD else quota.limit
    return LimitState(
        id=f"{customer}/{quota.feature}",
        customer=customer,
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
    )


def _budget_limit(spent: BudgetAnswer, meter: Meter, policy_version: int) -> LimitState:
    """The limit that a HARD budget is. Neither its id can be that of a quota, which has a slash, nor its feature one."""
    budget = spent.budget
    return LimitState(
        id=f"budget:{budget.key}",
        customer=budget.customer_key,
        feature=f"budget/{budget.key}",
        kind=EntitlementKind.METERED.value,
        enforcement=budget.enforcement.value,
        value=None,
        limit=decimal_text(budget.amount),
        used=decimal_text(spent.spent),
        meter=_meter(meter, budget.slice),
        period_start_us=spent.period_start_us,
        resets_at_us=spent.resets_at_us,
        policy_version=policy_version,
    )


def _meter(meter: Meter, sliced: Sequence[tuple[str, str]] = ()) -> LimitMeter:
    rules = [PropertyRule(each.property, each.is_in, each.not_in) for each in meter.filters]
    properties = {each.key: each.property for each in meter.dimensions}
    rules += [PropertyRule(properties[key], (value,), None) for key, value in sliced]
    return LimitMeter(meter.event_type, meter.aggregation.value, meter.value_property, rules)
