"""The pace: whatever agents ask for, no second sees more than the announced rate, and fresh events go first."""

import heapq
import itertools
import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidemeter_control.metering.pacing import MAX_BATCH_EVENTS, MAX_TICKETS, Arrival, Entry, Pacer

RATE = 50_000


def pacer(rate: int = RATE, max_batches: int = 16) -> Pacer:
    return Pacer(rate_events_per_s=rate, max_batches=max_batches)


def come(pace: Pacer, name: str, events: int, waiting: int, now_s: float) -> float:
    """Let a batch in and out again, or how long it has to wait."""
    entry = pace.admit(Arrival(name, events, waiting), now_s)
    if entry.admitted:
        pace.finish(entry, now_s)
    return entry.wait_s


@pytest.mark.parametrize(
    ("rate", "batch"), [(10, 1), (1000, 100), (49_999, 4999), (50_000, 5000), (10_000_000, MAX_BATCH_EVENTS)]
)
def test_a_batch_is_a_tenth_of_the_rate_at_most(rate: int, batch: int) -> None:
    assert pacer(rate).max_batch_events == batch


def test_a_batch_of_an_agent_that_drains_waits_until_the_ones_before_it_have_had_their_time() -> None:
    pace = pacer()
    waits = [come(pace, str(number), 5000, 100_000, 0.0) for number in range(20)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[19] == pytest.approx(19 * 5000 / RATE, rel=0.15)


def test_an_agent_that_comes_at_its_instant_is_let_in_and_one_that_comes_early_keeps_it() -> None:
    pace = pacer()
    come(pace, "first", 5000, 100_000, 0.0)
    wait_s = come(pace, "second", 5000, 100_000, 0.0)
    assert come(pace, "second", 5000, 100_000, wait_s / 2) == pytest.approx(wait_s / 2)
    assert come(pace, "third", 5000, 100_000, wait_s / 2) > wait_s / 2
    assert come(pace, "second", 5000, 100_000, wait_s) == 0


def test_an_agent_that_does_not_come_has_to_ask_again() -> None:
    pace = pacer()
    come(pace, "first", 5000, 100_000, 0.0)
    wait_s = come(pace, "second", 5000, 100_000, 0.0)
    late_s = wait_s + 60
    come(pace, "third", 5000, 100_000, late_s)
    assert come(pace, "second", 5000, 100_000, late_s) > 0


def test_an_answer_gives_an_agent_with_more_its_next_instant_and_others_none() -> None:
    pace = pacer()
    come(pace, "one", 5000, 100_000, 0.0)
    wait_s = pace.next_wait_s("one", 95_000, 0.01)
    assert 0 < wait_s <= 0.12
    assert come(pace, "one", 5000, 95_000, 0.01 + wait_s) == 0
    assert pace.next_wait_s("one", 0, 0.2) == 0
    assert pace.next_wait_s("one", 90_000, 10.0) == 0
    assert pace.waiting_agents == 0


def test_a_fresh_batch_is_let_in_past_everybody_who_waits() -> None:
    pace = pacer()
    for number in range(500):
        come(pace, str(number), 5000, 100_000, 0.0)
    assert come(pace, "fresh", 200, 200, 0.0) == 0


def test_an_agent_that_was_up_to_date_a_moment_ago_is_fresh_however_much_it_records() -> None:
    pace = pacer()
    assert come(pace, "busy", 900, 900, 0.0) == 0
    assert pace.next_wait_s("busy", 0, 0.1) == 0
    for now_s in (0.2, 60.0):
        for number in range(50):
            come(pace, str(number), 5000, 100_000, now_s)
        assert (come(pace, "busy", 4000, 4000, now_s + 0.1) == 0) == (now_s < 1)


def test_fresh_events_beyond_the_rate_wait_for_room() -> None:
    pace = pacer(1000)
    waits = [come(pace, str(number), 20, 20, number / 1000) for number in range(60)]
    assert waits[:50] == [0] * 50
    assert all(0.9 < wait <= 1 for wait in waits[50:])


def test_while_the_door_is_full_everybody_is_sent_away_one_after_the_other() -> None:
    pace = pacer(max_batches=2)
    inside = [pace.admit(Arrival(name, 1, 1), 0.0) for name in ("a", "b")]
    assert all(entry.admitted for entry in inside)
    assert pace.is_full
    turned = [pace.admit(Arrival(str(number), 1, 1), 0.0) for number in range(2000)]
    assert all(entry.busy for entry in turned)
    assert turned[0].wait_s < turned[1].wait_s < turned[-1].wait_s <= 2
    pace.finish(inside[0], 0.0)
    assert pace.admit(Arrival("c", 1, 1), 0.0).admitted


def test_those_that_drain_leave_places_for_fresh_batches() -> None:
    pace = pacer(10_000_000, max_batches=16)
    let_in = [pace.admit(Arrival(str(number), 5000, 10**6), number / 10).admitted for number in range(20)]
    assert let_in.count(True) == 2
    assert pace.admit(Arrival("fresh", 10, 10), 2.0).admitted


def test_more_agents_than_can_have_an_instant_forget_the_oldest() -> None:
    pace = pacer()
    for number in range(MAX_TICKETS + 10):
        come(pace, str(number), 5000, 100_000, 0.0)
    assert pace.waiting_agents == MAX_TICKETS


def test_a_batch_larger_than_a_second_allows_is_taken_when_nothing_else_is() -> None:
    pace = pacer(100)
    assert come(pace, "an old agent", 5000, 5000, 0.0) == 0
    assert come(pace, "another", 2, 2, 0.5) > 0
    assert come(pace, "another", 2, 2, 1.1) == 0
    assert come(pace, "one that drains", 10, 100, 1.2) == pytest.approx(50, rel=0.1)  # what it was ahead


asked = st.tuples(
    st.integers(0, 30), st.integers(1, 5000), st.integers(0, 20_000), st.floats(0, 0.3, allow_nan=False), st.booleans()
)


@settings(max_examples=200)
@given(st.lists(asked, max_size=200), st.integers(10, 200_000))
def test_no_second_sees_more_than_the_rate_whoever_asks_whenever(
    asks: list[tuple[int, int, int, float, bool]], rate: int
) -> None:
    pace, now_s = pacer(rate), 0.0
    let_in: list[tuple[float, int]] = []
    for agent, events, behind, after_s, obeys in asks:
        now_s += after_s
        taken = min(events, pace.max_batch_events)
        wait_s = come(pace, str(agent), taken, taken + behind, now_s)
        if wait_s > 0 and obeys:
            now_s += wait_s
            wait_s = come(pace, str(agent), taken, taken + behind, now_s)
        if wait_s == 0:
            let_in.append((now_s, taken))
    assert most_in_a_second(let_in) <= rate


def most_in_a_second(let_in: list[tuple[float, int]]) -> int:
    most = total = 0
    first = 0
    for at_s, events in let_in:
        total += events
        while let_in[first][0] <= at_s - 1:
            total -= let_in[first][1]
            first += 1
        most = max(most, total)
    return most


@dataclass
class Agent:
    """An agent of the simulation. It records `rate` events a second; what it has not sent at `seen_s` is `waiting`."""

    name: str
    rate: float
    waiting: float = 0.0
    seen_s: float = 0.0
    sent_s: float = 0.0
    drained_s: float = 0.0

    def record(self, now_s: float) -> int:
        self.waiting += self.rate * (now_s - self.seen_s)
        self.seen_s = now_s
        return int(self.waiting)


@dataclass
class Outage:
    """Agents that come back together, in virtual time: a request takes a while, and batches are counted one by one. Where
    several share the `rate`, each request comes to any of them."""

    paces: list[Pacer]
    rng: random.Random
    counts_per_s: float
    let_in: list[tuple[float, int]] = field(default_factory=list)
    delays_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    requests: int = 0

    def run(self, agents: list[Agent], until_s: float) -> None:
        """Until nobody drains any more; fails if that is later than `until_s`."""
        self.numbers = itertools.count()
        self.queue: list[tuple[float, int, Agent, tuple[Entry, int, Pacer] | None]] = []
        self.draining = {agent.name for agent in agents if agent.waiting}
        self.free_s = 0.0
        for agent in agents:
            self.at(self.rng.uniform(3, 5) if agent.waiting else self.rng.uniform(0, 0.1), agent)
        while self.draining:
            now_s, _, agent, counted = heapq.heappop(self.queue)
            assert now_s < until_s, f"{len(self.draining)} agents still drain after {until_s} s"
            if counted is None:
                self.ask(agent, now_s)
            else:
                self.answer(agent, *counted, now_s)

    def at(self, at_s: float, agent: Agent, counted: tuple[Entry, int, Pacer] | None = None) -> None:
        heapq.heappush(self.queue, (at_s, next(self.numbers), agent, counted))

    def after(self, wait_s: float, agent: Agent, now_s: float) -> None:
        self.at(now_s + wait_s + self.rng.uniform(0.001, 0.02), agent)

    def ask(self, agent: Agent, now_s: float) -> None:
        waiting = agent.record(now_s)
        pace = self.paces[0] if len(self.paces) == 1 else self.rng.choice(self.paces)
        events = min(waiting, pace.max_batch_events)
        if not events:
            self.after(FLUSH_AFTER_S, agent, now_s)
            return
        self.requests += 1
        entry = pace.admit(Arrival(agent.name, events, waiting), now_s)
        if not entry.admitted:
            self.after(entry.wait_s, agent, now_s)
            return
        self.let_in.append((now_s, events))
        self.free_s = max(self.free_s, now_s) + events / self.counts_per_s
        self.at(self.free_s, agent, (entry, events, pace))

    def answer(self, agent: Agent, entry: Entry, events: int, pace: Pacer, now_s: float) -> None:
        pace.finish(entry, now_s)
        agent.waiting -= events
        self.delays_s[agent.name.partition("-")[0]].append(now_s - agent.sent_s)
        agent.sent_s = now_s
        left = agent.record(now_s)
        if left <= RATE / 50 and agent.name in self.draining:
            self.draining.discard(agent.name)
            agent.drained_s = now_s
        wait_s = pace.next_wait_s(agent.name, left, now_s)
        self.after(wait_s if left > pace.max_batch_events else max(wait_s, FLUSH_AFTER_S), agent, now_s)


FLUSH_AFTER_S = 0.5
HOUR_S = 3600


@pytest.mark.no_cover
@pytest.mark.parametrize("counts_per_s", [RATE * 1.6, RATE * 1.05], ids=["a fast machine", "one that just keeps up"])
def test_500_agents_drain_an_hour_within_the_rate_and_fresh_events_do_not_wait_for_them(counts_per_s: float) -> None:
    drains = [Agent(f"drains-{n}", 20.0, waiting=20.0 * HOUR_S) for n in range(500)]
    fresh = [Agent(f"fresh-{n}", 50.0) for n in range(40)]
    outage = Outage([pacer()], random.Random(7), counts_per_s)
    outage.run([*drains, *fresh, Agent("busy", 8000.0)], until_s=2000)

    counted = sum(events for _, events in outage.let_in)
    assert most_in_a_second(outage.let_in) <= RATE
    assert counted >= 500 * 20 * HOUR_S
    assert max(agent.drained_s for agent in drains) <= 1.25 * counted / RATE
    assert max(outage.delays_s["fresh"]) <= FLUSH_AFTER_S + 3
    assert sorted(outage.delays_s["busy"])[-len(outage.delays_s["busy"]) // 100] <= FLUSH_AFTER_S + 5
    assert outage.requests <= 2 * len(outage.let_in)


@pytest.mark.parametrize(("part", "drained", "fresh_s"), [(2, 1.1, 3), (20, 1.6, 13)])
def test_a_machine_that_counts_less_than_it_announced_is_not_overrun(part: int, drained: float, fresh_s: float) -> None:
    """Nor asked in vain: to send somebody away costs a slow machine what it has least of."""
    counts_per_s = RATE / part
    drains = [Agent(f"drains-{n}", 0.0, waiting=60_000 / part) for n in range(200)]
    fresh = [Agent(f"fresh-{n}", 20.0 / part) for n in range(20)]
    outage = Outage([pacer()], random.Random(7), counts_per_s)
    outage.run([*drains, *fresh], until_s=500)
    counted = sum(events for _, events in outage.let_in)
    assert outage.requests <= 3 * len(outage.let_in)
    assert max(agent.drained_s for agent in drains) <= drained * counted / counts_per_s + 5
    assert max(outage.delays_s["fresh"]) <= FLUSH_AFTER_S + fresh_s


def test_several_together_keep_to_the_rate_whichever_of_them_an_agent_asks() -> None:
    paces = [pacer() for _ in range(3)]
    for pace in paces:
        pace.share(3)
    drains = [Agent(f"drains-{n}", 20.0, waiting=20.0 * HOUR_S / 4) for n in range(300)]
    fresh = [Agent(f"fresh-{n}", 50.0) for n in range(40)]
    outage = Outage(paces, random.Random(7), RATE * 1.6)
    outage.run([*drains, *fresh], until_s=2000)
    counted = sum(events for _, events in outage.let_in)
    assert most_in_a_second(outage.let_in) <= RATE
    assert max(agent.drained_s for agent in drains) <= 2 * counted / RATE
    assert max(outage.delays_s["fresh"]) <= FLUSH_AFTER_S + 3
    for pace in paces:
        pace.share(1)
    assert {(pace.rate_events_per_s, pace.max_batch_events) for pace in paces} == {(RATE, 5000)}
