"""The rule of the benchmarks: a figure stands only on proven totals."""

from collections.abc import Awaitable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .harness import (
    Bench,
    Benchmark,
    Figure,
    NotHere,
    Percentiles,
    Reach,
    Report,
    at_least,
    at_most,
    latency,
    measure,
    rate,
)


def counting(*, made: int, found: int | None, reference: str | None = None, name: str = "stored") -> Benchmark:
    async def benchmark(bench: Bench) -> list[Figure]:
        if found is not None:
            bench.prove("events stored", found=found, expected=made)
        return [rate(name, made, 2.0, reference=reference)]

    return benchmark


async def test_a_figure_stands_when_its_total_is_right() -> None:
    report = await measure({"store": counting(made=10, found=10)}, {}, 1)
    assert ([each.value for each in report.figures], report.failures) == ([5.0], [])


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (9, "events stored: 9 instead of 10"),
        (11, "events stored: 11 instead of 10"),
        (None, "a total is proven: False instead of True"),
    ],
    ids=["one missing", "one twice", "nothing proven"],
)
async def test_a_wrong_total_fails_the_benchmark_by_name_and_takes_no_other_with_it(found: int, reason: str) -> None:
    benchmarks = {"store": counting(made=10, found=found), "other": counting(made=4, found=4)}
    report = await measure(benchmarks, {}, 1)
    assert [(each.benchmark, each.reason) for each in report.failures] == [("store", f"WrongTotal: {reason}")]
    assert [each.value for each in report.figures] == [2.0]


async def test_a_ratio_compares_with_the_reference_of_the_same_run() -> None:
    references = {"disk": counting(made=100, found=100), "unused": counting(made=1, found=2)}
    report = await measure({"store": counting(made=10, found=10, reference="disk")}, references, 1)
    assert report.ratio(report.figures[0]) == 0.1
    assert report.failures == []


async def test_peers_stand_beside_a_figure_and_one_that_is_not_here_is_named_and_no_failure() -> None:
    async def absent(bench: Bench) -> list[Figure]:
        raise NotHere("pip install absent")

    async def ours(bench: Bench) -> list[Figure]:
        [made] = await counting(made=10, found=10, reference="disk")(bench)
        return [replace(made, peers=("other", "absent"))]

    disk, other = counting(made=100, found=100, name="a disk"), counting(made=5, found=5, name="another")
    beside = {"disk": disk, "other": other, "absent": absent}
    report = await measure({"store": ours}, beside, 1)
    assert report.ratios(report.figures[0]) == {"a disk": 0.1, "another": 2.0}
    assert (report.left_out, report.failures) == ({"absent": "pip install absent"}, [])


async def test_of_several_runs_a_figure_and_its_reference_are_the_medians_and_a_failure_of_one_is_told() -> None:
    def run(made: int, disk: int, found: int) -> Awaitable[Report]:
        ours, other = counting(made=made, found=made, reference="disk"), counting(made=1, found=found, name="other")
        return measure({"store": ours, "other": other}, {"disk": counting(made=disk, found=disk, name="a disk")}, 1)

    report = Report.median([await run(10, 100, 1), await run(20, 300, 1), await run(60, 200, 2)])
    store, other = report.figures
    assert (store.value, store.runs, report.ratio(store)) == (10, (5, 10, 30), 0.1)
    assert (other.value, other.runs) == (0.5, (0.5, 0.5))
    assert [each.benchmark for each in report.failures] == ["other"]
    assert Report.median([await run(10, 100, 1)]).figures[0].runs == ()


def test_percentiles_of_several_runs_are_the_medians_of_theirs() -> None:
    runs = [latency("ours", [each, each, each], "s") for each in (1, 5, 2)]
    assert Figure.median(runs).percentiles == Percentiles(2, 2, 2, 2, 9)


async def test_what_a_benchmark_tells_is_kept_also_where_its_total_is_wrong() -> None:
    async def telling(bench: Bench) -> list[Figure]:
        bench.told.append(f"{bench.scale.sizes} in {bench.scale.minutes:g} minutes")
        return await counting(made=1, found=2)(bench)

    report = await measure({"store": telling}, {}, 1, sizes=(5_000,), minutes=2.0)
    assert report.told == {"store": ["(5000,) in 2 minutes"]}
    assert [each.benchmark for each in report.failures] == ["store"]


def test_a_ratio_of_different_units_is_refused() -> None:
    with pytest.raises(ValueError, match="requests/s"):
        rate("ours", 1, 1.0, "requests/s").ratio_to(rate("theirs", 1, 1.0, "events/s"))


@pytest.mark.parametrize(
    ("samples", "p50", "p95", "p99", "p99_9"),
    [
        ([7], 7, 7, 7, 7),
        ([2, 1], 1, 2, 2, 2),
        (range(1, 101), 50, 95, 99, 100),
        (range(1000, 0, -1), 500, 950, 990, 999),
    ],
    ids=["one", "two", "hundred", "thousand backwards"],
)
def test_percentiles_are_by_nearest_rank(
    samples: list[float], p50: float, p95: float, p99: float, p99_9: float
) -> None:
    found = Percentiles.of(samples)
    assert (found.p50, found.p95, found.p99, found.p99_9, found.samples) == (p50, p95, p99, p99_9, len(samples))


@given(st.lists(st.integers(), min_size=1))
def test_a_percentile_is_a_sample_with_its_share_at_or_below(samples: list[int]) -> None:
    found = Percentiles.of(samples)
    for permille, value in ((500, found.p50), (950, found.p95), (990, found.p99), (999, found.p99_9)):
        assert value in samples
        assert 1000 * sum(each <= value for each in samples) >= permille * len(samples)
        assert 1000 * sum(each < value for each in samples) < permille * len(samples)


def test_a_latency_is_the_percentile_that_its_reach_bounds() -> None:
    figure = latency("answer", [0.001] * 98 + [0.5, 0.7], "ms", of="p99", reach=at_most(15))
    assert (figure.name, figure.value, figure.met) == ("answer, p99", 500.0, False)


@pytest.mark.parametrize(
    ("reach", "value", "met"),
    [(at_least(10), 10, True), (at_least(10), 9.9, False), (at_most(10), 10, True), (at_most(10), 10.1, False)],
)
def test_a_bound_is_reached_when_touched(reach: Reach, value: float, met: bool) -> None:
    assert reach.met(value) is met
