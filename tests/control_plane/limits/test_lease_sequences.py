"""Whatever happens in whatever order, what all holders have of a limit never comes to more than it, and is never forgotten."""

import asyncio
import tempfile
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from heavy import few
from hypothesis import given
from hypothesis import strategies as st
from lessees import Lessee
from shop import BASE, Shop, open_shop, us

from sidemeter_control.limits.budgeting import remove_budget, set_budget
from sidemeter_control.limits.budgets import BudgetSpec, BudgetUnit
from sidemeter_control.limits.given import set_entitlement
from sidemeter_control.limits.leases import Holding
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.sync_messages import SyncQuestion
from sidemeter_control.limits.units import PoolId
from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.identity import SyncStatus
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Dimension, new_meter
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import leases, recoveries

PERIODS = (us("2026-11-01"), us("2026-12-01"))
LIMIT = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(20), enforcement=Enforcement.HARD)
AGENTS = ("a", "b", "c")
SPLIT = (Dimension("team", "team"),)

agent = st.sampled_from(AGENTS)
units = st.integers(1, 25)
moves = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["sync", "sync", "answer lost", "spend", "overrun"]), agent, units),
        st.tuples(st.sampled_from(["return", "hello", "old message"]), agent, units),
        st.tuples(st.sampled_from(["limit", "direct", "direct elsewhere"]), st.none(), units),
        st.tuples(st.sampled_from(["reset", "away and back"]), st.none(), st.just(0)),
    ),
    min_size=8,
    max_size=24,
)

Held = dict[PoolId, dict[tuple[str, str], Holding]]


