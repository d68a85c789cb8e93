"""One system call of a running program, struck: counted, failed, delayed, or killed at. By strace."""

import asyncio
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from processes import Process

__all__ = ["CALLS", "Blow", "Tracer", "missing_tool", "tampered", "traced"]

CALLS: Final = (
    *("write", "writev", "sendto", "sendmsg", "pwrite64", "pwritev", "pwritev2"),
    *("fsync", "fdatasync", "sync_file_range", "msync"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "link", "linkat"),
    *("ftruncate", "truncate", "fallocate"),
)
"""What changes a file or reaches another process."""

OF_PATHS: Final = frozenset({"rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "link", "linkat", "truncate"})  # fmt: skip
"""Those that name a file by its path. The others have a descriptor, and strace says what it is of: `7</tmp/x>`."""

WAKES: Final = re.compile(r'^(\[pid +\d+\] )?write\(\d+(<anon_inode:\[eventfd[^>]*>|<[^>]*>, "\\\d+", 1\))')
"""What threads of one process wake each other by, and the number of a signal, which Python writes in whichever thread
takes it: nothing outside of the process can tell, and how many there are differs from life to life."""

ATTACHED_WITHIN_S: Final = 30.0
HELD_US: Final = 60_000_000
_CALL: Final = re.compile(r"^(?:\[pid +(\d+)\] )?(\w+)\((.*)$")


def missing_tool() -> str | None:
    """Why this cannot be done here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    return None if os.geteuid() == 0 else "strace attaches to a running program as root only"


@dataclass(frozen=True)
class Blow:
    """The `at`-th of a `call` in one thread (of the first only with `first_thread`), and what is done to it.

    `how`: "kill before", "kill after" (it has taken effect, nothing after it has), "delay", or the name of an error.
    """

    call: str
    at: int
    how: str
    first_thread: bool = False
    delay_s: float = 0.3

    def injection(self) -> str:
        """For strace's `-e inject=`."""
        what = {
            "kill before": "signal=SIGKILL",
            "kill after": f"delay_exit={HELD_US}",
            "delay": f"delay_enter={round(self.delay_s * 1e6)}",
        }.get(self.how, f"error={self.how}")
        return f"{self.call}:{what}:when={self.at}"

    def __str__(self) -> str:
        return f"{self.how} {self.call} {self.at}{' of the first thread' if self.first_thread else ''}"


class Tracer:
    """What strace has seen: how many of each call in each thread, and the call that was struck."""

    def __init__(self, program: Process, blow: Blow | None) -> None:
        self._program = program
        self._blow = blow
        self._seen: Counter[tuple[int, str]] = Counter()
        self._last: dict[tuple[int, str], int] = {}
        self.struck: str | None = None

    def counts(self, *, first_thread: bool) -> dict[str, int]:
        """The number of the last of each call in one thread, of the first or of any other."""
        most: dict[str, int] = {}
        for (thread, call), count in self._last.items():
            if (thread == self._program.pid) == first_thread:
                most[call] = max(count, most.get(call, 0))
        return most

    def saw(self, line: str, strace: asyncio.subprocess.Process) -> None:
        """Take in a line of strace."""
        if (found := _CALL.match(line)) and self._saw(int(found[1] or self._program.pid), found[2], line):
            self._program.kill()
            strace.kill()  # it sleeps, and would keep the dead from their parent for as long

    def _saw(self, thread: int, call: str, line: str) -> bool:
        """Count a call; whether it is the one after which the program has to be killed."""
        self._seen[thread, call] += 1
        if call in OF_PATHS or (not WAKES.match(line) and "<" in line):
            self._last[thread, call] = self._seen[thread, call]
        if self._blow is None or self._blow.call != call:
            return False
        killed = self._blow.how == "kill before" and line.endswith("= ?")
        if not (killed or "(INJECTED)" in line or "(DELAYED)" in line):
            return False
        self.struck = line
        return self._blow.how == "kill after"


@asynccontextmanager
async def traced(program: Process, blow: Blow | None) -> AsyncIterator[Tracer]:
    """Follow a program that waits for its tracer (`Zygote.launch`), with or without a blow, until the block ends."""
    options = ["-f"] if blow is None or not blow.first_thread else []
    options += ["-e", f"inject={blow.injection()}"] if blow else []
    calls = ",".join(CALLS) if blow is None else blow.call
    tracer = Tracer(program, blow)
    async with _strace(program, tracer.saw, "-y", "-s", "40", "-e", f"trace={calls}", *options):
        yield tracer


@asynccontextmanager
async def tampered(
    program: Process, injection: str, files: Sequence[Path] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Do something to every call of a running program, or to each on some files, until the block ends.

    `injection` is as for strace's `-e inject=`. While strace delays a call it sleeps, and hears of nobody's end.
    """
    calls = injection.partition(":")[0]
    options = ["-e", f"trace={calls}", "-e", f"inject={injection}"]
    for file in files:
        options += ["-P", str(file)]
    async with _strace(program, lambda line, strace: None, "-f", *options) as strace:
        yield strace


@asynccontextmanager
async def _strace(
    program: Process, saw: Callable[[str, asyncio.subprocess.Process], None], *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """strace attached to a program; it tells of each line, and lets go at the end of the block."""
    strace = await asyncio.create_subprocess_exec(
        *("strace", *options, "-e", "signal=none", "-p", str(program.pid)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    attached = asyncio.Event()

    async def read() -> None:
        assert strace.stderr is not None
        while line := (await strace.stderr.readline()).decode(errors="replace").rstrip():
            if "attached" in line:
                attached.set()
            else:
                saw(line, strace)

    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(ATTACHED_WITHIN_S):
            await attached.wait()
        yield strace
    finally:
        if strace.returncode is None:
            strace.send_signal(signal.SIGINT)  # it detaches and ends; a program that runs goes on
        await strace.wait()
        await reading
