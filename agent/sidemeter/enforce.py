"""Enforcing: may this happen? From memory, and as one step with the record of it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from sidemeter.clock import Clock
from sidemeter.debits import Take
from sidemeter.events import Event, Receipt
from sidemeter.leases import Amounts, Lease, Leases, Verdict
from sidemeter.limits import Decision, Limits
from sidemeter.meters import check_quantity
from sidemeter.settings import Settings

__all__ = ["Enforcer"]

_NOTHING: Final[Amounts] = ()

Admit = Callable[[Sequence[Event]], Awaitable[bool]]
Holds = Callable[[str, str], Awaitable[bool]]
Learn = Callable[[str, float], Awaitable[bool]]
Turn = Callable[[float], Awaitable[bool]]


class Record(Protocol):
    """Take events that were admitted, `paid` what they take of leases; receipts once they are durable."""

    def __call__(self, events: Sequence[Event], *, paid: bool) -> Awaitable[list[Receipt]]:
        """Take them before anything else happens."""


class Enforcer:
    """Decides by the limits known. `hurry` is called when a subject is not known yet, or a lease is short.

    `admit` waits for room in the buffer, and tells whether it took time; `record` takes what was admitted at once. `turn`
    waits for the next answer of the control plane, which may bring a grant; `keep` keeps what was debited of leases.
    """

    def __init__(
        self,
        limits: Limits,
        settings: Settings,
        clock: Clock,
        *,
        admit: Admit,
        record: Record,
        holds: Holds,
        learn: Learn,
        turn: Turn,
        keep: Callable[[Iterable[Lease]], None],
        hurry: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._debits = limits.debits
        self._settings = settings
        self._clock = clock
        self._admit = admit
        self._record = record
        self._holds = holds
        self._learn = learn
        self._turn = turn
        self._keep = keep
        self._hurry = hurry
        self.checks = 0

    def check(self, subject: str, feature: str, quantity: int | Decimal = 1) -> Decision:
        """Whether `subject` may use `quantity` more of `feature`; no input or output takes part."""
        decision = self._look(subject, feature, check_quantity(quantity))
        self.checks += 1
        if not decision.allowed:
            self._limits.denied(decision)
        return decision

    async def ask(self, subject: str, feature: str, quantity: int | Decimal, wait_s: float | None) -> Decision:
        """`check`, once the limits are known and a grant had `wait_s` to come, if it takes one."""
        quantity, ends_s = check_quantity(quantity), self._ends_s(wait_s)
        decision = self._look(subject, feature, quantity)
        if decision.reason == "unknown_subject" and await self._learn(subject, self._left_s(ends_s)):
            decision = self._look(subject, feature, quantity)
        while decision.wait_s and await self._turn(self._left_s(ends_s)):
            decision = self._look(subject, feature, quantity)
        self.checks += 1
        if not decision.allowed:
            self._limits.denied(decision)
        return decision

    async def consume(self, event: Event, wait_s: float | None = None) -> Decision:
        """Record the event if every metered limit that takes it allows it.

        Between the debit and the record nothing else runs, so concurrent calls never spend the same rest twice; the debit
        is taken back if the event is not stored, or was there before. What is debited of leases is kept before that.
        """
        event = await self._prepared(event, wait_s)
        decision, _ = await self._take(event, Leases.spend, wait_s, lambda: self._admit((event,)))
        self.checks += 1
        if decision.allowed:
            (receipt,) = await self._record((event,), paid=True)
            return msgspec.structs.replace(decision, receipt=receipt)
        source = event.source or self._settings.service
        if event.id is not None and await self._holds(source, event.id):  # it was allowed then, so it is now
            receipt = Receipt(event.id, source, duplicate=True)
            return msgspec.structs.replace(decision, allowed=True, reason="within_limit", receipt=receipt)
        self._limits.denied(decision)
        return decision

    async def reserve(
        self, event: Event, hold_id: str, deadline_ms: int, wait_s: float | None = None
    ) -> tuple[Decision, Amounts]:
        """Set aside what the event takes of each leased limit, and tell it; nothing is recorded. It waits as `consume`."""

        def take(leases: Leases, amounts: Amounts) -> Verdict:
            return leases.reserve(hold_id, amounts, deadline_ms)

        decision, amounts = await self._take(await self._prepared(event, wait_s), take, wait_s)
        self.checks += 1
        if not decision.allowed:
            self._limits.denied(decision)
        return decision, amounts

    async def _prepared(self, event: Event, wait_s: float | None) -> Event:
        """The event, once its subject is known, at the present of the limits that it is debited from: a slow clock does
        not put it before that."""
        if not self._limits.knows(event.subject):
            await self._learn(event.subject, self._settings.first_check_wait_s if wait_s is None else wait_s)
        begins_us = self._limits.begins_us(event.subject)
        if event.time_us is not None or not begins_us:
            return event
        return msgspec.structs.replace(event, time_us=max(self._clock.now_us(), begins_us))

    async def _take(
        self, event: Event, take: Take, wait_s: float | None, admit: Callable[[], Awaitable[object]] | None = None
    ) -> tuple[Decision, Amounts]:
        """Take what an event takes of its limits, once a grant had its time to come and there is room for it."""
        ends_s = self._ends_s(wait_s)
        decision, amounts = self._weigh(event), _NOTHING
        while decision.allowed or (decision.wait_s and await self._turn(self._left_s(ends_s))):
            if not decision.allowed:
                decision = self._weigh(event)
                continue
            if admit is not None:
                await admit()
            decision, amounts = self._spend(event, take)  # who waited was overtaken by those who came before
            if decision.allowed:
                break
        return decision, amounts

    def _look(self, subject: str, feature: str, quantity: int | Decimal) -> Decision:
        decision = self._limits.check(subject, feature, quantity, self._clock.now_us())
        if decision.reason == "unknown_subject" or self._debits.hurries:
            self._hurry()
        return decision

    def _weigh(self, event: Event) -> Decision:
        decision = self._limits.weigh(event)
        if self._debits.hurries:
            self._hurry()
        return decision

    def _spend(self, event: Event, take: Take) -> tuple[Decision, Amounts]:
        decision, amounts = self._limits.spend(event, take)
        self._keep(lease for lease, _ in amounts)
        if self._debits.hurries:
            self._hurry()
        return decision, amounts

    def _ends_s(self, wait_s: float | None) -> float:
        return self._clock.monotonic_s() + (self._settings.first_check_wait_s if wait_s is None else wait_s)

    def _left_s(self, ends_s: float) -> float:
        return max(ends_s - self._clock.monotonic_s(), 0.0)
