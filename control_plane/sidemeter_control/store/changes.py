"""What a transaction changes that somebody may be watching: noted while it is open, told once it is committed.

Who listens in this process is told by `Database.write`. Where several processes share a database, the same notes travel
between them (`replicas.py`), and listeners stay as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from sqlalchemy import Transaction
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Changes", "note", "noted"]


@dataclass(slots=True)
class Changes:
    """Whose cost or quotas may be others by now, and who was alerted.

    `subjects` used something; `customers` have other terms; `alerted` are customers with a new alert; `everyone`: a
    definition changed that may be anybody's, or nobody knows what did. `state`: the row of that name is another.
    """

    subjects: set[str] = field(default_factory=set)
    customers: set[str] = field(default_factory=set)
    alerted: set[str] = field(default_factory=set)
    everyone: bool = False
    state: bool = False


_noted: WeakKeyDictionary[Transaction, Changes] = WeakKeyDictionary()


def note(
    conn: AsyncConnection,
    *,
    subjects: Iterable[str] = (),
    customers: Iterable[str] = (),
    alerted: Iterable[str] = (),
    everyone: bool = False,
    state: bool = False,
) -> None:
    """Note it of the transaction that is open. What a savepoint undoes stays noted: who looks finds nothing new."""
    transaction = conn.sync_connection.get_transaction() if conn.sync_connection else None
    if transaction is None:
        return
    changes = _noted.setdefault(transaction, Changes())
    changes.subjects.update(subjects)
    changes.customers.update(customers)
    changes.alerted.update(alerted)
    changes.everyone |= everyone
    changes.state |= state


def noted(conn: AsyncConnection) -> Changes | None:
    """What was noted of the transaction so far; None: nothing."""
    transaction = conn.sync_connection.get_transaction() if conn.sync_connection else None
    return None if transaction is None else _noted.get(transaction)
