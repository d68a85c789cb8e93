"""The agents that send events, what they lost and what could not be counted, as GraphQL shows it to an operator."""

import base64
from contextlib import suppress
from decimal import Decimal
from typing import Self

import msgspec
import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.scalars import Instant, instant
from sidemeter_control.store.agents import Agent
from sidemeter_control.store.dead_letters import StoredDeadLetter
from sidemeter_control.store.losses import StoredLossDeclaration

__all__ = ["AgentStatus", "DeadLetter", "LossDeclaration"]


@strawberry.type
class LossDeclaration:
    """Rows of an agent's buffer that are gone, as the agent declared it: events that were acknowledged and never counted.

    Numbers are text, because rows may be more than an Int holds.
    """

    id: strawberry.ID
    agent: strawberry.ID
    epoch: int
    first_row: Decimal
    last_row: Decimal | None = strawberry.field(description="Null when the agent does not know how far it goes.")
    events: Decimal | None = strawberry.field(description="How many events are lost; null when that is not known.")
    reason: str
    noticed_at: Instant = strawberry.field(description="By the agent's clock.")
    received_at: Instant

    @classmethod
    def of(cls, declared: StoredLossDeclaration) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(declared.id),
            agent=strawberry.ID(declared.agent_id),
            epoch=declared.epoch,
            first_row=Decimal(declared.first_row),
            last_row=None if declared.last_row is None else Decimal(declared.last_row),
            events=None if declared.events is None else Decimal(declared.events),
            reason=declared.reason,
            noticed_at=Instant(declared.noticed_at_us),
            received_at=Instant(declared.received_at_us),
        )


@strawberry.type
class AgentStatus:
    """An agent as it last reported."""

    id: strawberry.ID
    service: str
    version: str
    epoch: int
    last_seen: Instant
    backlog: int
    oldest_pending: Instant | None
    state: str = strawberry.field(
        description="CONNECTED; DRAINING while more than 1,000 events wait there; SILENT when not heard of for 30 seconds,"
        " SILENT_WITH_BACKLOG when `backlog` events waited there then."
    )

    @strawberry.field
    async def loss_declarations(self, info: Info) -> list[LossDeclaration]:
        """What it declared as lost, the newest 50 first."""
        return [LossDeclaration.of(each) for each in await info.context.loaders.losses.load(self.id) or ()]

    @classmethod
    def of(cls, agent: Agent, now_us: int) -> Self:
        """The noun in its GraphQL form, as it stands at an instant."""
        return cls(
            id=strawberry.ID(agent.agent_id),
            service=agent.service,
            version=agent.version,
            epoch=agent.epoch,
            last_seen=Instant(agent.last_seen_us),
            backlog=agent.backlog,
            oldest_pending=instant(agent.oldest_pending_us),
            state=agent.state(now_us).value,
        )


@strawberry.type
class DeadLetter:
    """An accepted event that could not be counted: by one meter, or, without `meter`, by none."""

    id: strawberry.ID
    reason: str
    received_at: Instant
    raw: str = strawberry.field(
        description="The event as it came: as JSON, or as base64 where it is neither JSON nor MessagePack."
    )
    meter: strawberry.ID | None
    replayed_at: Instant | None = strawberry.field(description="When it was counted after all; null while it waits.")
    replayed_by: strawberry.ID | None = strawberry.field(description="The id of the key that asked for that.")

    @classmethod
    def of(cls, letter: StoredDeadLetter) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(str(letter.id)),
            reason=f"{letter.code}: {letter.reason}",
            received_at=Instant(letter.received_at_us),
            raw=readable(letter.raw),
            meter=None if letter.meter_key is None else strawberry.ID(letter.meter_key),
            replayed_at=instant(letter.replayed_at_us),
            replayed_by=None if letter.replayed_by is None else strawberry.ID(letter.replayed_by),
        )


def readable(raw: bytes) -> str:
    """Bytes that nobody could count, as a person can read them.

    >>> readable(b'{"a":'), readable(b"\\x92\\x01\\xa1x"), readable(b"\\xc1")
    ('{"a":', '[1,"x"]', 'wQ==')
    """
    for read in (bytes.decode, _unpacked):  # an array or map of MessagePack is never UTF-8
        with suppress(msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            return read(raw)
    return base64.b64encode(raw).decode()


def _unpacked(raw: bytes) -> str:
    return msgspec.json.encode(msgspec.msgpack.decode(raw)).decode()
