"""Agents as far as leases go: each counts what it holds as agents do, and speaks to the verbs of a control plane."""

import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec
from shop import Shop

from sidemeter_control.limits.sync import sync
from sidemeter_control.limits.sync_messages import LeaseReport, Seen, SyncAnswer, SyncQuestion
from sidemeter_control.metering.batches import NO_DIGEST, Batch, digest
from sidemeter_control.metering.identity import SyncStatus
from sidemeter_control.metering.ingest import Hello, Ingest

__all__ = ["PLENTY", "Counts", "Lessee", "Spender", "spend_all"]

PLENTY = 10**15

_ids = itertools.count(1)


@dataclass
class Counts:
    """One lease."""

    granted: int = 0
    returned: int = 0
    used: int = 0
    overrun: int = 0
    refunded: int = 0

    @property
    def free(self) -> int:
        return self.granted - self.returned - self.used + self.overrun + self.refunded


@dataclass
class Lessee:
    """One agent. `leases` are those of its present epoch, by limit and period."""

    shop: Shop
    agent_id: str = "agent-1"
    hello_id: str = ""
    epoch: int = 0
    nonce: bytes | None = None
    seen: Seen | None = None
    leases: defaultdict[tuple[str, int], Counts] = field(default_factory=lambda: defaultdict(Counts))

    async def hello(self) -> "Lessee":
        """A new epoch, with nothing."""
        self.hello_id = f"hello-{next(_ids)}"
        generation = None if self.seen is None else self.seen.generation
        said = Hello(self.agent_id, self.hello_id, "boot", "chat", "1", self.epoch or None, generation)
        begun = await Ingest(self.shop.database, self.shop.clock).hello(said)
        self.epoch, self.nonce = begun.cursor.epoch, None
        self.seen = Seen(begun.generation, 0)
        self.leases.clear()
        return self

    def question(self, want: dict[tuple[str, int], int] | None = None, **more: Any) -> SyncQuestion:
        """Its next sync, telling of all it holds and wanting so many free units of these."""
        want = want or {}
        reports = tuple(
            LeaseReport(
                *key,
                granted=(counts := self.leases[key]).granted,
                returned=counts.returned,
                used=counts.used,
                overrun=counts.overrun,
                refunded=counts.refunded,
                want_free=want.get(key, 0),
            )
            for key in sorted(self.leases.keys() | want.keys())
        )
        told = {"complete": True, "sync_id": f"sync-{next(_ids)}", "hello_id": self.hello_id, "leases": reports}
        asked = {"agent_id": self.agent_id, "epoch": self.epoch, "subjects": (), "backlog": 0} | told
        return SyncQuestion(**asked | {"nonce": self.nonce, "seen": self.seen} | more)

    async def put(self, question: SyncQuestion, now_us: int | None = None) -> SyncAnswer:
        """What the control plane answers, which the agent does not hear; by the shop's clock, if no instant is given."""
        shop = self.shop
        at_us = shop.clock.now_us() if now_us is None else now_us
        return await sync(shop.database, Ingest(shop.database, shop.clock).rollbacks, question, at_us, 1000)

    async def sync(self, want: dict[tuple[str, int], int] | None = None, **more: Any) -> SyncAnswer:
        """Ask, and take the answer."""
        return self.hear(await self.put(self.question(want, **more)))

    def hear(self, answer: SyncAnswer) -> SyncAnswer:
        """Take an answer as agents do."""
        if answer.status in {SyncStatus.OK, SyncStatus.RECOVERING}:
            for grant in answer.grants:
                counts = self.leases[grant.limit, grant.period]
                counts.granted = max(counts.granted, grant.granted)
        self.nonce, self.seen = answer.nonce, Seen(answer.generation, answer.state_version)
        return answer


@dataclass
class Spender:
    """An agent that debits events at the caps it was told, sends them later, and settles them once it hears they count."""

    agent: Lessee
    key: tuple[str, int]
    caps: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    unsent: list[tuple[str, int]] = field(default_factory=list)
    unheard: int = 0
    batches: int = 0
    last_digest: bytes = NO_DIGEST
    allowed: int = 0
    more: str = ""
    """What the data of its events says besides their tokens."""

    @property
    def counts(self) -> Counts:
        return self.agent.leases[self.key]

    async def hear(self, want: int = PLENTY) -> None:
        """A sync, in which it tells what it settled before, and settles what is counted now."""
        answer = await self.agent.sync({self.key: want}, subjects=("a",), knows_prices=True)
        (limit,) = [each for each in answer.limits if each.id == self.key[0]]
        for cap in limit.prices:
            of = cap.meter.aggregation
            self.caps[of] = Decimal(cap.per_unit), Decimal(cap.per_event)
        if answer.counted_batch_no == self.batches:
            self.counts.refunded += self.unheard
            self.counts.returned += self.unheard
            self.unheard = 0

    def price(self, tokens: int) -> int:
        found = Decimal(0)
        for of, (per_unit, per_event) in self.caps.items():
            found += per_event + per_unit * (tokens if of == "SUM" else 1)
        return int(found.scaleb(9).to_integral_value(ROUND_CEILING))

    def consume(self, tokens: int) -> bool:
        units = self.price(tokens)
        if not self.caps or units > self.counts.free:
            return False
        self.counts.used += units
        self.unsent.append((f"{self.agent.agent_id}-{self.allowed}", tokens))
        self.allowed += 1
        return True

    async def send(self) -> None:
        """What it has not sent yet, as one batch."""
        if not self.unsent or self.unheard:
            return
        at, shop = self.agent.shop.clock.now_us(), self.agent.shop
        rows = [[id_, "chat", "llm", "a", at, f'{{"tokens":{tokens}{self.more}}}'] for id_, tokens in self.unsent]
        self.unheard = sum(self.price(tokens) for _, tokens in self.unsent)
        self.unsent = []
        self.batches += 1
        body = msgspec.msgpack.encode(rows)
        own = digest(self.last_digest, body)
        batch = Batch(self.agent.agent_id, self.agent.epoch, self.batches, self.last_digest, own, body)
        assert (await Ingest(shop.database, shop.clock).batch(batch)).recorded.accepted == len(rows)
        self.last_digest = own


async def spend_all(agents: Sequence[Spender], tokens: Sequence[int], *, rounds: int) -> AsyncIterator[None]:
    """Spend all that can be had in events of so many tokens, count it, settle it, and again; yields after each round.

    Ends after two that allowed nothing and left nothing to count: each further one would be the same.
    """
    quiet = 0
    for _ in range(rounds):
        before = [each.allowed for each in agents]
        for each in agents:
            await each.send()
            await each.hear(0)
            while any(each.consume(many) for many in tokens):
                pass
            if (free := each.counts.free) > 0:
                each.counts.returned += free
            await each.hear()
        yield
        allowed = [each.allowed for each in agents] != before
        quiet = 0 if allowed or any(each.unsent or each.unheard for each in agents) else quiet + 1
        if quiet == 2:
            break
