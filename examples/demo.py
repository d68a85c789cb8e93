"""The whole product on one machine: `make demo`, or `python examples/demo.py` where Sidemeter is installed.

Starts a control plane on SQLite, a sample service with an agent in its process, and a sidecar that a second program uses;
sells two plans to three customers; plays LLM-like traffic until Ctrl-C, and shows what it costs while it happens. One
customer runs into a hard limit and is refused. At the end both agents drain, and every event and every cent is checked
against the demo's own books: one missing or extra, and the exit code is 1.

In the environment: `SECONDS=20` ends it by itself (without it, an hour does); `TRACE=file.csv` plays a real trace in that
time, or in half a minute, and ends with it.
"""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from demo_parts.catalogue import CUSTOMERS, TRIAL_REQUESTS, Control, Counted, expected_cost, set_up
from demo_parts.programs import DemoFailed, running
from demo_parts.screen import Screen
from demo_parts.traffic import Books, Call, Traffic, traced
from rich.console import Console

from sidemeter import Client, SidemeterError

REFRESH_EVERY_S = 0.25
LONGEST_S = 3600.0
TRACE_LASTS_S = 30.0
DRAIN_S = "20"
HTTP_URL = r"http://127\.0\.0\.1:\d+"
QUERY = '{ customer(key: "acme") { cost { total { rounded currency } lines { text amount { rounded } } } } }'


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for: traffic for `lasts_s` at most, generated or of a trace."""

    lasts_s: float
    trace: list[Call] | None


async def demo(directory: Path, console: Console, stop: asyncio.Event, wish: Asked) -> None:
    """Everything, top to bottom; raises DemoFailed when something is not as promised."""
    async with control_plane(directory) as control:
        await set_up(control)
        agents = {
            "SIDEMETER_CONTROL_PLANE": control.url,
            "SIDEMETER_API_KEY": await control.new_key("agents", "AGENT"),
            "SIDEMETER_DRAIN_S": DRAIN_S,
        }
        announce(console, control.url, await control.new_key("to read", "READ"))
        async with sample_service(directory, agents) as service, sidecar(directory, agents) as batch:
            traffic = Traffic(service, batch, stop, wish.trace)
            await play(traffic, control, console, wish.lasts_s)
        # Both agents have drained: what they acknowledged is counted now, or it is lost.
        check(traffic.books, await control.counted())
        console.print(verdict(traffic.books), soft_wrap=True, highlight=False)


@asynccontextmanager
async def control_plane(directory: Path) -> AsyncIterator[Control]:
    """`sidemeter-control serve` on a fresh SQLite file."""
    key = "smk_" + secrets.token_urlsafe(32)
    serve = ("serve", "--database", f"sqlite:///{directory / 'control.db'}", "--listen", "127.0.0.1:0")
    arguments = ("-m", "sidemeter_control.cli", *serve)
    async with running("control plane", directory / "control.log", *arguments, SIDEMETER_ADMIN_KEY=key) as program:
        url = await program.says(HTTP_URL)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
            yield Control(url, http)
        await program.stop()


@asynccontextmanager
async def sample_service(directory: Path, environ: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """The service of `sample_service.py`, with the agent in its process."""
    arguments = ("sample_service.py", "--port", "0")
    mine = {"SIDEMETER_DATA_DIR": str(directory / "chat")}
    async with running("sample service", directory / "service.log", *arguments, **environ, **mine) as program:
        async with httpx.AsyncClient(base_url=await program.says(HTTP_URL), timeout=30) as http:
            yield http
        await program.stop()


@asynccontextmanager
async def sidecar(directory: Path, environ: dict[str, str]) -> AsyncIterator[Client]:
    """`sidemeter agent`, and a client of its Unix socket."""
    socket = directory / "batch.sock"
    arguments = ("-m", "sidemeter.cli", "agent", "--service", "batch", "--socket", str(socket))
    mine = {"SIDEMETER_DATA_DIR": str(directory / "batch")}
    async with running("sidecar", directory / "sidecar.log", *arguments, **environ, **mine) as program:
        await program.says("agent ready")
        async with Client(socket=socket) as client:
            yield client
        await program.stop()


async def play(traffic: Traffic, control: Control, console: Console, lasts_s: float) -> None:
    """Traffic for so long, or until it is stopped; and the screen beside it."""
    timer = asyncio.get_running_loop().call_later(lasts_s, traffic.stop.set)
    playing = asyncio.create_task(traffic.play())
    try:
        with Screen(console) as screen:
            while not playing.done():
                screen.show(traffic.books, await control.counted())
                await asyncio.wait([playing], timeout=REFRESH_EVERY_S)
        await playing
    finally:
        timer.cancel()
        playing.cancel()


def announce(console: Console, url: str, key: str) -> None:
    """Where to look while it runs."""
    lines = (
        f"page     {url}/#key={key}",
        f"GraphQL  {url}/graphql",
        f"key      {key}",
        f"query    {QUERY}",
        f"or       python examples/graphql_query.py {url}/graphql {key} acme",
    )
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def check(books: Books, counted: Counted) -> None:
    """Raise DemoFailed unless every acknowledged event is counted once, and every bill is right to the cent."""
    faults = list(differences(books, counted))
    if faults:
        raise DemoFailed("\n".join(faults))


def differences(books: Books, counted: Counted) -> Iterator[str]:
    """What the control plane has counted otherwise than the books say."""
    for customer, ours in books.accounts.items():
        theirs = counted.customers[customer]
        cost = expected_cost(customer, ours.input_tokens, ours.output_tokens.total())
        for what, expected, found in (
            ("requests", ours.requests, theirs.requests),
            ("completions", ours.completions, theirs.completions),
            ("input tokens", ours.input_tokens, theirs.input_tokens),
            ("output tokens by model", ours.output_tokens, theirs.output_tokens),
            ("cost", cost, theirs.cost),
        ):
            if expected != found:
                yield f"{customer}: {what} should be {expected}, and are {found}"
        if CUSTOMERS[customer] == "trial" and ours.requests != min(TRIAL_REQUESTS, ours.requests + ours.refused):
            yield f"{customer}: {ours.requests} requests were answered and {ours.refused} refused at {TRIAL_REQUESTS}"


def verdict(books: Books) -> str:
    """The end of a demo without faults."""
    refused = sum(account.refused for account in books.accounts.values())
    return (
        f"Each of {books.events:,} acknowledged events was counted once, {len(books.accounts)} bills are right to the"
        f" cent, and {refused:,} requests were refused at a hard limit of {TRIAL_REQUESTS}."
    )


def asked(environ: Mapping[str, str]) -> Asked:
    """SECONDS and TRACE; raises DemoFailed when they are wrong. An empty variable is unset."""
    seconds, trace = environ.get("SECONDS"), environ.get("TRACE")
    if seconds and not seconds.isdecimal():
        raise DemoFailed(f"SECONDS must be a whole number, not {seconds!r}")
    lasts_s = min(int(seconds), LONGEST_S) if seconds else LONGEST_S
    if not trace:
        return Asked(lasts_s, None)
    return Asked(lasts_s, traced(Path(trace), 0.8 * lasts_s if seconds else TRACE_LASTS_S))


async def main() -> int:
    """The demo in a directory of its own, until it ends or is told to; the exit code."""
    console, stop, failed = Console(), asyncio.Event(), False
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        wish = asked(os.environ)
        with tempfile.TemporaryDirectory(prefix="sidemeter-demo-") as directory:
            await demo(Path(directory), console, stop, wish)
    except* (DemoFailed, SidemeterError, httpx.HTTPError) as group:
        failed = True
        for fault in leaves(group):
            console.print(f"FAILED: {str(fault) or repr(fault)}", style="red", markup=False, soft_wrap=True)
    return int(failed)


def leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    """The exceptions themselves, without the groups around them."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from leaves(each)
        else:
            yield each


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
