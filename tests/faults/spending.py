"""Callers that want more of a hard limit than there is, and a purse that counts outside of both programs what they got."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx
from processes import AgentProcess, ControlPlane

from .oracle import Event, Oracle, tag_of

__all__ = ["Budget", "Spenders", "sell_limits"]

PATIENCE_S: Final = 2.0
PASSES_WITHOUT: Final = 4
"""So often nobody is allowed anything any more, each time a sync later, until a limit is taken for exhausted."""

REFUSALS: Final = frozenset({"limit_reached", "lease_short", "no_lease", "unknown_subject", "agent_stopping"})
STANDING: Final = """query($customer: ID!, $feature: ID!, $limit: ID!) {
  customer(key: $customer) { quota(feature: $feature) { limit used leased inDoubt } }
  limit(id: $limit) { committed holders { agent epoch granted returned used state } }
  recovery { awaited holders knownHolders }
}"""


@dataclass
class Budget:
    """A customer's hard limit of a feature, and what callers were allowed of it.

    `amounts` are what an operation asks for, the finest last: only for the rest. `highest` is the largest limit that was in force so far,
    `told` what was allowed, `unheard` what may have been taken by requests that nobody heard the answer of.
    """

    customer: str
    feature: str
    meter: str
    limit: Decimal
    amounts: tuple[Decimal, ...]
    highest: Decimal = Decimal(0)
    told: Decimal = Decimal(0)
    unheard: Decimal = Decimal(0)
    wrong: list[str] = field(default_factory=list)
    ceiling: Decimal | None = None

    def __post_init__(self) -> None:
        self.highest = self.limit

    @property
    def id(self) -> str:
        """As agents and control plane name the limit."""
        return f"{self.customer}/{self.feature}"

    @property
    def finest(self) -> Decimal:
        """The least that anybody asks for."""
        return self.amounts[-1]

    def allowed(self, amount: Decimal) -> None:
        """So much more was; it is judged at once, by what was in force up to now."""
        self.told += amount
        most = self.highest if self.ceiling is None else self.ceiling
        if self.told > most and not self.wrong:
            self.wrong.append(
                f"overspend: {self.told} of {self.id} were allowed, where {most} is the most there ever was"
            )

    async def change(self, plane: ControlPlane, limit: Decimal) -> None:
        """Let the customer's limit be another one, while agents hold parts of it.

        Of one that is cut no more may be allowed than holders have at that moment, unless that is less than the new limit:
        so far as the control plane is whole, it says what that is.
        """
        self.ceiling = None
        self.highest = max(self.highest, limit)
        await plane.make(
            "setEntitlement", "EntitlementOverrideInput", customer=self.customer, **self._entitlement(limit)
        )
        cut, self.limit = limit < self.limit, limit
        found = await self.standing(plane)
        if cut and found["recovery"] is None and found["limit"] is not None:
            self.ceiling = max(Decimal(found["limit"]["committed"]), limit)

    @property
    def is_short(self) -> bool:
        """Whether most of the largest limit there was has been allowed."""
        return 5 * self.told > 4 * self.highest

    async def rise(self, plane: ControlPlane) -> None:
        """Raise the limit, beyond all that there was."""
        await self.change(plane, (self.highest * Decimal("1.3")).quantize(self.finest))

    async def halve(self, plane: ControlPlane) -> None:
        """Cut the limit."""
        await self.change(plane, (self.limit / 2).quantize(self.finest))

    def forget_ceiling(self) -> None:
        """The control plane is an older one now: it grants by the limit of then, and does not know what all holders have."""
        self.ceiling = None

    async def sell(self, plane: ControlPlane) -> None:
        """A plan with that limit alone, and the customer on it."""
        await plane.make("createFeature", "FeatureInput", key=self.feature, meter=self.meter)
        entitlement = self._entitlement(self.limit)
        await plane.make(
            *("publishPlan", "PlanInput"), key=self.customer, currency="EUR", charges=[], entitlements=[entitlement]
        )
        await plane.make("upsertCustomer", "CustomerInput", key=self.customer, currency="EUR")
        await plane.make("subscribe", "SubscribeInput", customer=self.customer, plan=self.customer)

    def _entitlement(self, limit: Decimal) -> dict[str, str]:
        own = {"feature": self.feature, "kind": "METERED", "limit": str(limit)}
        return own | {"enforcement": "HARD", "reset": "NEVER"}

    async def standing(self, plane: ControlPlane) -> dict[str, Any]:
        """The limit as the control plane knows it."""
        return await plane.ask(STANDING, customer=self.customer, feature=self.feature, limit=self.id)

    def unit(self) -> Decimal:
        """The least that is worth a grant."""
        return max(self.limit / 100_000, self.finest)


def sell_limits(events: int) -> list[Budget]:
    """Two customers: one may have so many events, of the other's a sum with decimals may reach five times that."""
    return [
        Budget("by-count", "counted", "calls", Decimal(events), (Decimal(1),)),
        Budget(
            *("by-sum", "summed", "costs", Decimal(5 * events) + Decimal("0.75")),
            (*map(Decimal, ("9.37", "2.5", "0.41", "0.1", "0.03", "0.01")),),
        ),
    ]


