"""What is left of a hard limit once nobody is allowed anything any more, and whether it can be explained."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from processes import AgentProcess, ControlPlane

from .spending import Budget

__all__ = ["wrong_with"]


async def wrong_with(
    budget: Budget, plane: ControlPlane, agents: Sequence[AgentProcess], faults: Counter[str]
) -> list[str]:
    """What is wrong with what was counted of a limit, and with what is left of it."""
    found = await budget.standing(plane)
    quota, recovery = found["customer"]["quota"], found["recovery"]
    wrong = []
    if Decimal(quota["used"]) > budget.highest:
        wrong.append(f"overspend: {quota['used']} of {budget.id} are counted, {budget.highest} were allowed at most")
    if recovery is not None:
        faults["recovery that waits for an operator"] += 1
        return wrong
    left = budget.limit - budget.told
    explained = Decimal(quota["inDoubt"]) + budget.unheard + len(agents) * budget.unit()
    if left > explained:
        wrong.append(f"unspent: {left} of {budget.id} are left and {explained} are explained: {budget}, {found}")
    return wrong
