"""What holds for every test."""

from collections.abc import Iterator

import postgres as servers
import pytest
from hypothesis import settings

# No test asserts a time: how long an example takes says how busy the machine is.
settings.register_profile("here", deadline=None)
settings.load_profile("here")


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    """A PostgreSQL server of this session's own."""
    if servers.programs() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with servers.running() as server:
        yield server
