"""What holds for every test."""

import asyncio
import sys
import threading
from collections.abc import Generator, Iterator
from typing import Any

import postgres as servers
import pytest
from citus import Spread
from heavy import USUAL
from hypothesis import settings

# No test asserts a time: how long an example takes says how busy the machine is.
settings.register_profile("here", deadline=None, max_examples=USUAL)
settings.register_profile("soak", deadline=None, max_examples=20 * USUAL)
settings.load_profile("here")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Trace nothing of a test marked `no_cover`: in a worker pytest-cov has begun twice, and pauses once."""
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    traced, traced_in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    try:
        return (yield)
    finally:
        threading.settrace(traced_in_threads)
        sys.settrace(traced)


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    """A PostgreSQL server for all tests of one process."""
    if servers.programs() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with servers.running() as server:
        asyncio.run(server.prepare())
        yield server


@pytest.fixture(scope="session")
def spread(postgres: servers.Server) -> Spread:
    """The same server, for databases whose tables have the keys of shards."""
    server = Spread(postgres)
    asyncio.run(server.prepare())
    return server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_databases` are run on SQLite and on PostgreSQL, those marked `postgres` on that alone; those marked
    `spread` on one with the keys of shards as well."""
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    kinds = ["sqlite", "postgres"] if "both_databases" in marked else ["postgres"] if "postgres" in marked else []
    if "spread" in marked:
        kinds = [*(kinds or ["sqlite"]), "spread"]
    if kinds:
        metafunc.parametrize("kind", kinds, indirect=True)


@pytest.fixture(autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of which kind the databases of this test are."""
    asked = getattr(request, "param", "sqlite")
    with servers.in_use(None if asked == "sqlite" else request.getfixturevalue(asked)):
        yield asked
