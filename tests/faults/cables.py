"""A cable from this host into a network namespace: every packet passes through this process, which may lose or hold it.

Two TUN devices, one at each end. Where the kernel has no netem this still has latency, loss, repeats and one-way
partitions, by a seed; and nothing is left behind when the process dies: the devices and the namespace go with it.
"""

import asyncio
import fcntl
import itertools
import os
import random
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fakes import eventually
from processes import Process, spawned

__all__ = ["PERFECT", "Cable", "Quality", "cable", "missing_tools"]

TUN: Final = Path("/dev/net/tun")
TUNSETIFF: Final = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES: Final = 65_536

QUEUE_BYTES: Final = 64 * 1024
"""What waits for a slow cable; more is lost, as in any router."""

NETWORK: Final = 198 << 24 | 18 << 16
"""198.18.0.0/15, which nobody routes: it is set apart for measurements (RFC 2544)."""
SUBNETS: Final = 1 << 15

_numbers = itertools.count()


def missing_tools() -> str | None:
    """Why no cable can be laid here, if that is so."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    for tool, package in (("ip", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux")):
        if shutil.which(tool) is None:
            return f"needs `{tool}` (package {package})"
    return None if TUN.exists() else f"needs {TUN}"


@dataclass(frozen=True, slots=True)
class Quality:
    """What one direction does to packets: the parts lost and sent twice, seconds held, bytes let through a second."""

    lost: float = 0.0
    doubled: float = 0.0
    held_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None


PERFECT: Final = Quality()


class Direction:
    """From one end to the other. `quality` may change at any time."""

    def __init__(self, rng: random.Random, source: int, target: int) -> None:
        self._rng = rng
        self._source = source
        self._target = target
        self._free_at_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(source, self._arrived)
        self.quality = PERFECT

    def close(self) -> None:
        self._loop.remove_reader(self._source)

    def _arrived(self) -> None:
        try:
            packet = os.read(self._source, PACKET_BYTES)
        except OSError:  # the device was set down between the event and the read
            return
        quality = self.quality
        if self._rng.random() < quality.lost:
            return
        for _ in range(2 if self._rng.random() < quality.doubled else 1):
            self._hold(packet, quality)

    def _hold(self, packet: bytes, quality: Quality) -> None:
        now_s = self._loop.time()
        delay_s = quality.held_s + self._rng.uniform(0.0, quality.jitter_s)
        if quality.bytes_per_s is not None:
            self._free_at_s = max(self._free_at_s, now_s) + len(packet) / quality.bytes_per_s
            delay_s += self._free_at_s - now_s
            if delay_s > QUEUE_BYTES / quality.bytes_per_s:
                return
        if delay_s:
            self._loop.call_later(delay_s, self._leave, packet)
        else:
            self._leave(packet)

    def _leave(self, packet: bytes) -> None:
        with suppress(OSError):  # a device that is down takes none
            os.write(self._target, packet)


class Cable:
    """A namespace at the far end of a cable. `near` and `far` are the addresses of its ends; `out` leads away from here."""

    def __init__(self, rng: random.Random, holder: int, devices: tuple[str, str], ends: tuple[int, int]) -> None:
        subnet = (os.getpid() * 16 + next(_numbers)) % SUBNETS * 4
        self.near, self.far = (_address(NETWORK + subnet + n) for n in (1, 2))
        self._holder = holder
        self._devices = devices
        self.out = Direction(rng, ends[0], ends[1])
        self.back = Direction(rng, ends[1], ends[0])

    def lay(self) -> None:
        """Put the far device into the namespace, and both up with their addresses."""
        near, far = self._devices
        _run("ip", "link", "set", far, "netns", str(self._holder))
        _run("ip", "address", "add", self.near, "peer", self.far, "dev", near)
        _run("ip", "link", "set", near, "up")
        self._inside("ip", "link", "set", "lo", "up")
        self._inside("ip", "address", "add", self.far, "peer", self.near, "dev", far)
        self.up()

    def up(self) -> None:
        """Switch the far device on; everything else than its neighbour is behind the cable too."""
        far = self._devices[1]
        self._inside("ip", "link", "set", far, "up")
        self._inside("ip", "route", "replace", "default", "via", self.near, "dev", far)

    def down(self) -> None:
        """Switch the far device off: whoever is there has no route any more, and nobody else is told."""
        self._inside("ip", "link", "set", self._devices[1], "down")

    def both(self, quality: Quality) -> None:
        """Be as good or bad in both directions."""
        self.out.quality = self.back.quality = quality

    def launch(self, arguments: list[str], environ: dict[str, str], log: Path) -> Process:
        """A process in the namespace."""
        return spawned([*self._enter(), *arguments], environ, log)

    def close(self) -> None:
        """Stop carrying packets."""
        self.out.close()
        self.back.close()

    def _inside(self, *command: str) -> None:
        _run(*self._enter(), *command)

    def _enter(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holder}/ns/net", "--"]


@asynccontextmanager
async def cable(rng: random.Random) -> AsyncIterator[Cable]:
    """A perfect cable into a new namespace, both gone after the block."""
    number = next(_numbers)
    devices = f"sm{os.getpid()}-{number}n", f"sm{os.getpid()}-{number}f"
    holder = _hold_namespace()
    try:
        await eventually(lambda: _namespace(holder.pid) != _namespace(os.getpid()))
        ends = _tun(devices[0]), _tun(devices[1])
        try:
            laid = Cable(rng, holder.pid, devices, ends)
            try:
                laid.lay()
                yield laid
            finally:
                laid.close()
        finally:
            for end in ends:
                os.close(end)
    finally:
        holder.communicate()


def _hold_namespace() -> "subprocess.Popen[bytes]":
    """A process in a new namespace, which ends with this one or when its input is closed."""
    return subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def _tun(name: str) -> int:
    """A TUN device that lives as long as its descriptor."""
    end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


def _address(number: int) -> str:
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
