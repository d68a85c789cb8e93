"""Agents, and how far each epoch of one has come."""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.batches import Batch, Cursor
from sidemeter_control.metering.identity import Nonces
from sidemeter_control.store.tables import agent_epochs, agents, batches

__all__ = [
    "CONNECTED_WITHIN_US",
    "DRAINING_FROM_EVENTS",
    "PENDING_WITHIN_US",
    "Agent",
    "AgentState",
    "add_epoch",
    "advance",
    "cursor",
    "cursor_of_hello",
    "digest_of",
    "get",
    "hello_of",
    "keep_nonces",
    "list_all",
    "nonces",
    "nonces_of_hello",
    "put",
    "report",
]

# Agents report every second; one that missed this much is not just slow.
CONNECTED_WITHIN_US = 30_000_000

# More than this waits only with an agent that was kept from sending, or records more than it may send.
DRAINING_FROM_EVENTS = 1_000

# An agent not heard of for this long may be gone for good; what it said it holds is then no news.
PENDING_WITHIN_US = 600_000_000


class AgentState(Enum):
    """How an agent is doing, by what it said and when it said it."""

    CONNECTED = "CONNECTED"
    DRAINING = "DRAINING"
    SILENT = "SILENT"
    SILENT_WITH_BACKLOG = "SILENT_WITH_BACKLOG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as it last reported: its newest epoch, how many events wait there, and since when the oldest does."""

    agent_id: str
    service: str
    version: str
    epoch: int
    last_seen_us: int
    backlog: int = 0
    oldest_pending_us: int | None = None

    def state(self, now_us: int) -> AgentState:
        """How it is doing at an instant.

        >>> Agent(agent_id="a", service="chat", version="1", epoch=1, last_seen_us=0, backlog=7).state(60_000_000)
        <AgentState.SILENT_WITH_BACKLOG: 'SILENT_WITH_BACKLOG'>
        """
        if now_us - self.last_seen_us <= CONNECTED_WITHIN_US:
            return AgentState.DRAINING if self.backlog > DRAINING_FROM_EVENTS else AgentState.CONNECTED
        return AgentState.SILENT_WITH_BACKLOG if self.backlog else AgentState.SILENT

    def is_pending(self, now_us: int) -> bool:
        """Whether it said within the last ten minutes that events of it have not arrived yet."""
        return self.backlog > 0 and now_us - self.last_seen_us <= PENDING_WITHIN_US


async def list_all(conn: AsyncConnection) -> list[Agent]:
    """Every agent there ever was, the one heard of last first."""
    found = await conn.execute(select(agents).order_by(agents.c.last_seen_us.desc(), agents.c.agent_id))
    return [Agent(**row) for row in found.mappings()]


async def get(conn: AsyncConnection, agent_id: str) -> Agent | None:
    """One agent, if it ever said hello."""
    row = (await conn.execute(select(agents).where(agents.c.agent_id == agent_id))).mappings().one_or_none()
    return None if row is None else Agent(**row)


async def put(conn: AsyncConnection, agent: Agent) -> None:
    """Write what is known of an agent, new or in place of what was."""
    values = {column.name: getattr(agent, column.name) for column in agents.c}
    changed = await conn.execute(update(agents).where(agents.c.agent_id == agent.agent_id).values(values))
    if not changed.rowcount:
        await conn.execute(insert(agents).values(values))


async def report(
    conn: AsyncConnection, agent_id: str, *, backlog: int, oldest_pending_us: int | None, now_us: int
) -> None:
    """Write what an agent says waits there."""
    await conn.execute(
        update(agents)
        .where(agents.c.agent_id == agent_id)
        .values(backlog=backlog, oldest_pending_us=oldest_pending_us, last_seen_us=now_us)
    )


async def cursor(conn: AsyncConnection, agent_id: str, epoch: int) -> Cursor | None:
    """How far that epoch has come; None when this database never gave it out."""
    return await _cursor(conn, agent_epochs.c.agent_id == agent_id, agent_epochs.c.epoch == epoch)


