"""A leak is told from noise, and noise is not taken for a leak."""

import random

import pytest

from .trend import trend


def noisy(rise: float, seed: int, *, level: float = 100.0, noise: float = 3.0) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    return [(5.0 * n, level + rise * n / 119 + chance.gauss(0, noise)) for n in range(120)]


@pytest.mark.parametrize("seed", range(20))
def test_what_only_moves_about_does_not_grow(seed: int) -> None:
    assert not trend(noisy(0, seed)).grows(1.0)


@pytest.mark.parametrize("seed", range(20))
def test_what_leaks_under_noise_grows(seed: int) -> None:
    assert trend(noisy(40, seed)).grows(1.0)


def test_what_shrinks_does_not_grow() -> None:
    assert not trend(noisy(-40, 1)).grows(1.0)


def test_what_is_next_to_nothing_is_none_however_steady() -> None:
    steady = [(float(n), n / 100) for n in range(100)]
    assert trend(steady).grows(0.1)
    assert not trend(steady).grows(1.0)


def test_what_begins_is_no_growth() -> None:
    began = [(float(n), 50.0 if n < 20 else 100.0) for n in range(100)]
    assert trend(began).rise == 0


def test_two_samples_tell_nothing() -> None:
    with pytest.raises(ValueError, match="three"):
        trend([(0.0, 1.0), (1.0, 2.0)])
