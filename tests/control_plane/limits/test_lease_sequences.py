"""Whatever happens in whatever order, what all holders have of a limit never comes to more than it, and is never forgotten."""

import asyncio
import tempfile
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from lessees import Lessee
from shop import BASE, Shop, open_shop, us

from sidemeter_control.limits.given import set_entitlement
from sidemeter_control.limits.leases import Holding
from sidemeter_control.limits.overrides import OverrideSpec
from sidemeter_control.limits.sync_messages import SyncQuestion
from sidemeter_control.limits.units import PoolId
from sidemeter_control.metering.events import Event
from sidemeter_control.metering.identity import SyncStatus
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.pricing.plans import Enforcement, EntitlementKind, EntitlementSpec
from sidemeter_control.store import leases, recoveries

PERIODS = (us("2026-11-01"), us("2026-12-01"))
LIMIT = EntitlementSpec(feature="calls", kind=EntitlementKind.METERED, limit=Decimal(20), enforcement=Enforcement.HARD)
AGENTS = ("a", "b", "c")

agent = st.sampled_from(AGENTS)
units = st.integers(1, 25)
moves = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["sync", "sync", "answer lost", "spend", "overrun"]), agent, units),
        st.tuples(st.sampled_from(["return", "hello", "old message"]), agent, units),
        st.tuples(st.sampled_from(["limit", "direct"]), st.none(), units),
        st.tuples(st.just("reset"), st.none(), st.none()),
    ),
    min_size=8,
    max_size=24,
)

Held = dict[PoolId, dict[tuple[str, str], Holding]]


class World:
    """The control plane under test, its agents, and what they really did."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.lessees = {name: Lessee(shop, name) for name in AGENTS}
        self.asked: list[tuple[Lessee, SyncQuestion]] = []
        self.unheard: dict[str, SyncQuestion] = {}
        self.limit = 20
        self.period = PERIODS[0]
        self.direct: defaultdict[PoolId, int] = defaultdict(int)

    @property
    def key(self) -> tuple[str, int]:
        return "acme/calls", self.period

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
                spec = msgspec.structs.replace(LIMIT, limit=Decimal(amount))
                await set_entitlement(
                    self.shop.database, self.shop.clock, OverrideSpec(customer="acme", entitlement=spec)
                )
            case "direct":
                await self.comes(amount)
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

    async def comes(self, events: int) -> None:
        at, shop = self.shop.clock.now_us(), self.shop
        made = [Event(f"e{next(iter(shop.numbers))}", "shop", "llm", "acme", at, '{"tokens":1}') for _ in range(events)]
        assert (await Ingest(shop.database, shop.clock).record(made)).accepted == events
        self.direct["acme", "calls", self.period] += events

    async def held(self) -> Held:
        async with self.shop.database.read() as conn:
            found = await leases.holdings(conn, [("acme", "calls", period) for period in PERIODS])
        return {pool: {each.holder.id: each.holding for each in every} for pool, every in found.items()}

    async def outside(self) -> dict[PoolId, int]:
        async with self.shop.database.read() as conn:
            found = await leases.pools(conn, [("acme", "calls", period) for period in PERIODS])
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


@settings(deadline=None, max_examples=15)
@given(moves)
def test_no_sequence_of_messages_grants_more_than_there_is(sequence: list[tuple[str, str | None, int]]) -> None:
    asyncio.run(_play(sequence))


async def _play(sequence: list[tuple[str, str | None, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_shop(Path(directory)) as shop:
            await shop.sell(await shop.customer("acme"), BASE, entitlements=(LIMIT,))
            world = World(shop)
            for move in sequence:
                await world.make(*move)
                await world.check()
