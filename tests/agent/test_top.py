"""`sidemeter top`: what one screen says, and the command beside a real agent."""

import asyncio
import dataclasses
import os
import pty
import re
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from doors import sidecar
from fakes import ManualClock, eventually
from processes import agent, control_plane, run, without_settings

from sidemeter.answers import Quota
from sidemeter.errors import Unacceptable, Unreachable
from sidemeter.limits import QuotaView
from sidemeter.top import Look, look, screen
from sidemeter.uplink import Answer, Link
from sidemeter.version import VERSION

NOW_US = 1_700_000_000_000_000
COMMAND = (sys.executable, "-m", "sidemeter.cli")
BEFORE = Look(10.0, NOW_US, VERSION, {"ready": 1, "connected": 1, "recorded_events_total": 100}, [])
NOW = dataclasses.replace(BEFORE, at_s=12.0)


def shown(width: int = 120, **figures: float) -> str:
    now = dataclasses.replace(NOW, figures={**BEFORE.figures, **figures})
    return "\n".join(screen("x.sock", BEFORE, now, width))


def quota(customer: str, used: int, limit: int) -> Quota:
    left = Decimal(max(limit - used, 0))
    return Quota.of(
        QuotaView(customer, "chat", "METERED", "HARD", None, Decimal(limit), Decimal(used), left, NOW_US, NOW_US, 1)
    )


def test_rates_are_between_two_looks() -> None:
    assert re.search(r"recorded +50 +200\n", shown(recorded_events_total=200))


def test_an_agent_that_began_anew_has_no_negative_rate() -> None:
    assert re.search(r"recorded +0 +3\n", shown(recorded_events_total=3))


def test_what_needs_attention_is_said_and_else_nothing_is() -> None:
    assert "attention" not in shown()
    text = shown(disk_refusing=1, lost_events_total=2, connected=0)
    assert text.count("attention") == 3
    assert "takes events, NOT connected" in text


def test_denials_have_their_reasons_most_frequent_first() -> None:
    text = shown(**{"denied_total{lease_short}": 2, "denied_total{limit_reached}": 9, "denied_total{no_lease}": 0})
    assert "limit_reached 9, lease_short 2\n" in text


def test_the_backlog_has_an_age() -> None:
    assert "12 events, the oldest of 5 min ago" in shown(
        backlog_events=12, oldest_backlog_timestamp_seconds=NOW_US / 1e6 - 300
    )


def test_limits_show_what_is_left_and_names_move_no_cursor() -> None:
    now = dataclasses.replace(NOW, quotas=[quota("a\x1b[2Jcme", 95, 100), quota("none", 7, 0)])
    text = "\n".join(screen("x", BEFORE, now, 120))
    assert "\x1b" not in text
    assert re.search(r"a\?\[2Jcme +chat +95 +100 +5 %  2023-11-14 22:13", text)
    assert re.search(r"none +chat +7 +0 +0 %", text)


@pytest.mark.parametrize("width", [20, 80])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    assert max(map(len, shown(width, denials_total=1e9).splitlines())) <= width


class Answers(Link):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def request(self, method: str, path: str, **_: object) -> Answer:  # type: ignore[override]
        return Answer(200, {}, self._body)


@pytest.mark.parametrize("body", [b"\xff", b"<html>", b"up 1\n"])
async def test_what_is_no_agent_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(Unacceptable):
        await look(Answers(body), ManualClock())


async def test_it_looks_at_a_real_agent(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as served:
        for _ in range(3):
            await served.unix.post("/v1/events", json={"type": "call", "subject": "acme"})
        link = Link(socket=served.socket)
        seen = await look(link, ManualClock())
        await link.close()
    assert (seen.version, seen.of("recorded_events_total"), seen.of("ready")) == (VERSION, 3, 1)
    with pytest.raises(Unreachable):
        await look(Link(socket=tmp_path / "agent.sock"), ManualClock())


async def sell(plane: object) -> None:
    """A hard limit of ten calls to acme."""
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")  # type: ignore[attr-defined]
    await plane.make("createFeature", "FeatureInput", key="chat", meter="calls")  # type: ignore[attr-defined]
    entitlement = {"feature": "chat", "kind": "METERED", "limit": "10", "enforcement": "HARD"}
    await plane.make("publishPlan", "PlanInput", key="p", currency="USD", charges=[], entitlements=[entitlement])  # type: ignore[attr-defined]
    await plane.make("upsertCustomer", "CustomerInput", key="acme")  # type: ignore[attr-defined]
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="p")  # type: ignore[attr-defined]


async def test_once_prints_one_screen_of_a_running_agent(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell(plane)
        async with agent(tmp_path / "data", plane) as process:
            asked = {"subject": "acme", "feature": "chat"}
            await eventually(lambda: _known(process, asked), 60)
            await process.post("/v1/events", {"type": "call", "subject": "acme"})
            top = ["top", "--once", "--every", "0.1", "--socket", str(process.socket)]
            printed = await asyncio.to_thread(run, *COMMAND, *top)
    assert "takes events, connected, epoch 1" in printed, printed
    assert re.search(r"recorded +\d+ +1\n", printed)
    assert re.search(r"acme +chat +\d+ +10 +\d+ %", printed)
    assert "\x1b" not in printed


async def _known(process: object, asked: dict[str, str]) -> bool:
    return bool((await process.post("/v1/check", asked))["allowed"])  # type: ignore[attr-defined]


async def test_on_a_terminal_it_goes_on_and_leaves_the_screen_as_it_was(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as served:
        ours, theirs = pty.openpty()
        top = on_a_terminal(theirs, "top", "--every", "0.1", "--socket", str(served.socket))
        os.close(theirs)
        seen = bytearray()
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, lambda: seen.extend(_read(ours)))
        try:
            await eventually(lambda: seen.count(b"\x1b[H") >= 3, 60)
            top.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(top.wait, 60) == 0
            await eventually(lambda: seen.endswith(b"\x1b[?25h\x1b[?1049l"), 10)
        finally:
            loop.remove_reader(ours)
            top.kill()
            top.wait()
            os.close(ours)
    assert seen.startswith(b"\x1b[?1049h\x1b[?25l")


def on_a_terminal(terminal: int, *arguments: str) -> "subprocess.Popen[bytes]":
    environ = without_settings(TERM="xterm", COLUMNS="100", LINES="30")
    return subprocess.Popen([*COMMAND, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environ)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


def test_no_agent_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    printed = run(*COMMAND, "top", "--once", "--socket", str(tmp_path / "none.sock"), exit_code=1)
    assert printed.startswith("sidemeter: ")
    assert printed.count("\n") == 1
