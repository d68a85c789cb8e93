"""LLM-like traffic, and the books kept beside it: what was acknowledged, by whom, and when.

The calls come from a seeded random source, or from a trace in the form of Microsoft's Azure LLM inference traces
(`TIMESTAMP,ContextTokens,GeneratedTokens`). Each door has lanes of its own; a lane sends one call after the other.
"""

import asyncio
import csv
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx

from demo_parts.catalogue import CUSTOMERS
from demo_parts.programs import DemoFailed
from sidemeter import Client, Event

__all__ = ["Books", "Call", "Traffic", "generated", "traced"]

MAX_TRACE_ROWS = 1_000_000
CHAT_PER_S, TRIAL_PER_S, BATCH_PER_S = 12.0, 8.0, 250.0
CHAT_SHARE = 40  # of a trace, one call in so many goes to each chat lane
ARRAY_EVERY_S, MAX_ARRAY = 0.1, 1000
MAX_CONTEXT_TOKENS, MAX_OUTPUT_TOKENS = 8000, 1000


class Call(NamedTuple):
    """One call to a language model, `at_s` seconds after the start."""

    at_s: float
    model: str
    input_tokens: int
    output_tokens: int


def generated(seed: int, calls_per_s: float) -> Iterator[Call]:
    """Calls without end: random arrivals, and the long tail of sizes that real traces have."""
    source = random.Random(seed)
    at_s = 0.0
    while True:
        at_s += source.expovariate(calls_per_s)
        yield Call(
            at_s,
            source.choices(("small", "large"), (4, 1))[0],
            min(1 + int(source.lognormvariate(6.8, 1.0)), MAX_CONTEXT_TOKENS),
            min(1 + int(source.lognormvariate(4.8, 0.9)), MAX_OUTPUT_TOKENS),
        )


def traced(path: Path, lasts_s: float) -> list[Call]:
    """A trace's calls, its time stretched or squeezed to `lasts_s` seconds; raises DemoFailed when it is none."""
    try:
        with path.open(newline="") as file:
            rows = list(itertools.islice(csv.DictReader(file), MAX_TRACE_ROWS))
        at = [datetime.fromisoformat(row["TIMESTAMP"]) for row in rows]
        length = at[-1] - at[0]
        return [
            Call(lasts_s * ((when - at[0]) / length), "traced", int(row["ContextTokens"]), int(row["GeneratedTokens"]))
            for when, row in zip(at, rows, strict=True)
        ]
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as exc:
        raise DemoFailed(f"{path} is no trace of TIMESTAMP,ContextTokens,GeneratedTokens in order: {exc!r}") from exc


@dataclass(slots=True)
class Account:
    """What one customer got an answer for."""

    requests: int = 0
    refused: int = 0
    completions: int = 0
    input_tokens: int = 0
    output_tokens: Counter[str] = field(default_factory=Counter)
    last_answer: str = ""

    @property
    def events(self) -> int:
        """How many events that makes: one a request, one a completion."""
        return self.requests + self.completions


class Books:
    """The demo's own bookkeeping, which the control plane's has to equal."""

    def __init__(self) -> None:
        self.accounts = {customer: Account() for customer in CUSTOMERS}
        self._uncounted_since: deque[float] = deque()
        self._counted = 0

    @property
    def events(self) -> int:
        """How many events were acknowledged."""
        return sum(account.events for account in self.accounts.values())

    def completed(self, customer: str, call: Call) -> None:
        """A completion of `customer` was acknowledged."""
        account = self.accounts[customer]
        account.completions += 1
        account.input_tokens += call.input_tokens
        account.output_tokens[call.model] += call.output_tokens
        self._uncounted_since.append(time.monotonic())

    def answered(self, customer: str, call: Call) -> None:
        """The service answered `customer`: a request and a completion were acknowledged."""
        self.completed(customer, call)
        self.accounts[customer].requests += 1
        self._uncounted_since.append(time.monotonic())

    def lag_s(self, counted: int) -> float:
        """How long the oldest acknowledged event has waited, now that `counted` are counted."""
        while self._counted < counted and self._uncounted_since:
            self._uncounted_since.popleft()
            self._counted += 1
        return time.monotonic() - self._uncounted_since[0] if self._uncounted_since else 0.0


class Traffic:
    """Plays calls through both doors until `stop` is set, and keeps the books."""

    def __init__(
        self, service: httpx.AsyncClient, sidecar: Client, stop: asyncio.Event, trace: list[Call] | None = None
    ) -> None:
        self.service = service
        self.sidecar = sidecar
        self.stop = stop
        self.trace = trace
        self.books = Books()
        self._started = time.monotonic()

    async def play(self) -> None:
        """All lanes, until the trace ends or `stop` is set."""
        trace, trial = self.trace, generated(1, TRIAL_PER_S)
        if trace is None:
            acme, globex, batch = generated(2, CHAT_PER_S), generated(3, CHAT_PER_S), generated(4, BATCH_PER_S)
        else:
            acme, globex = iter(trace[0::CHAT_SHARE]), iter(trace[1::CHAT_SHARE])
            batch = (call for n, call in enumerate(trace) if n % CHAT_SHARE > 1)
            trial = itertools.takewhile(lambda call: call.at_s < trace[-1].at_s, trial)
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as lanes:
            for customer, chats in (("initech", trial), ("acme", acme), ("globex", globex)):
                lanes.create_task(self._chat(customer, chats))
            lanes.create_task(self._batch(batch))

    async def _chat(self, customer: str, calls: Iterator[Call]) -> None:
        """Requests to the sample service, which has its agent in process."""
        account = self.books.accounts[customer]
        for call in calls:
            if not await self._due(call.at_s):
                return
            body = {"model": call.model, "prompt": "la " * call.input_tokens, "max_tokens": call.output_tokens}
            answer = await self.service.post("/chat", json=body, headers={"X-Customer": customer})
            if answer.status_code == 200:
                self.books.answered(customer, call)
                account.last_answer = "200"
            elif answer.status_code == 429:
                account.refused += 1
                account.last_answer = f"429 {answer.json()['code']}"
            else:
                raise DemoFailed(f"the service answered {answer.status_code}: {answer.text[:500]}")

    async def _batch(self, calls: Iterator[Call]) -> None:
        """Arrays of completions to the sidecar, for the two customers in turn, as a nightly job would."""
        customers = itertools.cycle(("acme", "globex"))
        upcoming = next(calls, None)
        for tick in itertools.count(1):
            if upcoming is None or not await self._due(tick * ARRAY_EVERY_S):
                return
            array: list[tuple[str, Call]] = []
            while upcoming is not None and upcoming.at_s <= tick * ARRAY_EVERY_S and len(array) < MAX_ARRAY:
                array.append((next(customers), upcoming))
                upcoming = next(calls, None)
            if array:
                await self.sidecar.record_many([completion(customer, call) for customer, call in array])
            for customer, call in array:
                self.books.completed(customer, call)

    async def _due(self, at_s: float) -> bool:
        """Wait until it is time for a call. False: the demo is over."""
        try:
            async with asyncio.timeout(max(0.0, self._started + at_s - time.monotonic())):
                await self.stop.wait()
        except TimeoutError:
            return not self.stop.is_set()
        return False


def completion(customer: str, call: Call) -> Event:
    """A call as an event."""
    usage = {"model": call.model, "input_tokens": call.input_tokens, "output_tokens": call.output_tokens}
    return Event.of("llm.completion", customer, usage)
