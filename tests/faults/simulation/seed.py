"""One seed: a world is made, broken and left in peace; what it came to."""

import gc
import logging
import os
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sidemeter.buffer import Buffer

from .callers import Traffic
from .disk import Disk, Image, Weather
from .machine import Machine, wall_us
from .nemesis import Nemesis
from .network import Network, Storm
from .oracle import Oracle
from .plane import Plane, Strain
from .world import Violation, World

__all__ = ["CAST", "KINDS", "Cast", "Outcome", "live"]

KINDS: Final = (
    *("kill", "power_cut", "drain", "intrude", "fill", "freeze", "fail", "hang", "damage", "set_back", "clone"),
    *("cut_there", "cut_back", "crash_plane", "roll_back", "empty", "step_clock"),
)
COPIES: Final = frozenset({"set_back", "clone"})
"""What brings older directories back. A seed that damages files has none: they know nothing of what a damage took."""

OLDER: Final = frozenset({"roll_back", "empty"})
"""What brings an older control plane. A seed that damages files has it only where agents keep all that was counted."""

SETTLES_WITHIN_S: Final = 1800.0
"""Virtual time in which everything must arrive once the faults have ended: the longest wait of a retry is 67 s, and what
is behind it may need some of those."""

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Cast:
    """Who plays: a test puts somebody in who breaks a rule."""

    plane: type[Plane] = Plane
    disk: type[Disk] = Disk
    buffer: type[Buffer] = Buffer
    kinds: tuple[str, ...] = KINDS


CAST: Final = Cast()


@dataclass
class Outcome:
    """What one seed came to; `violation` None: every promise held."""

    seed: int
    violation: str | None = None
    steps: int = 0
    virtual_s: float = 0.0
    issued: int = 0
    acknowledged: int = 0
    stored: int = 0
    forgiven: int = 0
    at_risk: int = 0
    declared: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


def live(seed: int, cast: Cast = CAST, *, tracing: bool = False) -> Outcome:
    """Let a world unfold from `seed`: first broken in every way that the seed draws, then left alone until all is well."""
    world = World(seed, tracing=tracing)
    oracle = Oracle(world)
    outcome = Outcome(seed)
    with _directory() as directory, _heard(world):
        stage = _Stage(world, oracle, cast, directory)
        try:
            stage.play()
        except Violation as exc:
            outcome.violation = str(exc)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, its seed must be told
            outcome.violation = f"{type(exc).__name__}: {exc} at {traceback.extract_tb(exc.__traceback__)[-1]}"
        finally:
            stage.clear()
        outcome.steps, outcome.virtual_s, outcome.faults = world.steps, world.now_s, world.faults
        outcome.issued, outcome.acknowledged = len(oracle.issues), len(oracle.acknowledged)
        outcome.stored, outcome.forgiven = len(stage.plane.books.events), len(oracle.forgiven)
        outcome.at_risk, outcome.declared = len(oracle.at_risk), oracle.declared
        outcome.trace = world.trace
    return outcome


