"""The callers of one agent: they record in every way there is, repeat, give up, and say the same name twice."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sidemeter.agent import Agent
from sidemeter.errors import InDoubt, NotRecorded

from .oracle import CALL, ODD, POISON, Issue, Oracle
from .world import World

__all__ = ["Callers", "Traffic"]

GIANT: Final = 60_000
"""Bytes of the data of a giant event; 65,536 is the bound."""


@dataclass(slots=True)
class Traffic:
    """What the callers of a seed do: `left` is how many events they may still issue, all together."""

    left: int
    pause_s: float
    odd: float = 0.0
    poison: float = 0.0
    giant: float = 0.0
    rivals: float = 0.0
    impatient: float = 0.0


class Callers:
    """Calls `agent` until the traffic is used up or the world is calm, then never again."""

    def __init__(self, world: World, oracle: Oracle, traffic: Traffic, agent: Agent, name: str) -> None:
        self._world = world
        self._oracle = oracle
        self._traffic = traffic
        self._agent = agent
        self._name = name

    async def run(self) -> None:
        """One caller."""
        rng = self._world.rng
        while not self._world.calm and self._traffic.left > 0:
            await asyncio.sleep(rng.expovariate(1 / self._traffic.pause_s))
            if not self._world.calm:
                await self.act()

    async def act(self) -> None:
        """One call."""
        chosen = self._world.rng.random()
        if chosen < 0.35:
            await self.record([self.fresh()])
        elif chosen < 0.5:
            await self.record([self.fresh() for _ in range(self._world.rng.randint(2, 8))])
        elif chosen < 0.65:
            await self.record_nowait([self.fresh() for _ in range(self._world.rng.randint(1, 6))])
        elif chosen < 0.75:
            await self.consume(self.fresh())
        elif self._oracle.to_repeat and chosen < 0.9:
            again = self._oracle.to_repeat
            await self.record([again.pop(int(self._world.rng.random() * len(again)))])
        else:
            await self.record([self._known()])

    async def record(self, issues: Sequence[Issue]) -> bool:
        """Record, all or none, and tell the oracle what was answered; whether it was yes."""
        patience_s = self._world.rng.expovariate(20.0) if self._world.chance(self._traffic.impatient) else None
        try:
            async with asyncio.timeout(patience_s):
                receipts = await self._agent.record_many([issue.event() for issue in issues])
        except NotRecorded as exc:
            self._oracle.turned_away(issues, type(exc).__name__)
            return False
        except TimeoutError:
            self._world.fault("caller gave up")
            self._oracle.left_open(issues)
            return False
        except InDoubt:
            self._oracle.left_open(issues)
            return False
        self._oracle.answered(issues, receipts)
        return True

    async def record_nowait(self, issues: Sequence[Issue]) -> None:
        """Record without waiting, then wait for all of it."""
        taken = []
        for issue in issues:
            event = issue.event()
            try:
                event_id = self._agent._running.recorder.record_nowait(event)
            except NotRecorded as exc:
                self._oracle.turned_away([issue], type(exc).__name__)
                continue
            self._oracle.taken(issue, event_id, event.source or "chat", self._name)
            taken.append(issue)
        if taken and self._world.chance(0.7):
            try:
                await self._agent.flush()
            except (NotRecorded, InDoubt) as exc:
                self._world.note("not flushed", self._name, exc)
            else:
                self._oracle.flushed(taken)

    async def consume(self, issue: Issue) -> None:
        """Check and record in one step."""
        try:
            decision = await self._agent.consume_event(issue.event())
        except NotRecorded as exc:
            self._oracle.turned_away([issue], type(exc).__name__)
            return
        except InDoubt:
            self._oracle.left_open([issue])
            return
        if decision.receipt is None:
            self._oracle.turned_away([issue], decision.reason)
        else:
            self._oracle.answered([issue], [decision.receipt])

    def fresh(self) -> Issue:
        """An event that was never issued."""
        traffic, rng = self._traffic, self._world.rng
        traffic.left -= 1
        kind = CALL
        if self._world.strikes("dead letter", traffic.odd):
            kind = ODD
        elif self._world.strikes("poison", traffic.poison):
            kind = POISON
        pad = GIANT if self._world.strikes("giant event", traffic.giant) else rng.randrange(40)
        return self._oracle.issue(kind, named=rng.random() < 0.5, pad=pad)

    def _known(self) -> Issue:
        """An event with a name that was said before: the same event, or another one."""
        issues = list(self._oracle.issues.values())
        issue = issues[int(self._world.rng.random() * len(issues))] if issues else self.fresh()
        if issue.key is None:
            return self.fresh()
        if self._world.strikes("two events with one name", self._traffic.rivals):
            return self._oracle.issue(issue.type, named=True, rival=issue)
        self._world.fault("event repeated by its caller")
        return issue
