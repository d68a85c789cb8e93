"""A process that has both programs imported, and forks one of them whenever asked.

A program started afresh spends nine tenths of its start on imports. Tests that start one thousands of times have a better
use for them; from the first line of its `main` on, a forked program is the same.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import coverage

__all__ = ["MODULES", "Forked", "Zygote", "unmeasured", "zygote"]

ROOT: Final = Path(__file__).resolve().parent.parent
MODULES: Final = ("sidemeter.cli", "sidemeter_control.cli")
PRELOADED: Final = (
    *MODULES,
    *("sidemeter.server", "sidemeter_control.server"),
    *("anyio._backends._asyncio", "httpcore", "uvloop", "uvicorn.lifespan.off"),  # imported by others when first used
)
MESSAGE_BYTES: Final = 1 << 17
TRACED_WITHIN_S: Final = 30.0


class Forked:
    """A forked program, with what callers use of a `subprocess.Popen`."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self._zygote = zygote
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        return self._zygote.exit_codes.get(self.pid)

    def poll(self) -> int | None:
        self._zygote.listen(0)
        return self.returncode

    def wait(self) -> int:
        while self.returncode is None:
            self._zygote.listen(None)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended since, and the zygote was quicker
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def unmeasured() -> dict[str, str]:
    """This process's environment, for one whose lines coverage is not told of: it makes some of them three times as slow."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "COV_CORE_"))}


class Zygote:
    """The process that forks; what it forked dies with it. `environ` is in place before its first instruction."""

    def __init__(self, **environ_too: str) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.exit_codes: dict[int, int] = {}
        with closing(theirs):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.zygote", str(theirs.fileno())],
                cwd=ROOT,
                env=unmeasured() | environ_too,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def launch(
        self, arguments: list[str], environ: dict[str, str], log: Path, *, traced: bool = False, measured: bool = False
    ) -> Forked:
        """Run `python -m MODULE ...`. One that is `traced` begins once a tracer has attached to it; which lines run in one
        that is `measured` is told to coverage, if this process tells it too."""
        assert arguments[:2] == [sys.executable, "-m"], arguments
        log.touch()
        if measured:
            environ = {name: value for name, value in os.environ.items() if name not in unmeasured()} | environ
        wanted = {"arguments": arguments[2:], "environ": environ, "log": str(log)}
        wanted |= {"traced": traced, "measured": measured}
        self._channel.send(json.dumps(wanted).encode())
        while True:
            told = self._told()
            if "started" in told:
                self.exit_codes.pop(told["started"], None)  # of an earlier process with that number
                return Forked(self, told["started"])

    def listen(self, within_s: float | None) -> None:
        """Take in who has ended; None waits until one does."""
        while select.select([self._channel], [], [], within_s)[0]:
            self._told()
            within_s = 0

    def close(self) -> None:
        """End it, and all that it forked."""
        self._channel.close()
        self._process.wait()

    def _told(self) -> dict[str, Any]:
        message = self._channel.recv(MESSAGE_BYTES)
        assert message, "the zygote ended"
        told: dict[str, Any] = json.loads(message)
        if "ended" in told:
            self.exit_codes[told["ended"]] = told["code"]
        return told


@functools.cache
def zygote() -> Zygote:
    """The one of this process."""
    made = Zygote()
    atexit.register(made.close)
    return made


def _serve(channel: socket.socket) -> None:
    """Fork whenever asked, report who ended, until the other side is gone."""
    wakes, woken = socket.socketpair()
    for each in (wakes, woken):
        each.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: set[int] = set()
    while True:
        ready, _, _ = select.select([channel, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _report(channel, running)
        if channel in ready:
            message = channel.recv(MESSAGE_BYTES)
            if not message:
                break
            wanted = json.loads(message)
            pid = os.fork()
            if pid == 0:
                for each in (channel, wakes, woken):
                    each.close()
                _become(wanted)
                return
            running.add(pid)
            channel.send(json.dumps({"started": pid}).encode())
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _report(channel: socket.socket, running: set[int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        running.discard(pid)
        channel.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(wanted: dict[str, Any]) -> None:
    """In the forked process: be the program that was asked for; its exit is a SystemExit."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    os.environ.clear()
    os.environ.update(wanted["environ"])
    time.tzset()
    if wanted["traced"]:
        _await_tracer()
    if wanted["measured"]:
        coverage.process_startup()
    module, *arguments = wanted["arguments"]
    assert module in MODULES, module
    sys.argv = [module, *arguments]
    sys.modules[module].main(prog_name=f"python -m {module}")


def _await_tracer() -> None:
    ends_s = time.monotonic() + TRACED_WITHIN_S
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        assert time.monotonic() < ends_s, "nobody traces this"
        time.sleep(0.001)
    time.sleep(0.01)  # the tracer has attached; now it also sees every call


def main() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else the first collection of each forked program copies every page
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        _serve(channel)


if __name__ == "__main__":
    main()
