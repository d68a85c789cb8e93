"""Queries made to take time or memory, over a socket: nothing of one that is refused runs, and the memory stays."""

from pathlib import Path

from processes import ControlPlane

from faults.queries import queries, send
from faults.test_bombs import MIB, peak_bytes

MAX_GROWTH_BYTES = 64 * MIB


async def test_each_hostile_query_is_refused_before_it_runs_or_is_small_after_all(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as plane:
        async with plane.http:
            await plane.start()
            before = peak_bytes(plane)
            wrong = []
            for each in queries():
                said = await send(plane.http, f"{plane.url}/graphql", each)
                if said.ran is not each.runs or said.code == "INTERNAL" or said.status >= 500:
                    wrong.append((each.name, said))
            assert wrong == []
            assert await plane.ready()
            assert peak_bytes(plane) - before < MAX_GROWTH_BYTES
