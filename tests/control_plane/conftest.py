"""What tests of the control plane start from."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from planes import open_database
from postgres import Kind, Server

from sidemeter_control.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A new database, migrated."""
    async with open_database(tmp_path) as opened:
        yield opened


@pytest.fixture
def server() -> Server:
    """The PostgreSQL that the databases of this test are on."""
    assert Kind.server is not None
    return Kind.server
