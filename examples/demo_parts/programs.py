"""The demo's programs, each a process of its own. None outlives the demo, and each says why when it fails."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DemoFailed", "Program", "running"]

EXAMPLES = Path(__file__).resolve().parent.parent
START_WITHIN_S = 60
STOP_WITHIN_S = 30
LOG_TAIL_BYTES = 4000


class DemoFailed(Exception):
    """Something is not as the demo promises; the text says what."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program, and the file its output goes to."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def says(self, pattern: str) -> str:
        """The first match of `pattern` in the output; raises DemoFailed when it ends or takes too long."""
        for _ in range(START_WITHIN_S * 20):
            ended = self.process.returncode is not None
            if found := re.search(pattern, self.log.read_text()):
                return found[0]
            if ended:
                break
            await asyncio.sleep(0.05)
        raise self.failed("did not start")

    async def stop(self) -> None:
        """SIGTERM, then wait until it has drained and ended; raises DemoFailed when it ends badly."""
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                code = await self.process.wait()
        except TimeoutError:
            raise self.failed(f"did not stop within {STOP_WITHIN_S} s") from None
        # uvicorn, which runs the sample service, ends by the signal that asked it to, once it has shut down.
        if code not in {0, -signal.SIGTERM}:
            raise self.failed(f"ended with code {code}")

    def failed(self, what: str) -> DemoFailed:
        """What happened, with the end of the log."""
        return DemoFailed(f"{self.name} {what}:\n{self.log.read_text()[-LOG_TAIL_BYTES:]}")


@asynccontextmanager
async def running(name: str, log: Path, *arguments: str, **environ: str) -> AsyncIterator[Program]:
    """Run `python ARGUMENTS`; kill it at the end of the block if it still runs.

    It gets a process group of its own: Ctrl-C is for the demo, which stops its programs in order.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SIDEMETER_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=EXAMPLES,
            env=inherited | environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    program = Program(name, process, log)
    try:
        yield program
    except Exception as exc:
        if process.returncode is not None and not isinstance(exc, DemoFailed):
            raise program.failed(f"ended with code {process.returncode}") from exc
        raise
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
