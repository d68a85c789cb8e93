"""What the tests of a whole agent share: settings for it, and a look at what was counted."""

from pathlib import Path
from typing import Any

from agent.control_plane_double import KEY, ControlPlaneDouble
from fakes import eventually
from processes import cells

from sidemeter import Settings


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


async def counted(double: ControlPlaneDouble, number: int) -> None:
    await eventually(lambda: len(double.events) == number)


def ids(double: ControlPlaneDouble) -> set[str]:
    return {event_id for _, event_id in double.events}
