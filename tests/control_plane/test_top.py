"""`sidemeter-control top`: what one screen says, and the command beside real programs."""

import asyncio
import dataclasses
import io
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from fakes import eventually
from processes import ADMIN_KEY, agent, control_plane, run
from rich.console import Console

from sidemeter_control.top import SHOWN, Look, screen

COMMAND = (sys.executable, "-m", "sidemeter_control.cli")
BEFORE = Look(10.0, {"sidemeter_events_total{accepted}": 100}, [], {})


def shown(**changes: Any) -> str:
    now = dataclasses.replace(BEFORE, **({"at_s": 12.0} | changes))
    out = io.StringIO()
    Console(file=out, width=120, highlight=False).print(screen("http://x", BEFORE, now))
    return out.getvalue()


def known(number: int, state: str = "CONNECTED") -> dict[str, Any]:
    return {
        "id": f"{number:032x}",
        "service": "[red]chat",
        "version": "0.1.0",
        "epoch": 3,
        "backlog": number,
        "state": state,
        "lastSeen": "2026-01-01T00:00:00Z",
    }


def test_rates_are_between_two_looks() -> None:
    assert re.search(r"events counted +50 +200\n", shown(figures={"sidemeter_events_total{accepted}": 200}))
    assert re.search(r"events counted +0 +7\n", shown(figures={"sidemeter_events_total{accepted}": 7}))


def test_what_needs_attention_is_said_and_else_nothing_is() -> None:
    assert "dead letters wait" not in shown()
    text = shown(figures={"sidemeter_dead_letters": 3, "sidemeter_recovering": 1})
    assert "3 dead letters wait" in text
    assert "recovering: nothing more is granted" in text


def test_meters_being_filled_have_a_bar() -> None:
    assert re.search(r"tokens +\S+ +40 %", shown(filling={"tokens": Decimal("0.4")}))


def test_agents_are_shown_by_their_backlog_and_names_paint_nothing() -> None:
    text = shown(agents=[known(number) for number in range(SHOWN + 3)])
    assert "and 3 others" in text
    assert text.index(f" {SHOWN + 2} ") < text.index(" CONNECTED")
    assert "[red]chat" in text


def test_without_agents_it_says_how_to_start_one() -> None:
    assert "sidemeter agent --control-plane URL" in shown()


async def test_once_prints_one_screen_of_a_running_control_plane(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane, agent(tmp_path / "data", plane) as process:
        await process.post("/v1/events", {"type": "call", "subject": "acme"})

        async def has_come() -> bool:
            return 'outcome="accepted"} 1.0' in (await plane.http.get(f"{plane.url}/metrics")).text

        await eventually(has_come, 60)
        top = [*COMMAND, "top", "--once", "--every", "0.1", "--url", plane.url]
        printed = await asyncio.to_thread(lambda: run(*top, SIDEMETER_API_KEY=ADMIN_KEY))
        assert re.search(r"events counted +\d+ +1\n", printed)
        assert re.search(r"[0-9a-f]{12} +journey +\S+ +1 +0 +CONNECTED", printed)
        assert "\x1b" not in printed
        refused = await asyncio.to_thread(lambda: run(*top, exit_code=1, SIDEMETER_API_KEY="smk_wrong"))
        assert refused.startswith("sidemeter-control: ")


def test_without_a_key_it_is_wrong_use() -> None:
    assert "SIDEMETER_API_KEY: must be set" in run(*COMMAND, "top", "--once", exit_code=2)
