"""Plain HTTP over the Unix socket, as the shell script does it."""

import json
import shutil
from pathlib import Path

import pytest
from processes import agent, control_plane, run


@pytest.mark.skipif(shutil.which("curl") is None, reason="the example is written for curl")
async def test_every_request_of_the_script_is_answered(tmp_path: Path) -> None:
    patient = {"SIDEMETER_FIRST_CHECK_WAIT_S": "10"}  # its first consume shall know the limits on a busy machine too
    async with control_plane(tmp_path) as plane, agent(tmp_path / "agent", plane, **patient) as process:
        once, again, mixed, check, consume, quota = map(
            json.loads, run("sh", "examples/any_language.sh", str(process.socket)).splitlines()
        )
    assert (once["accepted"], once["duplicates"], once["durability"]) == (1, 0, "disk")
    assert (again["accepted"], again["duplicates"]) == (0, 1)
    assert mixed["accepted"] == 1
    assert [(each["index"], each["code"]) for each in mixed["rejected"]] == [(1, "invalid_input")]
    assert check["allowed"] is False
    assert (consume["allowed"], consume["reason"]) == (True, "no_limit")
    assert quota
