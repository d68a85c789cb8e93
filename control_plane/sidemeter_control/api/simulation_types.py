"""What a draft would change, as GraphQL shows it."""

from typing import Self

import strawberry

from sidemeter_control.api.pricing_types import Money
from sidemeter_control.pricing import drafts

__all__ = ["Simulation", "SimulationRow"]


@strawberry.type
class SimulationRow:
    """What one customer owes for the interval, and would owe under the draft, both before credits."""

    customer: strawberry.ID
    current: Money
    simulated: Money
    difference: Money = strawberry.field(description="More than nothing: the customer would pay more.")

    @classmethod
    def of(cls, row: drafts.SimulationRow) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            customer=strawberry.ID(row.customer),
            current=Money.of(row.current),
            simulated=Money.of(row.simulated),
            difference=Money.of(row.difference),
        )


@strawberry.type
class Simulation:
    """Stored usage under a draft plan: who would pay most more comes first, who would save most last."""

    total: Money = strawberry.field(description="Of all customers, under the draft.")
    difference: Money = strawberry.field(description="The total less what they owe as it is.")
    rows: list[SimulationRow]

    @classmethod
    def of(cls, found: drafts.Simulation) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            total=Money.of(found.total),
            difference=Money.of(found.difference),
            rows=[SimulationRow.of(row) for row in found.rows],
        )
