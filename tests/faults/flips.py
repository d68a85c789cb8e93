"""Files damaged while nobody runs: one prepared agent, its directory copied and damaged in one way after the other.

Each copy meets a control plane as it was when the agent was last heard of, so that what is brought back, what is declared
lost and what is neither can be told apart.
"""

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fakes import eventually
from processes import AgentProcess, ControlPlane

from .lives import free_port, running
from .oracle import Oracle, Tally
from .rig import QUICK, Deployment, deliver, deployed, has_drained

__all__ = ["WAYS", "round"]

COPIES: Final = 16
LANES: Final = 3
PAGE_BYTES: Final = 4096
EVENTS: Final = 150
READ_BACK_WITHIN_S: Final = 30.0
DATABASE: Final = "buffer.sqlite3"
LOG: Final = "buffer.sqlite3-wal"
FILES: Final = (DATABASE, LOG, "mark", "ballast", "lock")

Way = Callable[[Path, random.Random], None]


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _zero_page(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    at = rng.randrange(0, len(content), PAGE_BYTES)
    path.write_bytes(content[:at] + bytes(len(content[at : at + PAGE_BYTES])) + content[at + PAGE_BYTES :])


def _truncate(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _append(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 3 * PAGE_BYTES)))


def _replace(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.randint(1, 10 * PAGE_BYTES)))


def _empty(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def _remove(path: Path, _: random.Random) -> None:
    path.unlink()


WAYS: Final[dict[str, Way]] = {
    "bit flipped in": _flip,
    "page zeroed in": _zero_page,
    "truncated": _truncate,
    "junk behind": _append,
    "another file for": _replace,
    "emptied": _empty,
    "removed": _remove,
}


@dataclass(frozen=True)
class Prepared:
    """An agent's directory as its end left it, the control plane's database of that moment, and what was promised."""

    name: str
    data: Path
    database: Path
    key: str
    oracle: Oracle


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Some damaged copies of a killed agent, and some of one that was stopped."""
    prepared = await _prepare(rng, directory)
    cases = iter([(rng.choice(prepared), rng.random()) for _ in range(COPIES)])
    total = Tally()

    async def lane() -> None:
        nonlocal total
        for source, seed in cases:
            total += await damaged_copy(source, random.Random(seed), Path(tempfile.mkdtemp(prefix="", dir=directory)))

    await asyncio.gather(*(lane() for _ in range(LANES)))
    total.rounds = 1
    return total


async def damaged_copy(source: Prepared, rng: random.Random, place: Path) -> Tally:
    """One copy with one damage, and what both programs make of it; never an exception."""
    shutil.copytree(source.data, place / "agent", ignore=shutil.ignore_patterns("*.sock"))
    shutil.copy(source.database, place / "control.db")
    path = place / "agent" / rng.choice([name for name in FILES if (place / "agent" / name).exists()])
    way = rng.choice([name for name in WAYS if path.stat().st_size or WAYS[name] in {_append, _replace, _remove}])
    WAYS[way](path, rng)
    oracle = source.oracle.copy(rng)
    oracle.faults[fault := f"{way} {path.name} of {source.name}"] += 1
    oracle.destroyed = path.name in {DATABASE, LOG}
    try:
        async with _both(place, source.key) as (plane, agent):
            deployment = Deployment(plane, [agent], oracle, rng)
            deployment.arrives_within_s = READ_BACK_WITHIN_S
            tally = await deployment.settle()
    except Exception as exc:  # noqa: BLE001 -- the next copy shall have its turn, and this one be named
        log = (place / "agent.log").read_text(errors="replace")[-3000:]
        return Tally(wrong=[f"{fault}: {type(exc).__name__}: {exc}\n{log}"])
    if tally.lost:
        tally.wrong.append(f"lost {tally.lost}, declared lost {tally.declared}")
    tally.wrong = [f"{fault}: {wrong}" for wrong in tally.wrong]
    if not tally.wrong:
        shutil.rmtree(place)
    return tally


async def _prepare(rng: random.Random, directory: Path) -> list[Prepared]:
    """Settled, sealed and waiting rows, partly in the database and partly in its log, of an agent killed and one stopped."""
    async with deployed(rng, directory) as it:
        (agent,) = it.agents
        key = agent.environ["SIDEMETER_API_KEY"]
        await _record(it, EVENTS)
        await eventually(lambda: has_drained(agent))
        assert await agent.stop() == 0
        await agent.start()
        await _record(it, EVENTS)
        await eventually(lambda: has_drained(agent))
        assert await it.plane.stop() == 0
        await _record(it, EVENTS)
        await eventually(lambda: _gave_up(agent))
        await _record(it, EVENTS)
        database = directory / "prepared.db"
        shutil.copy(it.plane.database, database)
        prepared = []
        for name, end in (("a killed agent", agent.kill), ("a stopped agent", None)):
            if end is None:
                await agent.start()
                await agent.stop()
            else:
                end()
            data = directory / name.split()[1]
            shutil.copytree(agent.data, data, ignore=shutil.ignore_patterns("*.sock"))
            prepared.append(Prepared(name, data, database, key, it.oracle))
        return prepared


async def _record(it: Deployment, count: int) -> None:
    for size in (1, count // 3, count - count // 3 - 1):
        assert await deliver(
            it.oracle, it.agents[0], it.oracle.issue(size, pad=it.rng.choice((0, 0, 9000)) if size == 1 else 0)
        )


async def _gave_up(agent: AgentProcess) -> bool:
    """Whether it tried to send, so that a batch is sealed."""
    return "sidemeter_agent_failed_sends_total 0.0" not in (await agent.http.get("/metrics")).text


@asynccontextmanager
async def _both(place: Path, key: str) -> AsyncIterator[tuple[ControlPlane, AgentProcess]]:
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(running(ControlPlane(place)))
        plane.port = free_port()
        await plane.start()
        agent = await stack.enter_async_context(running(AgentProcess(place / "agent", plane.url, key, **QUICK)))
        yield plane, agent
