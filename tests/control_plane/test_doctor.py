"""The doctor: what it finds of a database, a disk, an address and a control plane at work, and how the command ends."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from fakes import ManualClock
from processes import ADMIN_KEY, ControlPlane, control_plane, run

from sidemeter_control import host
from sidemeter_control.doctor import CLOCK_FAIL_S, CLOCK_WARN_S, examine, misspelled
from sidemeter_control.premises import Finding
from sidemeter_control.settings import Settings

NOW_US = 1_700_000_000_000_000
COMMAND = (sys.executable, "-m", "sidemeter_control.cli")

Answers = dict[str, httpx.Response]


def answers(*, now_us: int = NOW_US, version: str = "1.0", ready: str = "ready\n", figures: str = "") -> Answers:
    about = {"version": version, "protocol": "1", "nowUs": now_us, "scopes": ["READ"]}
    return {
        "/v1/about": httpx.Response(200, json=about),
        "/readyz": httpx.Response(200, text=ready),
        "/metrics": httpx.Response(200, text=figures),
    }


def found(given: Answers | Callable[[httpx.Request], httpx.Response]) -> dict[str, Finding]:
    handler = given if callable(given) else lambda request: given[request.url.path]
    with httpx.Client(transport=httpx.MockTransport(handler)) as http:
        clock = ManualClock(NOW_US)
        return {each.check: each for each in examine(Settings(), {}, clock, http, url="http://x", version="1.0")}


def test_one_that_is_well() -> None:
    assert {each.status for each in found(answers()).values()} == {"ok"}


@pytest.mark.parametrize(
    ("ahead_s", "status"),
    [(0, "ok"), (CLOCK_WARN_S, "ok"), (-CLOCK_WARN_S - 1, "warn"), (CLOCK_FAIL_S + 1, "fail")],
)
def test_a_clock_is_held_against_the_other_sides(ahead_s: int, status: str) -> None:
    assert found(answers(now_us=NOW_US - ahead_s * 1_000_000))["clock"].status == status


def test_another_version_runs() -> None:
    assert found(answers(version="0.9"))["version"].status == "warn"


def test_recovering_and_what_waits_is_warned_of() -> None:
    figures = "# TYPE sidemeter_dead_letters gauge\nsidemeter_dead_letters 3.0\n"
    said = found(answers(ready="ready\nrecovering: …\n", figures=figures))
    assert (said["readiness"].status, said["to look at"].found) == ("warn", "3 dead letters wait")


def test_one_that_refuses_writes_fails() -> None:
    given = answers() | {"/readyz": httpx.Response(503, text="the disk is full")}
    assert found(given)["readiness"].status == "fail"


@pytest.mark.parametrize(("status", "check"), [(401, "key"), (404, "version"), (200, "version")])
def test_without_a_key_or_from_something_else_there_is_no_more(status: int, check: str) -> None:
    said = found(answers() | {"/v1/about": httpx.Response(status, text="<html>")})
    assert said[check].status == "warn"
    assert "clock" not in said


def test_no_answer_fails() -> None:
    def refused(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert found(refused)["connection"].status == "fail"


def test_a_variable_that_is_nearly_one_is_named() -> None:
    (finding,) = misspelled({"SIDEMETER_DATABSE": "x", "SIDEMETER_SERVICE": "the agent's", "HOME": "/"})
    assert (finding.status, finding.advice) == ("warn", "SIDEMETER_DATABASE may be meant")


def doctor(database: Path, *arguments: str, exit_code: int, **environ: str) -> dict[str, Finding]:
    where = ["--database", f"sqlite:///{database}", "--json", *arguments]
    said = json.loads(run(*COMMAND, "doctor", *where, exit_code=exit_code, **environ))
    return {each["check"]: Finding(**each) for each in said["findings"]}


def memory(tmp_path: Path) -> int:
    """What the command ends with where nothing is wrong: tests may keep their files in memory."""
    return 3 if host.file_system(tmp_path.resolve()) in {*host.IN_MEMORY, "overlay"} else 0


async def test_the_command_finds_one_at_work_and_one_that_is_stopped(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        listen = ["--listen", f"127.0.0.1:{plane.port}"]
        said = await asyncio.to_thread(
            doctor, plane.database, *listen, exit_code=memory(tmp_path), SIDEMETER_ADMIN_KEY=ADMIN_KEY
        )
        checks = ("database", "address", "connection", "readiness", "key", "version", "clock", "agents")
        assert {said[name].status for name in checks} == {"ok"}
        assert "open in a control plane" in said["database"].found
        wrong = await asyncio.to_thread(doctor, plane.database, *listen, exit_code=3, SIDEMETER_API_KEY="smk_wrong")
        assert (wrong["key"].status, "agents" in wrong) == ("warn", False)
        await _stopped(plane, listen, tmp_path)


def files_of(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir()}


async def _stopped(plane: ControlPlane, listen: list[str], tmp_path: Path) -> None:
    assert await plane.stop() == 0
    before = files_of(tmp_path)
    said = await asyncio.to_thread(doctor, plane.database, *listen, exit_code=memory(tmp_path))
    assert "no control plane runs on it" in said["database"].found
    assert (said["address"].found, "connection" in said) == (f"127.0.0.1:{plane.port} is free", False)
    assert files_of(tmp_path) == before


def test_a_database_that_is_not_there_yet_is_well(tmp_path: Path) -> None:
    said = doctor(tmp_path / "sub" / "control.db", "--listen", "127.0.0.1:0", exit_code=memory(tmp_path))
    assert "serve will make it" in said["database"].found
    assert not (tmp_path / "sub").exists()


def test_what_is_no_database_of_ours_fails(tmp_path: Path) -> None:
    database = tmp_path / "control.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE other (x)")
    assert doctor(database, exit_code=1)["database"].status == "fail"
    database.write_bytes(b"nothing like it" * 1000)
    assert doctor(database, exit_code=1)["database"].status == "fail"


def test_what_others_may_read_and_what_lies_beside_it_is_warned_of(tmp_path: Path) -> None:
    database = tmp_path / "control.db"
    run(*COMMAND, "migrate", "--database", f"sqlite:///{database}")
    database.chmod(0o644)
    (tmp_path / "control.db.aside-20260101T000000Z").touch()
    said = doctor(database, "--listen", "127.0.0.1:0", exit_code=3)
    assert (said["permissions"].advice, said["leftovers"].status) == (f"chmod 600 {database}", "warn")
    assert "aside-20260101T000000Z" in said["leftovers"].found


def test_an_address_beyond_this_host_is_warned_of(tmp_path: Path) -> None:
    printed = run(*COMMAND, "doctor", "--database", f"sqlite:///{tmp_path}/c.db", "--listen", "0.0.0.0:0", exit_code=3)
    assert "warn address: 0.0.0.0:0: keys go over the network as they are\n     → let a proxy" in printed


def test_a_wrong_setting_is_a_finding() -> None:
    printed = run(*COMMAND, "doctor", "--listen", "nowhere", exit_code=1)
    assert printed.startswith("fail configuration: --listen: must be HOST:PORT")
