"""Credit grants, resets, and snapshots of what stood."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.pricing.credits.grants import CreditGrant, CreditReset, CreditUnit, Denomination
from sidemeter_control.pricing.credits.instants import State
from sidemeter_control.pricing.periods import Interval
from sidemeter_control.store.tables import credit_grants, credit_resets, credit_snapshots

__all__ = [
    "Snapshot",
    "add",
    "add_reset",
    "by_key",
    "count",
    "count_resets",
    "currency",
    "denomination",
    "get",
    "holders",
    "is_of",
    "keep_snapshot",
    "key_of",
    "of_customers",
    "resets_of",
    "snapshot_before",
    "void",
]


class Snapshot(NamedTuple):
    """What stood at `state.at_us`, by the terms of then, with `counted` used in all since the beginning."""

    terms: str
    counted: Decimal
    state: State


async def add(conn: AsyncConnection, grant: CreditGrant) -> None:
    """Write a new grant; the caller has seen that its customer exists and its idempotency key is free."""
    await conn.execute(
        insert(credit_grants).values(
            id=grant.id,
            **key_of(grant.customer_key, grant.denomination),
            amount=grant.amount,
            currency=grant.currency,
            priority=grant.priority,
            effective_at_us=grant.effective_at_us,
            expires_at_us=grant.expires_at_us,
            purchased=grant.purchased,
            recurrence=grant.recurrence and grant.recurrence.value,
            anchor_at_us=grant.anchor_us,
            rollover_max=grant.rollover_max,
            rollover_min=grant.rollover_min,
            charges=None if grant.charges is None else msgspec.json.encode(grant.charges).decode(),
            automatic=grant.automatic,
            idempotency_key=grant.idempotency_key,
            created_at_us=grant.created_at_us,
        )
    )


async def get(conn: AsyncConnection, grant_id: str) -> CreditGrant | None:
    """The grant of that id."""
    found = await conn.execute(select(credit_grants).where(credit_grants.c.id == grant_id))
    row = found.one_or_none()
    return None if row is None else _grant(row)


async def by_key(conn: AsyncConnection, customer_key: str, idempotency_key: str) -> CreditGrant | None:
    """The customer's grant that was made under that idempotency key."""
    table = credit_grants.c
    found = await conn.execute(
        select(credit_grants).where(table.customer_key == customer_key, table.idempotency_key == idempotency_key)
    )
    row = found.one_or_none()
    return None if row is None else _grant(row)


async def count(conn: AsyncConnection, customer_key: str) -> int:
    """How many grants a customer has, ended ones too."""
    return await _count(conn, credit_grants, customer_key)


async def count_resets(conn: AsyncConnection, customer_key: str) -> int:
    """How many resets were asked for of a customer's credits."""
    return await _count(conn, credit_resets, customer_key)


async def currency(conn: AsyncConnection, customer_key: str) -> str | None:
    """The currency of the customer's grants in MONEY, if there are any."""
    table = credit_grants.c
    wanted = select(table.currency).where(table.customer_key == customer_key, table.currency.is_not(None)).limit(1)
    found = (await conn.execute(wanted)).scalar_one_or_none()
    return None if found is None else str(found)


async def holders(conn: AsyncConnection, limit: int, after: str = "") -> list[str]:
    """At most `limit` customers (keys, in order, after `after`) that have a grant."""
    table = credit_grants.c
    wanted = select(table.customer_key).where(table.customer_key > after).distinct()
    return list((await conn.execute(wanted.order_by(table.customer_key).limit(limit))).scalars())


async def of_customers(conn: AsyncConnection, keys: Sequence[str]) -> list[CreditGrant]:
    """Every grant of those customers, voided and expired ones too, the oldest first."""
    table = credit_grants.c
    wanted = select(credit_grants).where(table.customer_key.in_(keys)).order_by(table.created_at_us, table.id)
    return [_grant(row) for row in await conn.execute(wanted)]


