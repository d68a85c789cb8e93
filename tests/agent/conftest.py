"""What tests of the agent start from."""

from collections.abc import AsyncIterator

import pytest
from agent.control_plane_double import ControlPlaneDouble


@pytest.fixture
async def double() -> AsyncIterator[ControlPlaneDouble]:
    """A small control plane on a port of its own, which knows nobody yet."""
    async with ControlPlaneDouble() as control_plane:
        yield control_plane
