"""Enforcing: may this happen? From memory, and as one step with the record of it."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

import msgspec

from sidemeter.events import Event, Receipt
from sidemeter.limits import Decision, Limits
from sidemeter.meters import check_quantity
from sidemeter.settings import Settings

__all__ = ["Enforcer"]

Admit = Callable[[Sequence[Event]], Awaitable[bool]]
Record = Callable[[Sequence[Event]], Awaitable[list[Receipt]]]
Holds = Callable[[str, str], Awaitable[bool]]
Learn = Callable[[str, float], Awaitable[bool]]


class Enforcer:
    """Decides by the limits known. `hurry` is called when a subject is not known yet.

    `admit` waits for room in the buffer, and tells whether it took time; `record` takes what was admitted at once.
    """

    def __init__(
        self,
        limits: Limits,
        settings: Settings,
        *,
        admit: Admit,
        record: Record,
        holds: Holds,
        learn: Learn,
        hurry: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._settings = settings
        self._admit = admit
        self._record = record
        self._holds = holds
        self._learn = learn
        self._hurry = hurry
        self.checks = 0
        self.denials = 0

    def check(self, subject: str, feature: str, quantity: int | Decimal = 1) -> Decision:
        """Whether `subject` may use `quantity` more of `feature`; no input or output takes part."""
        decision = self._limits.check(subject, feature, check_quantity(quantity))
        self.checks += 1
        if not decision.allowed:
            self.denials += 1
        if decision.reason == "unknown_subject":
            self._hurry()
        return decision

    async def consume(self, event: Event) -> Decision:
        """Record the event if every metered limit that takes it allows it.

        Between the decision and the debit nothing else runs, so concurrent calls never spend the same rest twice; the
        debit is taken back if the event is not stored, or was there before.
        """
        if not self._limits.knows(event.subject):
            await self._learn(event.subject, self._settings.first_check_wait_s)
        decision = self._limits.weigh(event)
        if decision.allowed and await self._admit((event,)):
            decision = self._limits.weigh(event)  # who waited for room was overtaken by those who were there before
        self.checks += 1
        if decision.allowed:
            (receipt,) = await self._record((event,))
            return msgspec.structs.replace(decision, receipt=receipt)
        source = event.source or self._settings.service
        if event.id is not None and await self._holds(source, event.id):  # it was allowed then, so it is now
            receipt = Receipt(event.id, source, duplicate=True)
            return msgspec.structs.replace(decision, allowed=True, reason="within_limit", receipt=receipt)
        self.denials += 1
        return decision
