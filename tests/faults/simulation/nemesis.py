"""The nemesis: what goes wrong at large, one stroke after the other, until the world is calm."""

from collections.abc import Callable, Sequence
from typing import Final

from .disk import Disk, Image
from .machine import Machine
from .network import Network
from .oracle import Oracle
from .plane import Books, Plane
from .world import World

__all__ = ["Nemesis"]

MAX_MACHINES: Final = 4
YEAR_S: Final = 365 * 86_400


class Nemesis:
    """Strikes about every `pause_s` with one of `kinds`, names of its methods."""

    def __init__(
        self,
        world: World,
        oracle: Oracle,
        network: Network,
        plane: Plane,
        machines: list[Machine],
        clone: Callable[[Machine, Image], Machine],
        kinds: Sequence[str],
        pause_s: float,
    ) -> None:
        self.world = world
        self.oracle = oracle
        self.network = network
        self.plane = plane
        self.machines = machines
        self._clone = clone
        self._kinds = kinds
        self._pause_s = pause_s
        self._copies: dict[str, Image] = {}
        self._backups: list[Books] = []

    def begin(self) -> None:
        """Strike, and strike again."""
        self.world.later(self.world.rng.expovariate(1 / self._pause_s), self._strike)

    def end(self) -> None:
        """Everything works from now on: no fault, full speed, whatever was stopped started."""
        self.world.calm = True
        self.world.note("calm")
        self.network.cut_there.clear()
        self.network.cut_back.clear()
        self.plane.start()
        for machine in self.machines:
            self._heal(machine.disk)
            machine.disk.hangs_until_s = 0.0
            machine.start()

    def _strike(self) -> None:
        if self.world.calm:
            return
        kind = self.world.rng.choice(self._kinds)
        getattr(self, kind)(self.world.rng.choice(self.machines))
        self.begin()

    # Processes

    def kill(self, machine: Machine) -> None:
        """kill -9 between any two steps."""
        if machine.process is not None:
            self.world.fault("agent killed", machine.name)
            machine.process.kill_in(self.world.rng.randint(1, 60))

    def power_cut(self, machine: Machine) -> None:
        """Everything on the machine ends at once; it boots anew."""
        self.world.fault("power cut", machine.name)
        machine.cut_power()

    def drain(self, machine: Machine) -> None:
        """SIGTERM, and a new start."""
        if machine.process is not None:
            self.world.fault("agent stopped in order", machine.name)
            machine.stop()

    def intrude(self, machine: Machine) -> None:
        """A second agent on the same directory."""
        self.world.fault("second agent on one directory", machine.name)
        machine.intrude()

    # Disks

    def fill(self, machine: Machine) -> None:
        """The disk fills up: to what recording leaves alone, or to the last byte."""
        self.world.fault("disk full", machine.name)
        machine.disk.free_bytes = self.world.rng.choice((0, 1 << 20, 12 << 20))
        self._heal_later(machine.disk)

    def freeze(self, machine: Machine) -> None:
        """The file system becomes read-only in the middle."""
        self.world.fault("read-only file system", machine.name)
        machine.disk.read_only = True
        self._heal_later(machine.disk)

    def fail(self, machine: Machine) -> None:
        """Every call to the disk is an I/O error."""
        self.world.fault("disk fails", machine.name)
        machine.disk.failing = True
        self._heal_later(machine.disk)

    def hang(self, machine: Machine) -> None:
        """The disk answers nothing for a while; now and then somebody would rather stop the agent then."""
        self.world.fault("disk hangs", machine.name)
        if self.world.chance(0.3):
            self.drain(machine)
        machine.disk.hangs_until_s = self.world.now_s + self.world.rng.uniform(1.0, 20.0)

    def damage(self, machine: Machine) -> None:
        """A file of the buffer is changed while nobody runs."""
        machine.kill()
        self.world.later(0.0, lambda: self._damage(machine))

    def _damage(self, machine: Machine) -> None:
        if machine.process is None and (how := machine.disk.damage()) is not None:
            self.world.fault("file damaged", machine.name, how)
            self.oracle.destroyed(machine.disk)

    def _heal_later(self, disk: Disk) -> None:
        self.world.later(self.world.rng.uniform(0.5, 12.0), lambda: self._heal(disk))

    def _heal(self, disk: Disk) -> None:
        disk.heal()

    # Copies of directories

    def copy(self, machine: Machine) -> None:
        """Somebody copies the directory; nothing goes wrong yet."""
        self._copies[machine.name] = machine.disk.image()

    def set_back(self, machine: Machine) -> None:
        """The directory is replaced by an older copy of itself."""
        image = self._copies.get(machine.name)
        if image is None:
            self.copy(machine)
            return
        self.world.fault("agent restored from an old copy", machine.name)
        machine.kill()
        self.world.later(0.0, lambda: self._put_back(machine, image))

    def _put_back(self, machine: Machine, image: Image) -> None:
        if machine.process is None:
            self.oracle.set_back(machine.disk, image.held)
            machine.disk.replace(image)

    def clone(self, machine: Machine) -> None:
        """A copy of the directory comes to life elsewhere, with the same identity."""
        if len(self.machines) < MAX_MACHINES:
            self.world.fault("directory cloned, both alive", machine.name)
            self.machines.append(self._clone(machine, machine.disk.image()))

    # The network

    def cut_there(self, machine: Machine) -> None:
        """Requests of one agent vanish."""
        self._cut(machine, self.network.cut_there)

    def cut_back(self, machine: Machine) -> None:
        """Requests of one agent arrive, and the answers vanish."""
        self._cut(machine, self.network.cut_back)

    def _cut(self, machine: Machine, names: set[str]) -> None:
        self.world.fault("one-way partition", machine.name)
        names.add(machine.name)
        self.world.later(self.world.rng.uniform(0.5, 20.0), lambda: names.discard(machine.name))

    # The control plane

    def crash_plane(self, machine: Machine) -> None:
        """The control plane is killed, and comes back."""
        self.world.fault("control plane killed")
        self.plane.crash()
        self.world.later(self.world.rng.uniform(0.0, 20.0), self.plane.start)

    def back_up(self, machine: Machine) -> None:
        """A backup is made; nothing goes wrong yet."""
        self._backups.append(self.plane.books)

    def roll_back(self, machine: Machine) -> None:
        """The control plane is restored from a backup."""
        if not self._backups:
            self.back_up(machine)
            return
        by_hand = self.world.chance(0.5)
        self.world.fault("backup put back by hand" if by_hand else "control plane restored from a backup")
        self.plane.restore(self.world.rng.choice(self._backups), by_hand=by_hand)

    def empty(self, machine: Machine) -> None:
        """The control plane is replaced by an empty one."""
        self.world.fault("control plane replaced by an empty one")
        self.plane.restore(None)

    # Clocks

    def step_clock(self, machine: Machine) -> None:
        """The wall clock of a machine says 1970, ten years on, or an hour ago."""
        now_s = 1_767_225_600
        machine.wall_offset_us = 1_000_000 * self.world.rng.choice((-now_s, 10 * YEAR_S, -3600, 0, 600))
        self.world.fault("wall clock stepped", machine.name, machine.wall_offset_us)