async def cursor_of_hello(conn: AsyncConnection, agent_id: str, hello_id: str) -> Cursor | None:
    """How far the epoch given for that hello has come."""
    return await _cursor(conn, agent_epochs.c.agent_id == agent_id, agent_epochs.c.hello_id == hello_id)


async def _cursor(conn: AsyncConnection, *which: ColumnElement[bool]) -> Cursor | None:
    row = (await conn.execute(select(agent_epochs).where(*which))).one_or_none()
    return None if row is None else Cursor(row.agent_id, row.epoch, row.next_batch_no, row.last_digest)


async def add_epoch(conn: AsyncConnection, begun: Cursor, hello_id: str, boot_id: str, now_us: int) -> None:
    """Write the beginning of an epoch, given for that hello."""
    await conn.execute(
        insert(agent_epochs).values(
            agent_id=begun.agent_id,
            epoch=begun.epoch,
            hello_id=hello_id,
            boot_id=boot_id,
            next_batch_no=begun.next_batch_no,
            last_digest=begun.last_digest,
            created_at_us=now_us,
        )
    )


async def nonces(conn: AsyncConnection, agent_id: str, epoch: int) -> Nonces | None:
    """The nonces of that epoch; None when this database never gave it out."""
    columns = agent_epochs.c
    wanted = select(columns.nonce, columns.previous_nonce).where(columns.agent_id == agent_id, columns.epoch == epoch)
    row = (await conn.execute(wanted)).one_or_none()
    return None if row is None else Nonces(row.nonce, row.previous_nonce)


async def nonces_of_hello(conn: AsyncConnection, agent_id: str, hello_id: str) -> Nonces | None:
    """The nonces of the epoch that was given for that hello; None when this database gave none."""
    columns = agent_epochs.c
    wanted = select(columns.nonce, columns.previous_nonce)
    row = (await conn.execute(wanted.where(columns.agent_id == agent_id, columns.hello_id == hello_id))).one_or_none()
    return None if row is None else Nonces(row.nonce, row.previous_nonce)


async def hello_of(conn: AsyncConnection, agent_id: str, epoch: int) -> str | None:
    """The id of the hello that the epoch was given for."""
    columns = agent_epochs.c
    found: str | None = await conn.scalar(
        select(columns.hello_id).where(columns.agent_id == agent_id, columns.epoch == epoch)
    )
    return found


async def keep_nonces(conn: AsyncConnection, agent_id: str, epoch: int, kept: Nonces) -> None:
    """Write the nonces of that epoch."""
    await conn.execute(
        update(agent_epochs)
        .where(agent_epochs.c.agent_id == agent_id, agent_epochs.c.epoch == epoch)
        .values(nonce=kept.current, previous_nonce=kept.previous)
    )


async def digest_of(conn: AsyncConnection, agent_id: str, epoch: int, batch_no: int) -> bytes | None:
    """The digest that a batch had when it was counted; None when it was not."""
    key = batches.c
    found: bytes | None = await conn.scalar(
        select(key.digest).where(key.agent_id == agent_id, key.epoch == epoch, key.batch_no == batch_no)
    )
    return found


async def advance(conn: AsyncConnection, batch: Batch, events: int, now_us: int) -> None:
    """Write that the batch is counted: the cursor of its epoch is past it."""
    await conn.execute(
        insert(batches).values(
            agent_id=batch.agent_id,
            epoch=batch.epoch,
            batch_no=batch.batch_no,
            digest=batch.digest,
            events=events,
            received_at_us=now_us,
        )
    )
    await conn.execute(
        update(agent_epochs)
        .where(agent_epochs.c.agent_id == batch.agent_id, agent_epochs.c.epoch == batch.epoch)
        .values(next_batch_no=batch.batch_no + 1, last_digest=batch.digest)
    )
