"""The command, in processes of its own: its start, its refusals, its end."""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from sidemeter.settings import Settings

WITHIN_S = 30
COMMAND = [sys.executable, "-c", "from sidemeter.cli import main; main(prog_name='sidemeter')"]


async def start(*arguments: object, **variables: str) -> Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIDEMETER_")}
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=clean | variables,
    )


async def run(*arguments: object, **variables: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself."""
    process = await start(*arguments, **variables)
    out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def agent(*arguments: object) -> AsyncIterator[tuple[Process, str]]:
    """A running `sidemeter agent` and its ready line; killed at the end if it still runs."""
    process = await start("agent", "--service", "chat", *arguments)
    assert process.stdout
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), WITHIN_S)).decode()
        yield process, line
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stop(process: Process, number: signal.Signals) -> int:
    process.send_signal(number)
    return await asyncio.wait_for(process.wait(), WITHIN_S)


async def test_it_tells_its_version() -> None:
    code, out, _ = await run("--version")
    assert (code, out.split()[0]) == (0, "sidemeter,")


async def test_help_documents_every_setting() -> None:
    code, out, _ = await run("agent", "--help")
    assert code == 0
    for each in dataclasses.fields(Settings):
        assert f"SIDEMETER_{each.name.upper()}" in out
        assert (f"--{each.name.replace('_', '-')}" in out) is (each.name != "api_key")


@pytest.mark.parametrize(
    ("arguments", "variables", "line"),
    [
        ([], {}, "SIDEMETER_SERVICE: must be set"),
        (["--service", "chat", "--listen", "0.0.0.0:1"], {}, "--listen: must be a loopback address"),
        (["--service", "chat"], {"SIDEMETER_DRAIN_S": "long"}, "SIDEMETER_DRAIN_S: must be a number of seconds"),
        (["--service", "chat", "--control-plane", "http://127.0.0.1:1"], {}, "SIDEMETER_API_KEY: must be set"),
        (["--service", "chat", "--group-max-events", "0"], {}, "--group-max-events: must be a whole number from 1"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_exit_code_2(
    arguments: list[str], variables: dict[str, str], line: str
) -> None:
    code, out, err = await run("agent", *arguments, **variables)
    assert (code, out) == (2, "")
    assert err.startswith(f"sidemeter: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_both_doors_until_a_signal_and_exits_0(tmp_path: Path, number: signal.Signals) -> None:
    socket = tmp_path / "run" / "agent.sock"
    async with agent("--data-dir", tmp_path, "--socket", socket, "--listen", "127.0.0.1:0") as (process, line):
        assert line.startswith(f"sidemeter agent ready: unix:{socket}, http://127.0.0.1:")
        async with httpx.AsyncClient(base_url=line.split(", ")[1].strip()) as caller:
            assert (await caller.post("/v1/events", json={"type": "call", "subject": "acme"})).status_code == 202
            assert await stop(process, number) == 0
    assert not socket.exists()


async def test_what_was_recorded_is_there_after_a_kill(tmp_path: Path) -> None:
    record = ("record", "call", "acme", '{"n": 0.1}', "--id", "1", "--socket", tmp_path / "agent.sock")
    async with agent("--data-dir", tmp_path) as (process, _):
        code, out, _ = await run(*record)
        assert (code, json.loads(out)) == (0, {"id": "1", "source": "chat", "duplicate": False, "durability": "disk"})
        process.kill()
        await process.wait()
    async with agent("--data-dir", tmp_path) as (process, _):
        code, out, _ = await run(*record)
        assert (code, json.loads(out)["duplicate"]) == (0, True)
        assert await stop(process, signal.SIGTERM) == 0


async def test_a_second_agent_on_the_directory_is_refused(tmp_path: Path) -> None:
    async with agent("--data-dir", tmp_path) as (process, _):
        code, out, err = await run("agent", "--service", "chat", "--data-dir", tmp_path, "--listen", "127.0.0.1:0")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert str(tmp_path) in err
        assert await stop(process, signal.SIGTERM) == 0


async def test_a_taken_port_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    async with agent("--data-dir", tmp_path / "first", "--listen", "127.0.0.1:0") as (_, line):
        listen = line.split("http://")[1].strip()
        code, _, err = await run("agent", "--service", "chat", "--data-dir", tmp_path / "second", "--listen", listen)
        assert (code, err.count("\n")) == (1, 1)
        assert listen in err


async def test_a_check_answers_by_its_exit_code(tmp_path: Path) -> None:
    async with agent("--data-dir", tmp_path):
        code, out, _ = await run("check", "acme", "tokens", "0.5", SIDEMETER_DATA_DIR=str(tmp_path))
        assert (code, json.loads(out)["allowed"]) == (3, False)
        code, _, err = await run("check", "acme", "tokens", "0", SIDEMETER_DATA_DIR=str(tmp_path))
        assert (code, err.startswith("sidemeter: quantity: must be")) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["record", "call", "acme", "[1]"], 2, "data: must be a JSON object"),
        (["record", "call", ""], 2, "subject: must be 1 to 256 characters"),
        (["check", "acme", "tokens"], 1, ""),
    ],
)
async def test_a_command_that_fails_says_why_in_one_line(
    tmp_path: Path, arguments: list[str], code: int, line: str
) -> None:
    done, out, err = await run(*arguments, "--socket", tmp_path / "none.sock")
    assert (done, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(f"sidemeter: {line}")


async def test_ready_tells_by_its_exit_code_whether_events_are_taken(tmp_path: Path) -> None:
    code, out, err = await run("ready", SIDEMETER_DATA_DIR=str(tmp_path))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert str(tmp_path) in err
    async with agent("--data-dir", tmp_path, "--socket", tmp_path / "s", "--listen", "127.0.0.1:0") as (process, line):
        url = line.split(", ")[1].strip()
        for arguments in (("--socket", tmp_path / "s"), ("--url", url), ("--alive", "--url", url)):
            assert await run("ready", *arguments) == (0, "", "")
        assert await stop(process, signal.SIGTERM) == 0


async def test_ready_names_the_answer_of_what_is_no_agent(tmp_path: Path) -> None:
    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(elsewhere, tmp_path / "s"):
        code, _, err = await run("ready", "--socket", tmp_path / "s")
    assert (code, err) == (1, f"sidemeter: {tmp_path / 's'}: answered 503: busy\n")
