"""Customers and their subjects."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Row, Select, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.sentences import Language
from sidemeter_control.store.tables import customer_subjects, customers

__all__ = ["get", "owners", "page", "put"]

_SUBJECTS_AT_ONCE: Final = 10_000
"""SQLite takes some 32,000 values in one statement."""


async def get(conn: AsyncConnection, keys: Sequence[str]) -> dict[str, Customer]:
    """The customers of those keys that exist."""
    return {each.key: each for each in await _with_subjects(conn, select(customers).where(customers.c.key.in_(keys)))}


async def page(conn: AsyncConnection, limit: int, *, after: str = "", search: str | None = None) -> list[Customer]:
    """At most `limit` customers whose key sorts after `after`, by key; `search` is part of the key or the name."""
    wanted = select(customers).where(customers.c.key > after).order_by(customers.c.key).limit(limit)
    if search:
        part = search.lower()
        wanted = wanted.where(
            or_(*(func.lower(column).contains(part, autoescape=True) for column in (customers.c.key, customers.c.name)))
        )
    return await _with_subjects(conn, wanted)


async def owners(conn: AsyncConnection, subjects: Iterable[str]) -> dict[str, str]:
    """Which customer (key) each of the subjects belongs to, however many; a subject that is nobody's is absent."""
    found: dict[str, str] = {}
    waiting = iter(subjects)
    while some := list(islice(waiting, _SUBJECTS_AT_ONCE)):
        wanted = select(customer_subjects.c.subject, customer_subjects.c.customer_key)
        rows = await conn.execute(wanted.where(customer_subjects.c.subject.in_(some)))
        found |= {row.subject: row.customer_key for row in rows}
    return found


async def put(conn: AsyncConnection, customer: Customer) -> None:
    """Write the customer and exactly its subjects, new or in place of what was there; its creation time stays."""
    values = {
        "name": customer.name,
        "currency": customer.currency,
        "time_zone": customer.time_zone,
        "metadata": customer.metadata,
        "language": customer.language.value,
        "prepaid": customer.prepaid,
    }
    changed = await conn.execute(update(customers).where(customers.c.key == customer.key).values(values))
    if not changed.rowcount:
        await conn.execute(insert(customers).values(key=customer.key, created_at_us=customer.created_at_us, **values))
    await conn.execute(delete(customer_subjects).where(customer_subjects.c.customer_key == customer.key))
    await conn.execute(
        insert(customer_subjects),
        [{"subject": subject, "customer_key": customer.key} for subject in customer.subjects],
    )


async def _with_subjects(conn: AsyncConnection, wanted: Select[Any]) -> list[Customer]:
    rows = (await conn.execute(wanted)).all()
    found = await conn.execute(
        select(customer_subjects.c.customer_key, customer_subjects.c.subject)
        .where(customer_subjects.c.customer_key.in_([row.key for row in rows]))
        .order_by(customer_subjects.c.subject)
    )
    subjects: dict[str, list[str]] = {}
    for row in found:
        subjects.setdefault(row.customer_key, []).append(row.subject)
    return [_customer(row, tuple(subjects.get(row.key, ()))) for row in rows]


def _customer(row: Row[Any], subjects: tuple[str, ...]) -> Customer:
    return Customer(
        row.key,
        row.name,
        row.currency,
        row.time_zone,
        subjects,
        row.metadata,
        row.created_at_us,
        Language(row.language),
        row.prepaid,
    )
