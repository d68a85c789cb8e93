"""Which fixed seeds of a kind every run of the tests plays, and which are left to the soak run."""

from typing import Any

import pytest

__all__ = ["seeds"]


def seeds(count: int) -> list[Any]:
    """Parameters for a test: the first seed is always played, the others by `make soak`."""
    return [pytest.param(n, marks=[pytest.mark.soak] if n else []) for n in range(count)]
