"""A control plane without room on its disk, without file descriptors, with a clock that is wrong by decades."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import disks
import httpx
import pytest
from fakes import eventually
from processes import AgentProcess, ControlPlane, run

from faults.limited import with_only

MIB = 1 << 20
USAGE = """{ usage(meter: "calls", from: "1970-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z") { value events } }"""
FAKETIME = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
_numbers = itertools.count()


@asynccontextmanager
async def running(plane: ControlPlane) -> AsyncIterator[ControlPlane]:
    """The control plane, with a meter that counts calls."""
    with plane:
        async with plane.http:
            await plane.start()
            await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
            yield plane


async def post(plane: ControlPlane, count: int = 1, size: int = 10, **more: str) -> httpx.Response:
    events = [
        {"id": f"e{next(_numbers)}", "type": "call", "subject": "acme", "data": {"x": "x" * size}} | more
        for _ in range(count)
    ]
    return await plane.http.post(f"{plane.url}/v1/events", json=events)


async def used(plane: ControlPlane) -> int:
    rows = (await plane.ask(USAGE))["usage"]
    return int(rows[0]["value"]) if rows else 0


async def test_a_full_disk_refuses_events_and_answers_questions_and_is_recovered_from_without_a_restart(
    tmp_path: Path,
) -> None:
    with disks.tmpfs(tmp_path / "disk", 24 * MIB) as disk:
        async with running(ControlPlane(disk)) as plane:
            accepted = 0
            for size in (24 * MIB, 36 * MIB):
                disks.remount(disk, f"size={size}")
                while (answer := await post(plane, 100, 5_000)).status_code == 202:
                    accepted += 100
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.json()["code"] == "store_unavailable"
                disks.fill(disk / "ballast")
                while (await post(plane)).status_code == 202:  # its log may still have room
                    accepted += 1
                counted = await used(plane)
                assert counted == accepted
                assert (await plane.http.get(f"{plane.url}/metrics")).status_code == 200
                assert (await plane.http.get(f"{plane.url}/healthz")).status_code == 200
                backup = await plane.http.get(f"{plane.url}/v1/backup")
                assert (backup.status_code, backup.json()["code"]) == (503, "store_unavailable")
                assert "a copy needs" in backup.json()["detail"]
                (disk / "ballast").unlink()
                disks.remount(disk, f"size={size + 12 * MIB}")
                answer = await post(plane, 10)
                assert answer.status_code == 202, answer.text
                accepted += 10
            assert await used(plane) == accepted
            assert plane.running


async def test_a_start_on_a_full_disk_answers_questions_and_one_on_a_read_only_disk_says_so_in_a_line(
    tmp_path: Path,
) -> None:
    with disks.tmpfs(tmp_path / "disk", 4 * MIB) as disk:
        async with running(ControlPlane(disk)) as plane:
            await post(plane)
            plane.kill()
            disks.fill(disk / "ballast")
            plane.log = tmp_path / "control.log"  # which has no room there either
            await plane.start()
            assert await used(plane) == 1
            assert await plane.stop() == 0
        disks.remount(disk, "ro")
        said = await asyncio.to_thread(
            run,
            sys.executable,
            "-m",
            "sidemeter_control.cli",
            "serve",
            f"--database=sqlite:///{disk}/control.db",
            exit_code=1,
        )
        rule = "Read-only file system; the control plane must be able to write there"
        assert said == f"sidemeter-control: {disk}/control.db: {rule}\n"


@pytest.mark.parametrize("descriptors", [40, 64])
async def test_a_flood_of_connections_without_descriptors_left_is_survived(tmp_path: Path, descriptors: int) -> None:
    plane = ControlPlane(tmp_path)
    plane.launch = with_only(NOFILE=descriptors)
    async with running(plane):
        assert (await post(plane)).status_code == 202
        refused = 0
        async with AsyncExitStack() as flood:
            for _ in range(100):
                reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
                flood.push_async_callback(closed, writer)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                refused += not await is_answered(reader)
            assert refused >= 100 - descriptors
        await eventually(lambda: answered(plane), 30)
        assert plane.running
        assert (await post(plane)).status_code == 202
        assert await used(plane) == 2


async def is_answered(reader: asyncio.StreamReader) -> bool:
    try:
        return b" 200 " in await reader.readline()
    except ConnectionError:
        return False


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def answered(plane: ControlPlane) -> bool:
    try:
        return (await plane.http.get(f"{plane.url}/healthz")).status_code == 200
    except httpx.TransportError:
        return False


DECADES = {"1970": ("@1970-01-02 00:00:00", True), "ten years on": ("+10y", False)}


@pytest.mark.parametrize("clock", DECADES)
async def test_a_clock_that_is_wrong_by_decades_loses_no_event_and_replay_counts_those_it_put_aside(
    tmp_path: Path, clock: str
) -> None:
    if FAKETIME is None:
        pytest.skip("needs libfaketime")
    when, aside = DECADES[clock]
    plane = ControlPlane(tmp_path)
    plane.environ |= {"LD_PRELOAD": FAKETIME, "FAKETIME": when, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    async with running(plane):
        key = await plane.new_key("AGENT")
        with AgentProcess(tmp_path / "agent", plane.url, key) as agent:
            async with agent.http:
                await agent.start()
                for n in range(20):
                    await agent.post("/v1/events", {"id": f"a{n}", "type": "call", "subject": "acme"})

                async def arrived() -> bool:
                    return await used(plane) + len(await letters(plane)) == 20

                await eventually(arrived, 60)
                assert await used(plane) == (0 if aside else 20)
                if aside:
                    await plane.stop()
                    del plane.environ["FAKETIME"], plane.environ["LD_PRELOAD"]
                    await plane.start()
                    mutation = "mutation($ids: [ID!]!) { replayDeadLetters(ids: $ids) { replayed failed { code } } }"
                    done = await plane.ask(mutation, ids=await letters(plane))
                    assert done["replayDeadLetters"] == {"replayed": 20, "failed": []}
                await agent.post("/v1/events", {"id": "fresh", "type": "call", "subject": "acme"})

                async def all_counted() -> bool:
                    return await used(plane) == 21

                await eventually(all_counted, 60)


async def letters(plane: ControlPlane) -> list[str]:
    page: dict[str, Any] = await plane.ask("{ deadLetters(first: 200) { edges { node { id } } } }")
    return [edge["node"]["id"] for edge in page["deadLetters"]["edges"]]
