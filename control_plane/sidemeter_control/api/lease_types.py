"""Leases as GraphQL shows them to an operator: who has which part of a limit, and a recovery that is under way."""

from decimal import Decimal
from typing import Self

import strawberry

from sidemeter_control.api.scalars import Instant
from sidemeter_control.limits.handed_out import HandedOutLimit
from sidemeter_control.store.leases import Held
from sidemeter_control.store.recoveries import UnderWay

__all__ = ["Holder", "Limit", "Recovery"]


@strawberry.type
class Holder:
    """One epoch of one agent, and its part of a limit, in the unit of the meter: as far as it told."""

    agent: strawberry.ID
    epoch: int
    granted: Decimal
    returned: Decimal = strawberry.field(description="By its own word, or written off by an operator's.")
    used: Decimal
    state: str = strawberry.field(
        description="CURRENT; SUPERSEDED when another hello of its agent followed: it spends no more, and what it has left is"
        " in doubt; TWINS when two processes spoke as it."
    )

    @classmethod
    def of(cls, held: Held, limit: HandedOutLimit) -> Self:
        """The noun in its GraphQL form."""
        holding = held.holding
        return cls(
            agent=strawberry.ID(held.holder.id[0]),
            epoch=held.holder.epoch,
            granted=limit.quantity(holding.granted),
            returned=limit.quantity(max(holding.returned, holding.written_off)),
            used=limit.quantity(max(holding.used - holding.refunded, 0)),
            state=held.holder.standing.value,
        )


@strawberry.type
class Limit:
    """A hard limit that agents share by leases, in the period that counts now."""

    id: strawberry.ID
    committed: Decimal = strawberry.field(
        description="What agents hold or have used, and what was counted without any of them: the rest can be granted."
    )
    limit: Decimal
    holders: list[Holder]

    @classmethod
    def of(cls, limit: HandedOutLimit) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(limit.id),
            committed=limit.committed,
            limit=limit.limit,
            holders=[Holder.of(each, limit) for each in limit.held],
        )


@strawberry.type
class Recovery:
    """The database is an older copy of itself: until every holder of leases has told what it holds, nothing more is granted
    of hard limits, and agents go on with what they have. A period that begins after `since` is granted from."""

    since: Instant
    awaited: list[strawberry.ID] = strawberry.field(description="Agents that have not told everything yet.")
    holders: int | None = strawberry.field(
        description="How many holders there have been in all; null: nobody knows, so that only endRecovery ends it."
    )
    known_holders: int

    @classmethod
    def of(cls, under_way: UnderWay, known_holders: int) -> Self:
        """The noun in its GraphQL form."""
        recovery = under_way.recovery
        return cls(
            since=Instant(under_way.began_at_us),
            awaited=[strawberry.ID(agent) for agent in sorted({agent for agent, _ in recovery.awaited})],
            holders=recovery.holders,
            known_holders=known_holders,
        )