class Quota:
    """The limit that a plan gives of calls."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.name = "calls"

    async def set(self, limit: int) -> None:
        spec = msgspec.structs.replace(LIMIT, limit=Decimal(limit))
        await set_entitlement(self.shop.database, self.shop.clock, OverrideSpec(customer="acme", entitlement=spec))

    async def remove(self) -> None:
        await self.set(0)

    def counts(self, team: str) -> bool:
        return bool(team)


class TeamBudget(Quota):
    """The limit that a budget is, of the calls of team a."""

    SPEC = BudgetSpec(
        key="team-a",
        customer="acme",
        unit=BudgetUnit.METER,
        meter="split",
        amount=Decimal(20),
        slice={"team": "a"},
        enforcement=Enforcement.HARD,
    )

    async def set(self, limit: int) -> None:
        made = await set_budget(self.shop.database, self.shop.clock, replace(self.SPEC, amount=Decimal(limit)))
        self.name = made.limit_name

    async def remove(self) -> None:
        assert await remove_budget(self.shop.database, self.shop.clock, self.SPEC.key)

    def counts(self, team: str) -> bool:
        return team == "a"


class World:
    """The control plane under test, its agents, and what they really did to one of its limits."""

    def __init__(self, shop: Shop, capped: Quota) -> None:
        self.shop, self.capped = shop, capped
        self.lessees = {name: Lessee(shop, name) for name in AGENTS}
        self.asked: list[tuple[Lessee, SyncQuestion]] = []
        self.unheard: dict[str, SyncQuestion] = {}
        self.limit = 20
        self.period = PERIODS[0]
        self.direct: defaultdict[PoolId, int] = defaultdict(int)

    @property
    def key(self) -> tuple[str, int]:
        return f"acme/{self.capped.name}", self.period

    async def make(self, move: str, name: str | None, amount: int) -> None:
        lessee = self.lessees[name or "a"]
        if not lessee.epoch or move == "hello":
            await lessee.hello()
            self.unheard.pop(lessee.agent_id, None)
        counts = lessee.leases[self.key]
        match move:
            case "sync" | "answer lost":
                await self.sync(lessee, amount, is_heard=move == "sync")
            case "spend":
                counts.used += min(amount, counts.free)
            case "overrun":
                counts.used, counts.overrun = counts.used + amount, counts.overrun + amount
            case "return":
                counts.returned += max(counts.free, 0)
            case "old message" if self.asked:
                whose, question = self.asked[amount % len(self.asked)]
                await self.checked(whose, question)
            case "limit":
                self.limit = amount
                await self.capped.set(amount)
            case "direct" | "direct elsewhere":
                await self.comes(amount, "a" if move == "direct" else "b")
            case "away and back":
                await self.capped.remove()
                await self.comes(2, "a")
                await self.capped.set(self.limit)
            case "reset" if self.period == PERIODS[0]:
                self.period = PERIODS[1]
                self.shop.clock.advance((self.period - self.shop.clock.now_us()) // 1_000_000 + 1)

    async def sync(self, lessee: Lessee, want: int, *, is_heard: bool) -> None:
        question = lessee.question({self.key: want})
        if (unheard := self.unheard.get(lessee.agent_id)) is not None:  # the same sync, until it is answered
            question = msgspec.structs.replace(question, sync_id=unheard.sync_id)
        await self.checked(lessee, question)
        if not is_heard:
            self.unheard[lessee.agent_id] = question
            return
        before = await self.held()
        answer = await lessee.put(question)
        assert await self.held() == before, "a sync that was repeated changed something"
        self.unheard.pop(lessee.agent_id, None)
        lessee.hear(answer)
        assert answer.status is SyncStatus.OK

    async def checked(self, lessee: Lessee, question: SyncQuestion) -> None:
        """Put a question, and see that nothing is granted that is not there."""
        before, outside = await self.held(), await self.outside()
        await lessee.put(question)
        self.asked.append((lessee, question))
        for pool, after in (await self.held()).items():
            had = before.get(pool, {})
            facts = {
                name: max(had.get(name, Holding()).held, holding.used - holding.refunded)
                for name, holding in after.items()
            }
            room = self.limit - outside.get(pool, self.direct[pool])
            assert sum(each.held for each in after.values()) <= max(room, sum(facts.values()))

    async def comes(self, events: int, team: str) -> None:
        at, shop = self.shop.clock.now_us(), self.shop
        data = f'{{"tokens":1,"team":"{team}"}}'
        made = [Event(f"e{next(iter(shop.numbers))}", "shop", "llm", "acme", at, data) for _ in range(events)]
        assert (await Ingest(shop.database, shop.clock).record(made)).accepted == events
        if self.capped.counts(team):
            self.direct["acme", self.capped.name, self.period] += events

    async def held(self) -> Held:
        async with self.shop.database.read() as conn:
            found = await leases.holdings(conn, [("acme", self.capped.name, period) for period in PERIODS])
        return {pool: {each.holder.id: each.holding for each in every} for pool, every in found.items()}

    async def outside(self) -> dict[PoolId, int]:
        async with self.shop.database.read() as conn:
            found = await leases.pools(conn, [("acme", self.capped.name, period) for period in PERIODS])
        return {pool: each.outside for pool, each in found.items()}

    async def check(self) -> None:
        """Whatever an agent may spend, the control plane counts; it believes no return that was not made; no alarm is false."""
        held = await self.held()
        for lessee in self.lessees.values():
            for (limit, period), counts in lessee.leases.items():
                known = held.get(("acme", limit.removeprefix("acme/"), period), {}).get(
                    (lessee.agent_id, lessee.hello_id)
                )
                known = known or Holding()
                assert counts.granted <= known.granted
                assert known.returned <= counts.returned
        for pool, outside in (await self.outside()).items():
            assert outside == self.direct[pool]
        async with self.shop.database.read() as conn:
            assert await recoveries.current(conn) is None


@pytest.mark.no_cover
@pytest.mark.parametrize("capped", [Quota, TeamBudget])
@few(6)
@given(sequence=moves)
def test_no_sequence_of_messages_grants_more_than_there_is(
    capped: type[Quota], sequence: list[tuple[str, str | None, int]]
) -> None:
    asyncio.run(_play(capped, sequence))


async def _play(capped: type[Quota], sequence: list[tuple[str, str | None, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_shop(Path(directory)) as shop:
            await shop.sell(await shop.customer("acme"), BASE, entitlements=(LIMIT,))
            await create_meter(shop.database, new_meter("split", "llm", Aggregation.COUNT, dimensions=SPLIT, now_us=0))
            world = World(shop, capped(shop))
            await world.capped.set(world.limit)
            for move in sequence:
                await world.make(*move)
                await world.check()
