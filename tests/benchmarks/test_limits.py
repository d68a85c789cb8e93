"""The benchmark of limits: its load is the same for every way, and its figures can tell a good one from a bad one."""

import pytest

from .limits import AGENTS, LIMIT, Chunks, Fault, Leased, Refreshed, Result, Split, faults, load, play


def test_the_same_seed_is_the_same_load_and_another_one_is_another() -> None:
    assert load(1, 2) == load(1, 2) != load(2, 2)


def test_every_figure_says_what_happened() -> None:
    assert Result(spent=LIMIT + LIMIT // 100).overspent == 1.0
    assert Result(spent=LIMIT - LIMIT // 100).unspent == 1.0
    assert Result(sent_away=1, checks=50).false_denials == 2.0
    assert Result(calls=3, all_checks=1000).calls_per_check == 0.003


@pytest.mark.parametrize("way", [Leased, Chunks, Split])
def test_what_shares_a_limit_beforehand_never_passes_it(way: type) -> None:
    result = play(way(), [[LIMIT // 800] * 45] * AGENTS)
    assert 0 < result.spent <= LIMIT


def test_a_total_that_is_read_once_in_a_while_passes_it() -> None:
    assert play(Refreshed(1), [[LIMIT // 1500] * 100] * AGENTS).spent > LIMIT


def test_the_same_seed_is_the_same_faults() -> None:
    assert faults(1) == faults(1) != faults(2)
    assert {each.kind for found in faults(1).values() for each in found} == {"cut", "killed", "rebooted"}


@pytest.mark.no_cover
def test_what_forgets_when_its_process_ends_passes_the_limit_then_and_leases_do_not() -> None:
    all_end = {40: [Fault(agent, kind) for agent in range(AGENTS) for kind in ("killed", "rebooted")]}
    checks = [[LIMIT // 800] * 60] * AGENTS
    assert play(Split(), checks, all_end).spent > LIMIT
    assert play(Leased(), checks, all_end).spent <= LIMIT


def test_an_agent_that_is_cut_off_gets_nothing_until_it_is_not() -> None:
    cut = {0: [Fault(0, "cut", 50)]}
    assert play(Leased(), [[1] * 40, *[[0] * 40] * (AGENTS - 1)], cut).spent == 0
    assert play(Leased(), [[1] * 90, *[[0] * 90] * (AGENTS - 1)], cut).spent > 0
