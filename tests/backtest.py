"""Forecasts tried on what came afterwards: on generated usage of five kinds, and on a real trace played slowly.

`python -m tests.backtest` prints how often what came lay in the range, how far off the middle was beside a straight line
through what was used so far, and how often an alert was raised for nothing. The trace is one hour of calls; each second of
it is taken for an hour, so that its bursts last for days and there are no weeks in it: harder than what it stands for.
"""

import csv
import math
import os
import random
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from statistics import mean, median

from sidemeter_control.limits.alerts import AlertKind, Finding, foreseen
from sidemeter_control.metering.forecasts import HISTORY_HOURS, Edge, Outlook, outlook, week_hours
from sidemeter_control.metering.meters import NANO, from_nano
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.pricing.periods import Period

__all__ = ["KINDS", "TRACE", "Look", "Warned", "looks", "series", "table", "trace", "warnings"]

TRACE = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "azure-llm-2023"
KINDS = ("seasonal", "growing", "shifting", "wandering", "sparse")
FIRST = 490_896
"""The hour since 1970 in which every series begins, the midnight before a Thursday."""
LEARNT, PERIOD = 45 * 24, 30 * 24
AT = (25, 50, 75, 97)
"""How many percent of the period are over when a forecast is made."""
AMOUNTS = tuple(Decimal(each) / 100 for each in (70, 80, 90, 95, 98, 100, 102, 105, 110, 120, 130, 150))
"""Of budgets, as parts of what is used in the end: the first five are exceeded."""


@dataclass(frozen=True, slots=True)
class Look:
    """One forecast, and what came."""

    at: int
    low: Decimal
    middle: Decimal
    high: Decimal
    line: Decimal
    came: Decimal

    @property
    def held(self) -> bool:
        return self.low <= self.came <= self.high

    def off(self, guess: Decimal) -> Decimal:
        return abs(guess - self.came) / self.came


@dataclass(frozen=True, slots=True)
class Warned:
    """One budget over one period: whether it was exceeded, and how many days before that an alert said so, if it did."""

    of: Decimal
    days_before: int | None


def series(kind: str, seed: int, weeks: int = 13) -> list[int]:
    """Usage by the hour: days and weeks with a shape, noise by the hour and by the day, and what the kind says."""
    rng = random.Random(f"{kind} {seed}")
    by_hour = [0.3 + 0.7 * max(0.0, math.sin((hour - 6) / 12 * math.pi)) + rng.random() / 10 for hour in range(24)]
    by_day = [1, 1.05, 1.1, 1, 0.95, rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.6)]
    base = rng.uniform(0.05, 0.3) if kind == "sparse" else rng.choice([3, 30, 1000])
    growth = rng.uniform(-0.05, 0.08) if kind == "growing" else 0
    shifts = [(rng.randrange(weeks * 168), rng.uniform(0.6, 1.6)) for _ in range(2)] if kind == "shifting" else []
    hourly, daily, wandered, of_day, found = rng.uniform(0.1, 0.4), rng.uniform(0.03, 0.15), 0.0, 1.0, []
    for hour in range(weeks * 168):
        if hour % 24 == 0:
            of_day = math.exp(rng.gauss(0, daily))
            wandered += rng.gauss(0, 0.03) if kind == "wandering" else 0
        level = base * math.exp(growth * hour / 168 + wandered) * math.prod(by for at, by in shifts if hour >= at)
        found.append(
            _poisson(rng, level * by_hour[hour % 24] * by_day[hour // 24 % 7] * of_day * math.exp(rng.gauss(0, hourly)))
        )
    return found


def _poisson(rng: random.Random, expected: float) -> int:
    if expected > 30:
        return max(0, round(rng.gauss(expected, math.sqrt(expected))))
    count, left = 0, math.exp(-expected)
    product = rng.random()
    while product > left:
        count, product = count + 1, product * rng.random()
    return count


def trace() -> Iterator[list[int]]:
    """Calls and tokens of both real services, each second as an hour."""
    for name in ("code", "conversation"):
        with (TRACE / f"{name}.csv").open() as rows:
            read = [(_second(row["TIMESTAMP"]), int(row["GeneratedTokens"])) for row in csv.DictReader(rows)]
        calls, tokens = [0] * 3600, [0] * 3600
        for second, generated in read:
            at = second - read[0][0]
            if at < 3600:
                calls[at] += 1
                tokens[at] += generated
        yield calls
        yield tokens


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text[:19]).replace(tzinfo=UTC).timestamp())


