"""What an agent learns when it asks: the limits of its subjects, and which of its batches their totals contain."""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.entitlements import QuotaAnswer
from sidemeter_control.limits.quotas import feature_meters, quotas_of
from sidemeter_control.metering.batches import Cursor
from sidemeter_control.metering.meters import Meter
from sidemeter_control.money import decimal_text
from sidemeter_control.pricing.plans import EntitlementKind
from sidemeter_control.pricing.register import registered
from sidemeter_control.store import agents, customers, state
from sidemeter_control.store.agents import Agent
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


class SyncStatus(Enum):
    """FENCED: the agent's identity has a newer epoch. UNKNOWN_EPOCH: this database never gave the epoch out."""

    OK = "OK"
    FENCED = "FENCED"
    UNKNOWN_EPOCH = "UNKNOWN_EPOCH"


class SyncQuestion(msgspec.Struct, frozen=True):
    """What an agent asks, and how many events wait with it."""

    agent_id: str
    epoch: int
    subjects: tuple[str, ...]
    backlog: int
    nonce: bytes | None = None
    oldest_pending_us: int | None = None


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
    """One limit of one customer. Quantities are decimal text in the meter's unit; `limit` None is unlimited."""

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


async def sync(database: Database, question: SyncQuestion, now_us: int, next_sync_ms: int) -> SyncAnswer:
    """What is known of those subjects' limits, and a note of what the agent says waits with it.

    InvalidInput when it asks for more than 1,000 subjects.
    """
    if len(question.subjects) > MAX_SUBJECTS:
        raise InvalidInput("subjects", f"must be at most {MAX_SUBJECTS}")
    async with database.snapshot() as snapshot:
        answer = await snapshot.ask(lambda conn: _answer(conn, question, now_us, next_sync_ms))
    if answer.status is SyncStatus.OK:
        async with database.write() as conn:
            await agents.report(
                conn,
                question.agent_id,
                backlog=question.backlog,
                oldest_pending_us=question.oldest_pending_us,
                now_us=now_us,
            )
    return answer


async def _answer(conn: AsyncConnection, question: SyncQuestion, now_us: int, next_sync_ms: int) -> SyncAnswer:
    known = await state.get(conn)
    cursor = await agents.cursor(conn, question.agent_id, question.epoch)
    agent = await agents.get(conn, question.agent_id)
    answer = SyncAnswer(
        status=_status(cursor, agent),
        nonce=question.nonce,
        generation=known.generation,
        state_version=known.config_version,
        as_of_us=now_us,
        counted_batch_no=cursor.next_batch_no - 1 if cursor else 0,
        next_sync_ms=next_sync_ms,
    )
    if answer.status is not SyncStatus.OK:
        return answer
    owners = await customers.owners(conn, question.subjects)
    limits = await _limits(conn, set(owners.values()), known.config_version, now_us)
    ids = {key: [limit.id for limit in own] for key, own in limits.items()}
    return msgspec.structs.replace(
        answer,
        subjects={subject: ids[owners[subject]] if subject in owners else [] for subject in question.subjects},
        limits=[limit for own in limits.values() for limit in own],
    )


def _status(cursor: Cursor | None, agent: Agent | None) -> SyncStatus:
    if cursor is None or agent is None:
        return SyncStatus.UNKNOWN_EPOCH
    return SyncStatus.OK if cursor.epoch == agent.epoch else SyncStatus.FENCED


async def _limits(
    conn: AsyncConnection, keys: Collection[str], policy_version: int, now_us: int
) -> Mapping[str, Sequence[LimitState]]:
    found = await registered(conn, sorted(keys))
    answers = await quotas_of(conn, found.values(), now_us)
    taken = await feature_meters(conn, {quota.feature for own in answers.values() for quota in own})
    return {
        key: [_limit(key, quota, taken.get(quota.feature), policy_version) for quota in own]
        for key, own in answers.items()
    }


def _limit(customer: str, quota: QuotaAnswer, meter: Meter | None, policy_version: int) -> LimitState:
    counted = quota.kind is EntitlementKind.METERED
    return LimitState(
        id=f"{customer}/{quota.feature}",
        customer=customer,
        feature=quota.feature,
        kind=quota.kind.value,
        enforcement=quota.enforcement.value,
        value=quota.value,
        limit=None if quota.limit is None else decimal_text(quota.limit),
        used=None if quota.used is None else decimal_text(quota.used),
        meter=_meter(meter) if counted and meter else None,
        period_start_us=quota.period_start_us,
        resets_at_us=quota.resets_at_us,
        policy_version=policy_version,
    )


def _meter(meter: Meter) -> LimitMeter:
    rules = [PropertyRule(each.property, each.is_in, each.not_in) for each in meter.filters]
    return LimitMeter(meter.event_type, meter.aggregation.value, meter.value_property, rules)
