"""Pacing: when each agent may send its next batch, so that all together keep to the announced rate (P14). Pure rules.

Fresh events go first: a batch of an agent that has little waiting, or had a moment ago, is let in whenever the rate has
room for it. What agents drain after an outage waits in one line, each batch at an instant of its own, and the line is as fast as fresh
events leave it room to be. Instants are seconds of a clock that never steps back; nothing here reads one.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from math import exp, inf
from typing import TypeVar

__all__ = ["MAX_BATCH_EVENTS", "MAX_TICKETS", "Arrival", "Entry", "Pacer"]

T = TypeVar("T")

MAX_BATCH_EVENTS = 5_000
"""Events of one batch: what is counted in one transaction, during which no other agent is answered."""
MAX_TICKETS = 10_000
"""Agents that can have an instant of their own, or be known as up to date; one more takes the place of the oldest."""

_WINDOW_S = 1.0
_BATCHES_PER_S = 10
"""A batch is a tenth of the rate at most, so that the rate is kept within each second and not only on average."""
_FRESH_PART = 50
"""An agent whose waiting events are this part of the rate, or a fifth of a batch, is up to date."""
_FRESH_FOR_S = 5.0
"""How long an agent that was up to date stays so, however much it records: it sends many times within that."""
_KEPT_FREE = 0.05
"""Of the rate, for fresh events beyond those that were seen to come; or one batch, as large as they come."""
_FRESH_OVER_S = 2.0
"""What fresh events come in a second is told by so many: their batches are large and few, or small and many."""
_SLOWEST_LINE = 0.1
"""Of the rate: fresh events alone, however many, do not stop those that wait."""
_LINE_SLACK = 0.97
"""The line goes a little slower than its bound, because batches come later than at their instants, never earlier."""
_DRAIN_PART = 8
"""Of the places inside, for batches that drain: one is counted while the next is read, and fresh ones wait for few."""
_EARLY_S = 0.02
"""How much earlier than its instant a batch is let in: clocks and networks are not exact."""
_LATE_S = 30.0
"""An agent that does not come within this time after its instant has to ask for a new one."""
_TAKES_OVER = 2
"""Batches over which it is learned how long one that drains takes: a machine that is slow now is quick again soon."""
_BUSY_S, _BUSY_STEP_S, _LONGEST_BUSY_S = 0.1, 0.001, 2.0
"""When to come back while too many batches are worked on; each agent a little after the one before it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch at the door: whose it is, its events, and all that wait with its agent, these included."""

    agent_id: str
    events: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What the door answers: come in (`wait_s` 0) `at_s`, or come back after that; `busy` if too many are inside."""

    wait_s: float = 0.0
    busy: bool = False
    drains: bool = False
    at_s: float = 0.0

    @property
    def admitted(self) -> bool:
        """Whether the batch is let in; then `finish` has to be told when it is answered."""
        return self.wait_s == 0.0


@dataclass(frozen=True, slots=True)
class _Ticket:
    at_s: float
    events: int


