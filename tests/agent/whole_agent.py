"""What the tests of a whole agent share: settings for it, a clock, and a look at what was counted."""

from pathlib import Path
from typing import Any

from agent.control_plane_double import KEY, ControlPlaneDouble
from fakes import eventually
from processes import cells

from sidemeter import Agent, Decision, Settings
from sidemeter.clock import SystemClock

LONG_AGO_US = 1_000_000
NEVER_US = 1 << 60


class Wall(SystemClock):
    """A wall clock that is set by hand."""

    us = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.us


def settings(directory: Path, double: ControlPlaneDouble | None = None, **changes: Any) -> Settings:
    defaults: dict[str, Any] = {
        "flush_after_s": 0.01,
        "sync_interval_s": 0.01,
        "first_check_wait_s": 5.0,
        "drain_s": 2.0,
        "cell_dir": cells(),
    }
    uplink = {"control_plane": double.url, "api_key": KEY} if double else {}
    return Settings(service="chat", data_dir=directory, **(defaults | uplink | changes))


def at(directory: Path, double: ControlPlaneDouble | None, name: str = "a", **changes: Any) -> Settings:
    """Settings for one of several agents, whose cells are beside them."""
    beside = directory / "cells"
    beside.mkdir(exist_ok=True)
    return settings(directory / name, double, cell_dir=beside, **changes)


async def spend(agent: Agent, tokens: int, **changes: Any) -> Decision:
    return await agent.consume("call", "acme", {"tokens": tokens}, **changes)


async def counted(double: ControlPlaneDouble, number: int) -> None:
    await eventually(lambda: len(double.events) == number)


def ids(double: ControlPlaneDouble) -> set[str]:
    return {event_id for _, event_id in double.events}