async def void(conn: AsyncConnection, grant_id: str, at_us: int, reason: str) -> bool:
    """End a grant at an instant, unless it was ended so before; answers whether this ended it."""
    table = credit_grants.c
    ended = await conn.execute(
        update(credit_grants)
        .where(table.id == grant_id, table.voided_at_us.is_(None))
        .values(voided_at_us=at_us, void_reason=reason)
    )
    return bool(ended.rowcount)


async def add_reset(conn: AsyncConnection, reset: CreditReset) -> None:
    """Write a reset, in place of the one at its instant if there is one."""
    at = and_(*is_of(credit_resets, reset.customer_key, reset.denomination), credit_resets.c.at_us == reset.at_us)
    await conn.execute(delete(credit_resets).where(at))
    await conn.execute(
        insert(credit_resets).values(
            **key_of(reset.customer_key, reset.denomination),
            at_us=reset.at_us,
            preserve_overage=reset.preserve_overage,
        )
    )


async def resets_of(conn: AsyncConnection, keys: Sequence[str]) -> list[CreditReset]:
    """Every reset that was asked for of those customers' credits, in the order of their instants."""
    table = credit_resets.c
    wanted = select(credit_resets).where(table.customer_key.in_(keys)).order_by(table.at_us)
    return [
        CreditReset(row.customer_key, denomination(row), row.at_us, row.preserve_overage)
        for row in await conn.execute(wanted)
    ]


async def keep_snapshot(conn: AsyncConnection, customer_key: str, of: Denomination, snapshot: Snapshot) -> None:
    """Write what stood, in place of every older or equal snapshot of these credits."""
    ours = is_of(credit_snapshots, customer_key, of)
    await conn.execute(delete(credit_snapshots).where(*ours, credit_snapshots.c.at_us <= snapshot.state.at_us))
    await conn.execute(
        insert(credit_snapshots).values(
            **key_of(customer_key, of),
            at_us=snapshot.state.at_us,
            terms=snapshot.terms,
            counted=snapshot.counted,
            state=snapshot.state.text(),
        )
    )


async def snapshot_before(conn: AsyncConnection, customer_key: str, of: Denomination, at_us: int) -> Snapshot | None:
    """The newest snapshot of these credits at or before an instant."""
    table = credit_snapshots.c
    wanted = (
        select(credit_snapshots)
        .where(*is_of(credit_snapshots, customer_key, of), table.at_us <= at_us)
        .order_by(table.at_us.desc())
        .limit(1)
    )
    row = (await conn.execute(wanted)).one_or_none()
    return None if row is None else Snapshot(row.terms, row.counted, State.read(row.state))


async def _count(conn: AsyncConnection, table: Any, customer_key: str) -> int:
    found = await conn.execute(select(func.count()).select_from(table).where(table.c.customer_key == customer_key))
    return int(found.scalar_one())


def key_of(customer_key: str, of: Denomination) -> dict[str, str]:
    """The columns that say whose credits, and of what: `feature` is empty for MONEY."""
    return {"customer_key": customer_key, "unit": of.unit.value, "feature": of.feature or ""}


def is_of(table: Any, customer_key: str, of: Denomination) -> list[Any]:
    """What holds for the rows of a table that are about these credits."""
    return [table.c[name] == value for name, value in key_of(customer_key, of).items()]


def denomination(row: Row[Any]) -> Denomination:
    """What a row of such a table is about."""
    return Denomination(CreditUnit(row.unit), row.feature or None)


def _grant(row: Row[Any]) -> CreditGrant:
    return CreditGrant(
        id=row.id,
        customer_key=row.customer_key,
        denomination=denomination(row),
        amount=row.amount,
        currency=row.currency,
        priority=row.priority,
        effective_at_us=row.effective_at_us,
        expires_at_us=row.expires_at_us,
        purchased=row.purchased,
        recurrence=row.recurrence and Interval(row.recurrence),
        anchor_us=row.anchor_at_us,
        rollover_max=row.rollover_max,
        rollover_min=row.rollover_min,
        charges=None if row.charges is None else msgspec.json.decode(row.charges, type=tuple[str, ...]),
        automatic=row.automatic,
        idempotency_key=row.idempotency_key,
        created_at_us=row.created_at_us,
        voided_at_us=row.voided_at_us,
        void_reason=row.void_reason,
    )