class Pacer:
    """One control plane's pace: `rate_events_per_s` from all agents, `max_batches` inside at any moment.

    >>> pacer = Pacer(rate_events_per_s=1000, max_batches=4)
    >>> [pacer.admit(Arrival(name, 100, 10_000), 0.0).admitted for name in ("one", "two")]
    [True, False]
    """

    def __init__(self, *, rate_events_per_s: int, max_batches: int) -> None:
        self.announced_events_per_s = rate_events_per_s
        self._shared_by = 0
        self.share(1)
        self._max_batches = max_batches
        self._max_drains = max(max_batches // _DRAIN_PART, 1)
        self._inside = 0
        self._drains_inside = 0
        self._drain_takes_s = 0.0
        self._window: deque[tuple[float, int, bool]] = deque()
        self._fresh = 0
        self._drained = 0
        self._fresh_per_s = 0.0
        self._largest_fresh = 0.0
        self._seen_s = -inf
        self._line_free_s = -inf
        self._come_back_s = -inf
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()
        self._fresh_until_s: OrderedDict[str, float] = OrderedDict()

    def share(self, control_planes: int) -> None:
        """Keep to this one's part of the announced rate: so many together keep to all of it, whoever asks which of them."""
        if control_planes == self._shared_by:
            return
        self._shared_by = control_planes
        rate = self.rate_events_per_s = max(self.announced_events_per_s // control_planes, 1)
        self.max_batch_events = min(MAX_BATCH_EVENTS, max(rate // _BATCHES_PER_S, 1))
        self._fresh_events = max(min(rate // _FRESH_PART, self.max_batch_events // 5), 1)

    @property
    def inside(self) -> int:
        """Batches that were let in and are not answered yet."""
        return self._inside

    @property
    def waiting_agents(self) -> int:
        """Agents that have been given an instant at which to come."""
        return len(self._tickets)

    @property
    def is_full(self) -> bool:
        """Whether nothing is let in now."""
        return self._inside >= self._max_batches

    def admit(self, arrival: Arrival, now_s: float) -> Entry:
        """Let the batch in, or say when to come back with it."""
        self._see(now_s)
        drains = arrival.waiting > self._fresh_events and not self._is_up_to_date(arrival.agent_id, now_s)
        if self.is_full:
            line_s = self._instant_wait_s(arrival, now_s) if drains else 0.0
            return Entry(max(self._busy_s(now_s), line_s), busy=True)
        wait_s = self._line_wait_s(arrival, now_s) if drains else self._room_wait_s(arrival.events, now_s)
        if wait_s > 0:
            return Entry(wait_s, drains=drains)
        self._inside += 1
        self._drains_inside += drains
        self._window.append((now_s, arrival.events, drains))
        if drains:
            self._drained += arrival.events
        else:
            self._fresh += arrival.events
            self._fresh_per_s += arrival.events / _FRESH_OVER_S
            self._largest_fresh = max(self._largest_fresh, arrival.events)
        return Entry(drains=drains, at_s=now_s)

    def finish(self, entry: Entry, now_s: float) -> None:
        """A batch that was let in is answered."""
        self._inside -= 1
        self._drains_inside -= entry.drains
        if entry.drains:
            self._drain_takes_s += (now_s - entry.at_s - self._drain_takes_s) / _TAKES_OVER

    def next_wait_s(self, agent_id: str, waiting: int, now_s: float) -> float:
        """How long an agent with so many events left waits before its next batch; it gets an instant of its own."""
        self._tickets.pop(agent_id, None)
        up_to_date = self._is_up_to_date(agent_id, now_s)
        if waiting <= (self.max_batch_events if up_to_date else self._fresh_events):
            _put(self._fresh_until_s, agent_id, now_s + _FRESH_FOR_S)
            return 0.0
        if up_to_date or self._line_free_s <= now_s:
            return 0.0
        return self._queue(agent_id, min(waiting, self.max_batch_events), now_s)

    def _is_up_to_date(self, agent_id: str, now_s: float) -> bool:
        return now_s < self._fresh_until_s.get(agent_id, -inf)

    def _line_wait_s(self, arrival: Arrival, now_s: float) -> float:
        agent_id, events = arrival.agent_id, arrival.events
        ticket = self._tickets.get(agent_id)
        if ticket is not None and now_s > ticket.at_s + _LATE_S:
            ticket = None
        if ticket is not None and now_s < ticket.at_s - _EARLY_S:
            return ticket.at_s - now_s
        is_taken = ticket is None and self._line_free_s > now_s + _EARLY_S
        if is_taken or self._drains_inside >= self._max_drains:
            return self._queue(agent_id, events, now_s)
        if ticket is None:
            self._line_free_s = max(self._line_free_s, now_s) + self._line_step_s(events)
        wait_s = max(self._room_wait_s(events, now_s), self._drain_wait_s(events, now_s))
        if wait_s > 0:
            _put(self._tickets, agent_id, _Ticket(now_s + wait_s, events))
        else:
            self._tickets.pop(agent_id, None)
        return wait_s

    def _instant_wait_s(self, arrival: Arrival, now_s: float) -> float:
        """How long until the instant of an agent that drains: the one that it has, or one that it gets now."""
        ticket = self._tickets.get(arrival.agent_id)
        if ticket is not None and ticket.at_s > now_s:
            return ticket.at_s - now_s
        return self._queue(arrival.agent_id, arrival.events, now_s)

    def _queue(self, agent_id: str, events: int, now_s: float) -> float:
        at_s = max(self._line_free_s, now_s)
        self._line_free_s = at_s + self._line_step_s(events)
        _put(self._tickets, agent_id, _Ticket(at_s, events))
        return max(at_s - now_s, _EARLY_S)

    def _line_step_s(self, events: int) -> float:
        """How long after one batch the next is due: by the rate, and by how fast batches are really counted.

        On a slow machine, or a slow disk, whoever came by the rate alone would be sent away again and again, and what
        that costs makes it slower still.
        """
        return max(events / self._line_rate, self._drain_takes_s / self._max_drains)

    @property
    def _line_bound(self) -> float:
        """Drained events that one second may see."""
        rate = self.rate_events_per_s
        left = rate - self._fresh_per_s - max(rate * _KEPT_FREE, self._largest_fresh)
        return max(left, rate * _SLOWEST_LINE, self.max_batch_events)

    @property
    def _line_rate(self) -> float:
        return self._line_bound * _LINE_SLACK

    def _room_wait_s(self, events: int, now_s: float) -> float:
        """How long until the rate has room for so many; 0 when it has, or when nothing more can leave the window."""
        return self._until_s(self._fresh + self._drained + events - self.rate_events_per_s, now_s, drains_only=False)

    def _drain_wait_s(self, events: int, now_s: float) -> float:
        return self._until_s(self._drained + events - self._line_bound, now_s, drains_only=True)

    def _until_s(self, too_many: float, now_s: float, *, drains_only: bool) -> float:
        if too_many <= 0:
            return 0.0
        for at_s, events, drains in self._window:
            if drains or not drains_only:
                too_many -= events
                if too_many <= 0:
                    return max(at_s + _WINDOW_S - now_s, _EARLY_S)
        return 0.0

    def _busy_s(self, now_s: float) -> float:
        after_s = max(self._come_back_s, now_s + _BUSY_S) + _BUSY_STEP_S
        self._come_back_s = min(after_s, now_s + _LONGEST_BUSY_S)
        return self._come_back_s - now_s

    def _see(self, now_s: float) -> None:
        """Let go of what the last second does not hold any more, and slowly of what fresh events were like before."""
        fade = exp((self._seen_s - now_s) / _FRESH_OVER_S)
        self._fresh_per_s *= fade
        self._largest_fresh *= fade
        self._seen_s = now_s
        while self._window and self._window[0][0] <= now_s - _WINDOW_S:
            _, events, drains = self._window.popleft()
            if drains:
                self._drained -= events
            else:
                self._fresh -= events


def _put(known: OrderedDict[str, T], agent_id: str, value: T) -> None:
    known[agent_id] = value
    known.move_to_end(agent_id)
    if len(known) > MAX_TICKETS:
        known.popitem(last=False)
