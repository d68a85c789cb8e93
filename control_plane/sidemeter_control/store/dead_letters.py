"""Dead letters: accepted events that could not be counted, with their bytes and the reason (P7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.batches import Batch
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.meters import Meter
from sidemeter_control.store.tables import dead_letters

__all__ = [
    "DeadLetter",
    "StoredDeadLetter",
    "add",
    "get",
    "leave",
    "leave_meter",
    "page",
    "say_why",
    "waiting",
    "waiting_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What could not be counted: by no meter, or, with `meter_key`, by that one alone, as it is defined by `meter_id`.

    An event that one meter alone could not count is stored: `event_subject`, `event_source` and `event_id` name it.
    `raw` is the event as it came (MessagePack from an agent, else JSON); the batch says whence, where there was one.
    """

    code: str
    reason: str
    raw: bytes
    received_at_us: int
    meter_key: str | None = None
    agent_id: str | None = None
    epoch: int | None = None
    batch_no: int | None = None
    meter_id: int | None = None
    event_source: str | None = None
    event_id: str | None = None
    event_subject: str | None = None

    @classmethod
    def of(
        cls,
        code: str,
        reason: str,
        raw: bytes,
        now_us: int,
        batch: Batch | None,
        *,
        missed: tuple[Meter, Event] | None = None,
    ) -> "DeadLetter":
        """A dead letter of now, of an event that `batch` brought, or a caller without an agent.

        `missed`: the one meter that could not count it, and the event as it is stored.
        """
        return DeadLetter(
            code=code,
            reason=reason,
            raw=raw,
            received_at_us=now_us,
            meter_key=None if missed is None else missed[0].key,
            meter_id=None if missed is None else missed[0].id,
            event_subject=None if missed is None else missed[1].subject,
            event_source=None if missed is None else missed[1].source,
            event_id=None if missed is None else missed[1].id,
            agent_id=None if batch is None else batch.agent_id,
            epoch=None if batch is None else batch.epoch,
            batch_no=None if batch is None else batch.batch_no,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeadLetter(DeadLetter):
    """A dead letter with its number; later ones have higher numbers.

    `replayed_at_us`, `replayed_by`: when it was counted after all, and the id of the key that asked for it.
    """

    id: int
    replayed_at_us: int | None = None
    replayed_by: str | None = None


_COLUMNS = [column for column in dead_letters.c if column.name not in {"id", "replayed_at_us", "replayed_by"}]


async def add(conn: AsyncConnection, letters: Sequence[DeadLetter]) -> None:
    """Keep them."""
    if letters:
        await conn.execute(
            insert(dead_letters), [{column.name: getattr(each, column.name) for column in _COLUMNS} for each in letters]
        )


async def page(
    conn: AsyncConnection, limit: int, *, before: int | None = None, replayed: bool = False
) -> list[StoredDeadLetter]:
    """At most `limit` letters that wait, or that were replayed, newest first; `before`: those with a lower number."""
    at = dead_letters.c.replayed_at_us
    wanted = select(dead_letters).where(at.is_not(None) if replayed else at.is_(None))
    if before is not None:
        wanted = wanted.where(dead_letters.c.id < before)
    return await _found(conn, wanted.order_by(dead_letters.c.id.desc()).limit(limit))


async def get(conn: AsyncConnection, ids: Sequence[int]) -> list[StoredDeadLetter]:
    """Those of the letters that there are, replayed or not."""
    return await _found(conn, select(dead_letters).where(dead_letters.c.id.in_(ids)))


async def waiting(conn: AsyncConnection) -> int:
    """How many wait to be replayed."""
    counted = select(func.count()).select_from(dead_letters).where(dead_letters.c.replayed_at_us.is_(None))
    return (await conn.execute(counted)).scalar_one()


async def leave(conn: AsyncConnection, ids: Sequence[int], now_us: int, by: str) -> None:
    """Write that those letters are counted now."""
    await conn.execute(
        update(dead_letters).where(dead_letters.c.id.in_(ids)).values(replayed_at_us=now_us, replayed_by=by)
    )


async def waiting_of(conn: AsyncConnection, subject: str, source: str, id_: str) -> dict[int, int]:
    """The letters that wait because one meter could not count that event: the meter's number, by the letter's."""
    wanted = select(dead_letters.c.id, dead_letters.c.meter_id).where(
        or_(dead_letters.c.event_subject.is_(None), dead_letters.c.event_subject == subject),
        dead_letters.c.event_source == source,
        dead_letters.c.event_id == id_,
        dead_letters.c.replayed_at_us.is_(None),
        dead_letters.c.meter_id.is_not(None),
    )
    return {row.id: row.meter_id for row in await conn.execute(wanted)}


async def leave_meter(conn: AsyncConnection, meter_id: int, now_us: int, by: str) -> None:
    """Write that no letter of that meter's number waits any more."""
    waits = (dead_letters.c.meter_id == meter_id) & dead_letters.c.replayed_at_us.is_(None)
    await conn.execute(update(dead_letters).where(waits).values(replayed_at_us=now_us, replayed_by=by))


async def say_why(conn: AsyncConnection, reasons: Mapping[int, tuple[str, str]]) -> None:
    """Write why letters that wait still cannot be counted: code and reason."""
    if reasons:
        why = update(dead_letters).where(
            dead_letters.c.id == bindparam("letter"), dead_letters.c.replayed_at_us.is_(None)
        )
        await conn.execute(
            why.values(code=bindparam("new_code"), reason=bindparam("new_reason")),
            [{"letter": id_, "new_code": code, "new_reason": reason} for id_, (code, reason) in reasons.items()],
        )


async def _found(conn: AsyncConnection, wanted: Select[Any]) -> list[StoredDeadLetter]:
    return [StoredDeadLetter(**row) for row in (await conn.execute(wanted)).mappings()]