class _Stage:
    """Everything that a seed draws before it begins."""

    def __init__(self, world: World, oracle: Oracle, cast: Cast, directory: Path) -> None:
        self.world = world
        self.oracle = oracle
        self._cast = cast
        self._directory = directory
        world.place = str(directory)
        rng = world.rng
        self._rate = rng.choice((0.0, 0.01, 0.03, 0.1))
        self.network = Network(world, Storm(*(self._often() for _ in range(9))))
        self.plane = oracle.plane = cast.plane(
            world, oracle, Strain(*(self._often() for _ in range(3))), lambda: wall_us(world)
        )
        self.network.serve = self.plane.serve
        self._traffic = Traffic(
            rng.randint(20, 80),
            rng.choice((0.05, 0.3, 1.0)),
            self._often(),
            self._often() / 2,
            self._often() / 4,
            0.2,
            self._often(),
        )
        self.machines = [self._machine(f"m{n}") for n in range(rng.randint(1, 2))]
        kinds = [kind for kind in cast.kinds if rng.random() < 0.4] or ["kill"]
        if "damage" in kinds:
            keep_all = all(machine.disk.keeps_all for machine in self.machines)
            kinds = [kind for kind in kinds if kind not in (COPIES if keep_all else COPIES | OLDER)]
        self._nemesis = Nemesis(
            world, oracle, self.network, self.plane, self.machines, self._cloned, kinds, rng.choice((0.7, 2.0, 5.0))
        )

    def play(self) -> None:
        """Both phases."""
        for machine in self.machines:
            machine.start()
        self._nemesis.begin()
        self.world.run(self.world.rng.uniform(5.0, 40.0))
        self._nemesis.end()
        self._settle()
        for machine in self.machines:
            machine.prove()
        self._settle()

    def clear(self) -> None:
        """End every process, so that nothing of this seed is left."""
        for machine in self.machines:
            machine.disk.gone = lambda disk, tags: None
            machine.kill()
        self.world.bury()

    def _settle(self) -> None:
        if not self.world.run(SETTLES_WITHIN_S, self._all_well):
            self.world.violated(f"after {SETTLES_WITHIN_S:.0f} s without faults: {self._unwell()}")

    def _all_well(self) -> bool:
        return self._unwell() is None

    def _unwell(self) -> str | None:
        for machine in self.machines:
            if (what := machine.unwell()) is not None:
                return what
        missing = self.oracle.missing()
        return f"missing: {missing[:5]}" if missing else None

    def _cloned(self, machine: Machine, image: Image) -> Machine:
        clone = self._machine(f"m{len(self.machines)}")
        clone.disk.put(image)
        clone.start()
        return clone

    def _machine(self, name: str) -> Machine:
        disk = self._cast.disk(self.world, self._directory / name, Weather(*(self._often() / 3 for _ in range(6))))
        settings = self._settings()
        return Machine(self.world, self.oracle, self.network, disk, self._traffic, settings, self._cast.buffer)

    def _often(self) -> float:
        return self._rate if self.world.rng.random() < 0.4 else 0.0

    def _settings(self) -> dict[str, Any]:
        pick = self.world.rng.choice
        return {
            "flush_after_s": pick((0.01, 0.2, 2.0)),
            "group_window_s": pick((0.0, 0.002, 0.05)),
            "group_max_events": pick((1, 3, 1000)),
            "max_pending_events": pick((12, 100)),
            "max_array_events": 10,
            "max_buffer_bytes": pick((256 * KIB, 1 << 30)),
            "keep_sent_s": pick((0.0, 20.0, 86400.0, 86400.0)),
            "keep_sent_bytes": pick((0, 2000, 256 * MIB, 256 * MIB)),
            "max_batch_events": pick((1, 2, 5, 50, 5000)),
            "max_batch_bytes": pick((128 * KIB, MIB)),
            "sync_interval_s": pick((3.0, 10.0)),
            "first_check_wait_s": pick((0.0, 0.25)),
            "on_unknown": pick(("deny", "allow")),
            "drain_s": pick((0.0, 1.0, 5.0)),
            "request_timeout_s": pick((1.0, 10.0)),
            "compress": pick((True, False)),
        }


@contextmanager
def _directory() -> Iterator[Path]:
    """A directory in memory, where the system has one: a seed syncs hundreds of times."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
    gc.disable()  # what the collector finds, and when, must not depend on who else runs
    try:
        yield made
    finally:
        gc.enable()
        _close_marks(made)
        shutil.rmtree(made, ignore_errors=True)


def _close_marks(directory: Path) -> None:
    """As a system does for its dead: an agent has its mark open for as long as it lives, and thousands of them die."""
    for descriptor in Path("/proc/self/fd").glob("*"):
        try:
            file = descriptor.readlink()
        except OSError:  # that of the listing itself
            continue
        if file.is_relative_to(directory) and file.name.startswith("mark"):
            os.close(int(descriptor.name))


class _Listener(logging.Handler):
    """Whatever the programs log goes into the trace; an unexpected exception in a loop is a violation."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if self._world.tracing or record.exc_info:
            self._world.note("log", record.getMessage())
        if record.exc_info:
            self._world.complaints.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def _heard(world: World) -> Iterator[None]:
    log = logging.getLogger("sidemeter")
    listener, before = _Listener(world), (log.level, log.propagate)
    log.addHandler(listener)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(listener)
        log.level, log.propagate = before