def looks(used: Sequence[int], every: int) -> Iterator[Look]:
    """Forecasts in every period that begins `every` so many hours."""
    for begin in range(LEARNT, len(used) - PERIOD + 1, every):
        came = Decimal(sum(used[begin : begin + PERIOD]))
        for at in AT:
            now = begin + PERIOD * at // 100
            so_far, found = Decimal(sum(used[begin:now])), _outlook(used, now, begin + PERIOD)
            low, middle, high = (so_far + _nano(found, begin + PERIOD, edge) for edge in Edge)
            yield Look(at, low, middle, high, so_far * 100 / at, came)


def warnings(used: Sequence[int], every: int) -> Iterator[Warned]:
    """Budgets of several amounts in every such period, looked at once a day as an alert would."""
    for begin in range(LEARNT, len(used) - PERIOD + 1, every):
        period = Period((FIRST + begin) * HOUR_US, (FIRST + begin + PERIOD) * HOUR_US)
        came = Decimal(sum(used[begin : begin + PERIOD]))
        days, added = range(PERIOD // 4, PERIOD, 24), [0, *accumulate(used[begin : begin + PERIOD])]
        found = {
            day: (Decimal(sum(used[begin : begin + day])), _outlook(used, begin + day, begin + PERIOD)) for day in days
        }
        for part in AMOUNTS:
            amount = came * part
            said = (day for day in days if _says(*found[day], amount, period))
            first = next(said, None)
            over = min(bisect_right(added, amount), PERIOD)
            yield Warned(part, None if first is None else (over - first) // 24)


def _says(so_far: Decimal, found: Outlook, amount: Decimal, period: Period) -> bool:
    if so_far > amount:
        return False
    kind = AlertKind.FORECAST_EXCEEDS
    finding = Finding(kind=kind, what="budget:b", period_start_us=period.start_us, name="b", used=so_far, amount=amount)

    def expected(by_us: int, edge: Edge) -> Decimal:
        return so_far + from_nano(found.between(found.now_us, by_us, edge))

    return foreseen(finding, expected, period, found.now_us, "UTC") is not None


def _outlook(used: Sequence[int], now: int, end: int) -> Outlook:
    now_us, end_us = (FIRST + now) * HOUR_US, (FIRST + end) * HOUR_US
    past = {FIRST + hour: amount * NANO for hour, amount in enumerate(used[:now])}
    found = outlook(past, week_hours(now_us - HISTORY_HOURS * HOUR_US, end_us, "UTC"), now_us, end_us)
    assert isinstance(found, Outlook), found
    return found


def _nano(found: Outlook, end: int, edge: Edge) -> Decimal:
    return from_nano(found.between(found.now_us, (FIRST + end) * HOUR_US, edge))


def table(seeds: int) -> Iterator[str]:
    """The figures, a row for each kind and part of the period that is over."""
    usage = {kind: [series(kind, seed) for seed in range(seeds)] for kind in KINDS}
    every = dict.fromkeys(KINDS, 240)
    if TRACE.exists():
        usage["real trace"], every["real trace"] = list(trace()), 72
    yield f"{'usage':<12}{'over':>6}{'forecasts':>11}{'in range':>10}{'below':>8}{'above':>8}{'error':>8}{'line':>8}{'width':>8}"
    for kind, found in usage.items():
        by_at: defaultdict[int, list[Look]] = defaultdict(list)
        for used in found:
            for look in looks(used, every[kind]):
                by_at[look.at].append(look)
        for at, some in by_at.items():
            below, above = (
                sum(test(each) for each in some) / len(some)
                for test in (lambda e: e.came < e.low, lambda e: e.came > e.high)
            )
            errors = median(each.off(each.middle) for each in some), median(each.off(each.line) for each in some)
            width = median((each.high - each.low) / each.came for each in some)
            yield (
                f"{kind:<12}{at:>5}%{len(some):>11}{mean(each.held for each in some):>10.0%}{below:>8.0%}{above:>8.0%}"
                f"{errors[0]:>8.2%}{errors[1]:>8.2%}{width:>8.1%}"
            )
    yield ""
    yield f"{'alerts':<12}{'budgets':>9}{'false':>8}{'of near':>9}{'foreseen':>10}{'days before':>13}"
    for kind, found in usage.items():
        some = [each for used in found for each in warnings(used, 240)]
        kept, gone = [each for each in some if each.of >= 1], [each for each in some if each.of < 1]
        near = [each for each in kept if each.of <= Decimal("1.1")]
        false, of_near, hit = (mean(each.days_before is not None for each in part) for part in (kept, near, gone))
        before = median(each.days_before for each in gone if each.days_before is not None)
        yield f"{kind:<12}{len(some):>9}{false:>8.1%}{of_near:>9.1%}{hit:>10.1%}{before:>13.0f}"


if __name__ == "__main__":
    for line in table(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        print(line, flush=True)