class Spenders:
    """Callers of these agents, clones included once they are there.

    Each operation has an id of its own. One that nobody answered may be asked for again, of any agent; an operation that is
    reserved for costs what its caller then decides, whether or not the agent heard it.
    """

    def __init__(self, oracle: Oracle, agents: list[AgentProcess], budgets: list[Budget], rng: random.Random) -> None:
        self.oracle = oracle
        self.agents = agents
        self.budgets = budgets
        self.rng = rng
        self.denials = 0
        self._again: list[tuple[Event, Budget, Decimal]] = []
        self._on_answer: Callable[[], object] | None = None
        self._answered = asyncio.Event()

    async def caller(self, pause_s: float) -> None:
        """Ask one agent after the other, until cancelled."""
        while True:
            agents = [agent for agent in self.agents if agent.running]
            if agents:
                await self._one(self.rng.choice(agents))
            await asyncio.sleep(self.rng.uniform(0, 2 * pause_s))

    async def after_answer(self, strike: Callable[[], object], within_s: float = 1.0) -> None:
        """Strike the moment somebody was allowed something; at the latest after a while."""
        self._answered.clear()
        self._on_answer = strike
        try:
            async with asyncio.timeout(within_s):
                await self._answered.wait()
        except TimeoutError:
            if self._on_answer is not None:
                strike()
        self._on_answer = None

    async def exhaust(self, plane: ControlPlane, within_s: float) -> None:
        """Ask every agent for what is left, until none allows anything, and there is nothing to grant.

        An agent that was cut off asks again only after a while: so nobody gives up for `within_s`.
        """
        without, ends_s = 0, time.monotonic() + within_s
        while without < PASSES_WITHOUT or (time.monotonic() < ends_s and await self._is_left(plane)):
            finest = without > 0
            got = await asyncio.gather(
                *(self._all_of(agent, each, finest=finest) for agent in self.agents for each in self.budgets)
            )
            without = 0 if any(got) else without + 1
            if any(got):
                ends_s = time.monotonic() + within_s
            await asyncio.sleep(0.2)

    async def _is_left(self, plane: ControlPlane) -> bool:
        """Whether the control plane could grant more of a limit than one unit for each agent."""
        for each in self.budgets:
            found = await each.standing(plane)
            if found["recovery"] is not None or found["limit"] is None:
                continue
            if each.limit - Decimal(found["limit"]["committed"]) > len(self.agents) * each.unit():
                return True
        return False

    async def _all_of(self, agent: AgentProcess, budget: Budget, *, finest: bool) -> bool:
        got = False
        for amount in budget.amounts[-1:] if finest else budget.amounts:
            while await self._consume(agent, self._event(budget, amount), budget, amount):
                got = True
        return got

    async def _one(self, agent: AgentProcess) -> None:
        if self._again and self.rng.random() < 0.5:
            event, budget, amount = self._again.pop()
        else:
            budget = self.rng.choice(self.budgets)
            amount = self.rng.choice(budget.amounts[:3])
            event = self._event(budget, amount)
            if self.rng.random() < 0.3:
                await self._to_its_end(self._reserve(agent, event, budget, amount), budget, amount)
                return
        await self._to_its_end(self._consume(agent, event, budget, amount), budget, amount)

    @staticmethod
    async def _to_its_end(operation: Coroutine[None, None, object], budget: Budget, amount: Decimal) -> None:
        """A caller that is stopped meanwhile hears no answer, which may have been a yes."""
        try:
            await operation
        except asyncio.CancelledError:
            budget.unheard += amount
            raise

    def _event(self, budget: Budget, amount: Decimal) -> Event:
        (event,) = self.oracle.issue(1, own_ids=True)
        event["subject"] = budget.customer
        event["source"] = "journey"
        event["data"]["cost"] = str(amount)
        return event

    async def _consume(self, agent: AgentProcess, event: Event, budget: Budget, amount: Decimal) -> bool:
        """Whether it was allowed."""
        answer = await self._post(agent, "/v1/consume", event)
        if answer is None:
            budget.unheard += amount
            self._again.append((event, budget, amount))
            return False
        if not answer.get("allowed"):
            return self._denied(answer)
        if tag_of(event) not in self.oracle.acknowledged | self.oracle.outside:
            budget.allowed(amount)
        self.oracle.answered([event], agent)
        self._struck()
        return True

    def _denied(self, answer: dict[str, Any]) -> bool:
        assert answer.get("reason", "refused") in REFUSALS | {"refused"}, answer
        self.denials += 1
        return False

    async def _reserve(self, agent: AgentProcess, event: Event, budget: Budget, amount: Decimal) -> None:
        """Reserve, then commit what it cost, or release, or never say."""
        answer = await self._post(agent, "/v1/reservations", event | {"ttl_s": self.rng.choice((1, 30))})
        if answer is None:
            budget.unheard += amount
            return
        if "decision" not in answer or not answer["decision"]["allowed"]:
            self._denied(answer.get("decision", {}))
            return
        route, end = f"/v1/reservations/{answer['id']}", self.rng.random()
        self._struck()
        await asyncio.sleep(self.rng.uniform(0, 0.05))
        if end < 0.2:
            if await self._post(agent, f"{route}/release", {}) is None:
                budget.unheard += amount
        elif end < 0.3:
            budget.allowed(amount)
        else:
            await self._commit(agent, route, event, budget, amount)

    async def _commit(self, agent: AgentProcess, route: str, event: Event, budget: Budget, reserved: Decimal) -> None:
        cost = (
            reserved if budget.meter == "calls" else self.rng.choice((reserved, (reserved / 2).quantize(budget.finest)))
        )
        event["data"]["cost"] = str(cost)
        budget.allowed(cost)
        for _ in range(2):
            answer = await self._post(agent, f"{route}/commit", {"data": event["data"]})
            if answer is not None:
                break
        if answer is None or "receipt" not in answer:
            budget.unheard += reserved - cost
        else:
            self.oracle.answered([event], agent)

    async def _post(self, agent: AgentProcess, path: str, body: object) -> dict[str, Any] | None:
        """The answer, {} where it is a clear refusal, None where nobody knows what became of it."""
        try:
            answer = await agent.http.post(path, json=body, timeout=PATIENCE_S)
        except httpx.HTTPError:
            return None
        if answer.status_code == 504:
            return None
        assert answer.status_code in {200, 404, 503, 507}, f"{path} {answer.status_code}: {answer.text}"
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return found

    def _struck(self) -> None:
        if self._on_answer is not None:
            self._on_answer()
            self._on_answer = None
            self._answered.set()
