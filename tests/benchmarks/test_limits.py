"""The benchmark of limits: its load is the same for every way, and its figures can tell a good one from a bad one."""

import pytest

from .limits import LIMIT, Chunks, Leased, Refreshed, Result, Split, load, play


def test_the_same_seed_is_the_same_load_and_another_one_is_another() -> None:
    assert load(1, 2) == load(1, 2) != load(2, 2)


def test_every_figure_says_what_happened() -> None:
    assert Result(spent=LIMIT + LIMIT // 100).overspent == 1.0
    assert Result(spent=LIMIT - LIMIT // 100).unspent == 1.0
    assert Result(sent_away=1, checks=50).false_denials == 2.0
    assert Result(calls=3, all_checks=1000).calls_per_check == 0.003


@pytest.mark.parametrize("way", [Leased, Chunks, Split])
def test_what_shares_a_limit_beforehand_never_passes_it(way: type) -> None:
    result = play(way(), [[LIMIT // 100] * 12] * 20)
    assert 0 < result.spent <= LIMIT


def test_a_total_that_is_read_once_in_a_while_passes_it() -> None:
    assert play(Refreshed(1), [[LIMIT // 100] * 200] * 20).spent > LIMIT
