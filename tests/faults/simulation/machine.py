"""A machine: a disk, clocks that may say anything, and one agent with its callers, started again whenever it ended."""

import asyncio
from pathlib import Path
from typing import Any, Final

from sidemeter.agent import Agent
from sidemeter.buffer import Buffer
from sidemeter.clock import Clock
from sidemeter.errors import DirectoryInUse, InDoubt, StorageRefused
from sidemeter.settings import DAY_S, MIB, Settings

from .callers import Callers, Traffic
from .disk import Disk
from .network import Network, SimLink
from .oracle import Oracle
from .process import Process, SimClock
from .world import World

__all__ = ["CALLERS", "Machine", "wall_us"]

CALLERS: Final = 2
_WALL_US: Final = 1_767_225_600_000_000
_STARTS_AGAIN_S: Final = 1.0
_STARTS_WITHIN_S: Final = 8.0


def wall_us(world: World, offset_us: int = 0) -> int:
    """The right time of the simulated world, or one that is off."""
    return _WALL_US + offset_us + int(world.now_s * 1e6)


class Machine:
    """Runs one agent on `disk`. `process` is None while it is stopped; `agent` while it is not ready."""

    def __init__(
        self,
        world: World,
        oracle: Oracle,
        network: Network,
        disk: Disk,
        traffic: Traffic,
        settings: dict[str, Any],
        buffer: type[Buffer] = Buffer,
    ) -> None:
        self.world = world
        self.oracle = oracle
        self.network = network
        self.disk = disk
        self.traffic = traffic
        self.name = disk.name
        self.boot_id = self._random_hex()
        self.wall_offset_us = 0
        self.process: Process | None = None
        self._intruder: Process | None = None
        self.agent: Agent | None = None
        self.starts = 0
        self._settings = settings
        self._buffer = buffer
        self._stop: asyncio.Event | None = None
        self._callers: Callers | None = None
        self._proving = False
        self._proven = False
        disk.keeps_all = settings["keep_sent_s"] >= DAY_S and settings["keep_sent_bytes"] >= MIB
        oracle.disks.append(disk)
        disk.gone = oracle.gone

    def start(self) -> None:
        """Begin a process that opens the directory and lets callers in, unless there is one."""
        if self.process is not None:
            return
        self.starts += 1
        process = self.process = Process(self.world, f"{self.name}.{self.starts}")
        self.world.note("start", process.name)
        self._stop = asyncio.Event()
        process.ends.append(lambda: self._ended(process))
        process.buried.append(lambda: self.disk.end(process))
        process.begin(self._main(process, self._stop))

    def kill(self) -> None:
        """End its process as kill -9 does, and whatever else tries to use the directory."""
        for process in (self.process, self._intruder):
            if process is not None:
                process.kill()

    def cut_power(self) -> None:
        """End its process, and begin a new life of the machine."""
        self.kill()
        self.boot_id = self._random_hex()

    def stop(self) -> None:
        """Ask the agent to drain and to end."""
        if self._stop is not None and self.process is not None:
            stop = self._stop
            self.process.call_soon(stop.set)

    def intrude(self) -> None:
        """Begin a second agent on the directory. It must be told that the directory is in use while another works."""
        if self._intruder is not None and self._intruder.alive:
            return
        process = self._intruder = Process(self.world, f"{self.name}.intruder")
        process.buried.append(lambda: self.disk.end(process))
        process.begin(self._intrude(process))

    async def _intrude(self, process: Process) -> None:
        clock = SimClock(process, lambda: wall_us(self.world), lambda: self.boot_id)
        try:
            buffer = await self._open_buffer(process, self.disk.path, clock)
        except (StorageRefused, DirectoryInUse) as exc:
            self.world.note("turned back", process.name, exc)
        else:
            if self.agent is not None:
                self.world.violated(f"two agents have {self.name} open")
            await buffer.close()
        process.kill()

    def unwell(self) -> str | None:
        """What is not yet as it must be once everything works: None when all has arrived, and a fresh event too."""
        if self.agent is None:
            return f"{self.name} has no agent"
        parts = self.agent._running
        if pending := parts.recorder.pending:
            return f"{self.name} has {pending} events that are not durable"
        if unsent := parts.buffer.unsent_events:
            return f"{self.name} has {unsent} events to send"
        if parts.buffer.salvaging or parts.buffer.open_losses:
            return f"{self.name} has yet to read back or to declare"
        if self._proving and not self._proven:
            return f"{self.name} takes no fresh event"
        return None

    def prove(self) -> None:
        """From now on, all is well only if a fresh event gets through too."""
        self._proving = True
        if self.process is not None and self._callers is not None:
            self.process.begin(self._prove(self._callers))

    async def _main(self, process: Process, stop: asyncio.Event) -> None:
        agent = await self._open(process)
        self.agent = agent
        self.world.note("ready", process.name)
        callers = Callers(self.world, self.oracle, self.traffic, agent, process.name)
        for _ in range(CALLERS):
            process.begin(callers.run())
        self._callers = callers
        if self._proving:
            process.begin(self._prove(callers))
        await stop.wait()
        self.world.note("drain", process.name)
        self.agent = self._callers = None
        recorder, began_s = agent._running.recorder, self.world.now_s
        try:
            await agent.drain()
        except InDoubt as exc:
            self.world.fault("stopped while the disk hangs", process.name)
            if self.disk.healthy_since(began_s):
                self.world.violated(f"{process.name} did not wait for a healthy disk: {exc}")
        else:
            self.world.note("drained", process.name)
            self.oracle.drained(process.name, recorder.pending, healthy=self.disk.healthy_since(began_s))
        process.kill()

    async def _prove(self, callers: Callers) -> None:
        while not self._proven:
            self._proven = await callers.record([callers.fresh()])
            await asyncio.sleep(1.0)

    async def _open(self, process: Process) -> Agent:
        """An agent, as soon as the disk and its lock allow one: whoever supervises it starts it again till then."""
        while True:
            clock = SimClock(process, lambda: wall_us(self.world, self.wall_offset_us), lambda: self.boot_id)
            settings = Settings(service="chat", data_dir=self.disk.path, control_plane="http://plane", api_key="k", **self._settings)  # fmt: skip
            agent = Agent(
                settings,
                clock,
                open_buffer=lambda path, clock: self._open_buffer(process, path, clock),
                open_link=lambda settings: SimLink(self.network, process, self.name, settings.request_timeout_s),  # type: ignore[arg-type, return-value]
            )
            try:
                return await agent.__aenter__()
            except (StorageRefused, DirectoryInUse) as exc:
                self.world.note("cannot start", process.name, exc)
                await asyncio.sleep(_STARTS_AGAIN_S)

    async def _open_buffer(self, process: Process, path: Path, clock: Clock) -> Buffer:
        disk = self.disk
        return await self._buffer.open(path, clock, disk.connect_for(process), disk.volume_for(process))  # type: ignore[arg-type]

    def _ended(self, process: Process) -> None:
        self.world.note("end", process.name)
        self.disk.cut()
        self.process = self.agent = self._callers = self._stop = None
        self._proven = False
        self.world.later(self.world.rng.uniform(0.0, _STARTS_WITHIN_S), self.start)

    def _random_hex(self) -> str:
        return f"{self.world.rng.getrandbits(64):016x}"
