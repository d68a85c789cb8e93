"""How often what is heavy is tried: a little every time, and much more by `make soak`."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings

__all__ = ["USUAL", "few", "seeds"]

T = TypeVar("T", bound=Callable[..., Any])

USUAL: Final = 100
"""How many examples of a property are tried where nothing else is said; conftest.py has the number of a soak run."""


def few(examples: int) -> Callable[[T], T]:
    """For a property of heavy examples: so many of them are tried, and in a soak run as many times more as of the others."""

    def of(test: T) -> T:
        return pytest.mark.heavy(settings(max_examples=examples * settings().max_examples // USUAL)(test))

    return of


def seeds(few_: int, soak: int) -> list[Any]:
    """Parameters of a test that a seed unfolds: the first are tried every time, all by a soak run."""
    return [pytest.param(seed, marks=[pytest.mark.soak] * (seed >= few_)) for seed in range(soak)]
