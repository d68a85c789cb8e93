"""What tests of the control plane start from."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from planes import Kind, open_database

from sidemeter_control.store.database import Database


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_databases` are run on SQLite and on PostgreSQL, those marked `postgres` on that alone."""
    if metafunc.definition.get_closest_marker("both_databases"):
        metafunc.parametrize("kind", ["sqlite", "postgres"], indirect=True)
    elif metafunc.definition.get_closest_marker("postgres"):
        metafunc.parametrize("kind", ["postgres"], indirect=True)


@pytest.fixture(autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of which kind the databases of this test are."""
    asked = getattr(request, "param", "sqlite")
    Kind.server = request.getfixturevalue("postgres") if asked == "postgres" else None
    yield asked
    Kind.server = None


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A new database, migrated."""
    async with open_database(tmp_path) as opened:
        yield opened
