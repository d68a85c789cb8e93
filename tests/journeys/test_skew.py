"""An agent and a control plane that speak different protocols: both say so, and nothing is lost until one is upgraded."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes import eventually
from processes import AgentProcess, ControlPlane, control_plane

USAGE = """{ usage(meter: "calls", from: "0001-01-01T00:00:00Z", to: "9999-01-01T00:00:00Z") { events } }"""
HEADER = re.compile(rb"(?i)sidemeter-protocol: \d")


class Skew:
    """What stands between: whatever number an agent speaks of, the control plane hears `protocol`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.protocol = 2
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers += [writer, far_writer]
        await asyncio.gather(self.pump(reader, far_writer, changing=True), self.pump(far_reader, writer))

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, changing: bool = False) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(HEADER.sub(b"Sidemeter-Protocol: %d" % self.protocol, data) if changing else data)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def skewed(plane: ControlPlane) -> AsyncIterator[tuple[str, Skew]]:
    skew = Skew(plane.port)
    server = await asyncio.start_server(skew, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", skew
        finally:
            await skew.close()


async def test_another_protocol_is_answered_clearly_and_all_is_counted_after_the_upgrade(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane, skewed(plane) as (url, skew):
        await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
        key = await plane.new_key("AGENT")
        with AgentProcess(tmp_path / "a", url, key, SIDEMETER_FLUSH_AFTER_S="0.02") as agent:
            async with agent.http:
                await agent.start()
                await agent.post("/v1/events", [{"type": "call", "subject": "acme"} for _ in range(50)])
                await eventually(lambda: "protocol_unsupported" in agent.log.read_text())
                lines = [json.loads(line) for line in agent.log.read_text().splitlines() if line.startswith("{")]
                assert any("this control plane speaks Sidemeter-Protocol: 1" in line["message"] for line in lines)
                await agent.post("/v1/events", {"type": "call", "subject": "acme"})  # recording goes on
                figures = (await agent.http.get("/metrics")).text
                assert "sidemeter_agent_connected 0.0" in figures
                assert "sidemeter_agent_backlog_events 51.0" in figures
                assert (await plane.ask(USAGE))["usage"] == []

                skew.protocol = 1

                async def counted() -> bool:
                    return sum(row["events"] for row in (await plane.ask(USAGE))["usage"]) == 51

                await eventually(counted, 90)
                assert await agent.stop() == 0
