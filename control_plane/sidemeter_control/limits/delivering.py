"""Delivering: what is on its way to webhooks is sent, and sent again while it is not taken, a bounded number of times.

At least once: a process that ends between an answer and the note of it sends the same message again, under the same
webhook-id. When to try again is measured on a clock that nobody can set and kept in memory, so whoever starts anew tries
all that waits at once; how often it was tried is stored. A receiver that says it is gone gets nothing more, until somebody
enables it again.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.clock import Clock
from sidemeter_control.limits.posting import Posted
from sidemeter_control.limits.webhooks import (
    GONE,
    RETRY_AFTER_S,
    Delivery,
    DeliveryState,
    Webhook,
    headers_of,
    retry_after_ms,
)
from sidemeter_control.store import audit, webhooks
from sidemeter_control.store.database import Database

__all__ = ["MAX_AT_ONCE", "MAX_AT_ONCE_EACH", "MAX_WAITING", "Delivering", "Post"]

MAX_AT_ONCE: Final = 50
"""Requests under way in one turn, which lasts as long as the slowest of them."""

MAX_AT_ONCE_EACH: Final = 5
"""Of them to one webhook: one that hangs leaves room for the others."""

MAX_WAITING: Final = 10_000
"""Deliveries whose time is known; those beyond them wait in the database."""

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[Posted]]
"""Takes URL, headers and body."""


class Delivering:
    """Sends what waits. `post` is the way out."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        post: Post,
        *,
        at_once: int = MAX_AT_ONCE,
        at_once_each: int = MAX_AT_ONCE_EACH,
        most_waiting: int = MAX_WAITING,
    ) -> None:
        self._database, self._clock, self._post = database, clock, post
        self._at_once, self._at_once_each, self._most_waiting = at_once, at_once_each, most_waiting
        self._waiting: list[tuple[int, int, str]] = []
        """A heap: when (on the monotonic clock, in ms), the delivery's number, its webhook."""
        self._seen = 0

    async def once(self) -> int:
        """Try what is due; answers how many attempts were made."""
        await self._notice()
        due = self._due()
        if not due:
            return 0
        settled = False
        try:
            after = await self._tried(due)
            settled = True
        finally:
            if not settled:  # what became of them is not known: they are tried again
                for seq, webhook_id in due.items():
                    self._wait(seq, webhook_id, RETRY_AFTER_S[0] * 1_000)
        for each in after:
            delay_ms = retry_after_ms(each.attempts, self._luck())
            if each.state is DeliveryState.PENDING and delay_ms is not None:
                self._wait(each.seq, each.webhook_id, delay_ms)
        return len(after)

    async def _tried(self, due: Collection[int]) -> list[Delivery]:
        """What is still to be sent of those, after one more attempt, which is noted."""
        async with self._database.read() as conn:
            known = {each.id: each for each in await webhooks.list_all(conn)}
            pending = [each for each in await webhooks.pending(conn, due) if each.webhook_id in known]
        after = await asyncio.gather(*(self._attempt(each, known[each.webhook_id]) for each in pending))
        async with self._database.write() as conn:
            for each in after:
                await webhooks.set_outcome(conn, each)
            for webhook_id in {each.webhook_id for each in after if each.last_status == GONE}:
                await self._disable(conn, webhook_id)
        return after

    async def _disable(self, conn: AsyncConnection, webhook_id: str) -> None:
        now_us = self._clock.now_us()
        if await webhooks.disable(conn, webhook_id, now_us):
            await webhooks.give_up(conn, webhook_id, "the webhook answered 410 Gone, and is disabled", now_us)
            await audit.add(conn, now_us, audit.RECEIVER, "disableWebhook", f"webhook {webhook_id}", status=GONE)

    async def _notice(self) -> None:
        room = self._most_waiting - len(self._waiting)
        if room <= 0:
            return
        async with self._database.read() as conn:
            found = await webhooks.waiting(conn, self._seen, room)
        for seq, webhook_id in found:
            self._wait(seq, webhook_id, 0)
            self._seen = seq

    def _due(self) -> dict[int, str]:
        """What is to be tried now, with its webhook: of each only so many, the others keep their time."""
        now_ms = self._clock.monotonic_ms()
        due: dict[int, str] = {}
        each: Counter[str] = Counter()
        later: list[tuple[int, int, str]] = []
        while self._waiting and self._waiting[0][0] <= now_ms and len(due) < self._at_once:
            entry = heapq.heappop(self._waiting)
            _, seq, webhook_id = entry
            if each[webhook_id] < self._at_once_each:
                each[webhook_id] += 1
                due[seq] = webhook_id
            else:
                later.append(entry)
        for entry in later:
            heapq.heappush(self._waiting, entry)
        return due

    def _wait(self, seq: int, webhook_id: str, delay_ms: int) -> None:
        heapq.heappush(self._waiting, (self._clock.monotonic_ms() + delay_ms, seq, webhook_id))

    async def _attempt(self, delivery: Delivery, webhook: Webhook) -> Delivery:
        """The delivery after one more attempt."""
        body = delivery.body.encode()
        now_us = self._clock.now_us()
        headers = headers_of(webhook.secrets(now_us), delivery.message_id, now_us, body)
        posted = await self._post(webhook.url, headers, body)
        attempts = delivery.attempts + 1
        state = DeliveryState.PENDING
        if posted.delivered:
            state = DeliveryState.DELIVERED
        elif posted.status == GONE or retry_after_ms(attempts, 0) is None:
            state = DeliveryState.FAILED
        error = None if posted.delivered else posted.error or f"answered {posted.status}"
        return replace(
            delivery,
            state=state,
            attempts=attempts,
            last_status=posted.status,
            last_error=error,
            ended_at_us=None if state is DeliveryState.PENDING else self._clock.now_us(),
        )

    def _luck(self) -> int:
        return int(self._clock.new_id("luck").rpartition("_")[2], 16)
