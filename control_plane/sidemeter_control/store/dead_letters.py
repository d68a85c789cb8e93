"""Dead letters: accepted events that could not be counted, with their bytes and the reason (P7)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.batches import Batch
from sidemeter_control.store.tables import dead_letters

__all__ = ["DeadLetter", "StoredDeadLetter", "add", "page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What could not be counted: by no meter, or, with `meter_key`, by that one alone.

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

    @classmethod
    def of(
        cls, code: str, reason: str, raw: bytes, now_us: int, batch: Batch | None, *, meter_key: str | None = None
    ) -> "DeadLetter":
        """A dead letter of now, of an event that `batch` brought, or a caller without an agent."""
        return DeadLetter(
            code=code,
            reason=reason,
            raw=raw,
            received_at_us=now_us,
            meter_key=meter_key,
            agent_id=None if batch is None else batch.agent_id,
            epoch=None if batch is None else batch.epoch,
            batch_no=None if batch is None else batch.batch_no,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeadLetter(DeadLetter):
    """A dead letter with its number; later ones have higher numbers."""

    id: int


_COLUMNS = [column for column in dead_letters.c if column.name != "id"]


async def add(conn: AsyncConnection, letters: Sequence[DeadLetter]) -> None:
    """Keep them for good."""
    if letters:
        await conn.execute(
            insert(dead_letters), [{column.name: getattr(each, column.name) for column in _COLUMNS} for each in letters]
        )


async def page(conn: AsyncConnection, limit: int, *, before: int | None = None) -> list[StoredDeadLetter]:
    """At most `limit` dead letters, newest first; `before`: those with a lower number."""
    wanted = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(dead_letters.c.id < before)
    return [StoredDeadLetter(**row) for row in (await conn.execute(wanted)).mappings()]
