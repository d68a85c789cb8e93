"""The doctor: what it finds of a control plane, a clock, a key and a running agent, and how the command ends."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes import ManualClock
from processes import AgentProcess, ControlPlane, agent, control_plane, run

from sidemeter import host
from sidemeter.doctor import CLOCK_FAIL_S, CLOCK_WARN_S, examine, misspelled
from sidemeter.premises import Finding
from sidemeter.settings import Settings
from sidemeter.uplink import Answer, Link
from sidemeter.version import VERSION

NOW_US = 1_700_000_000_000_000
COMMAND = (sys.executable, "-m", "sidemeter.cli")


class Told(Link):
    """A control plane that gives one answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def request(self, method: str, path: str, **_: object) -> Answer:  # type: ignore[override]
        return self._answer


def about(*scopes: str, version: str = VERSION, protocol: str = "1", now_us: int = NOW_US) -> Answer:
    fields = {"version": version, "protocol": protocol, "nowUs": now_us, "scopes": scopes or ("AGENT",)}
    return Answer(200, {}, json.dumps(fields).encode())


async def found(tmp_path: Path, answer: Answer, url: str = "http://127.0.0.1:1") -> dict[str, Finding]:
    settings = Settings(service="chat", data_dir=tmp_path, control_plane=url, api_key="k")
    findings = await examine(
        settings, {}, ManualClock(NOW_US), agent=Link(socket=tmp_path / "agent.sock"), plane=Told(answer)
    )
    return {each.check: each for each in findings}


@pytest.mark.parametrize(
    ("ahead_s", "status"),
    [
        (0, "ok"),
        (CLOCK_WARN_S, "ok"),
        (CLOCK_WARN_S + 1, "warn"),
        (-CLOCK_WARN_S - 1, "warn"),
        (CLOCK_FAIL_S + 1, "fail"),
    ],
)
async def test_a_clock_is_held_against_the_other_sides(tmp_path: Path, ahead_s: int, status: str) -> None:
    clock = (await found(tmp_path, about(now_us=NOW_US - ahead_s * 1_000_000)))["clock"]
    assert clock.status == status
    assert ("ahead of" in clock.found) is (ahead_s > 0)


async def test_a_control_plane_from_before_it_told_its_clock_has_a_date(tmp_path: Path) -> None:
    date = {"date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    findings = await found(tmp_path, Answer(404, date, b""))
    assert (findings["clock"].status, findings["key"].status) == ("ok", "warn")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (about("AGENT"), "ok"),
        (about("ADMIN"), "warn"),
        (about("READ"), "fail"),
        (Answer(401, {}, b""), "fail"),
        (Answer(502, {}, b"<html>"), "warn"),
        (Answer(200, {}, b"<html>"), "warn"),
    ],
)
async def test_a_key_is_as_the_control_plane_says(tmp_path: Path, answer: Answer, status: str) -> None:
    assert (await found(tmp_path, answer))["key"].status == status


@pytest.mark.parametrize(
    ("answer", "status"),
    [(about(), "ok"), (about(version="99.0"), "ok"), (about(version="0.0.1"), "warn"), (about(protocol="2"), "fail")],
)
async def test_versions_may_differ_as_far_as_agents_are_the_older_ones(
    tmp_path: Path, answer: Answer, status: str
) -> None:
    assert (await found(tmp_path, answer))["version"].status == status


async def test_a_key_in_the_clear_is_warned_of(tmp_path: Path) -> None:
    assert (await found(tmp_path, about(), "http://plane.example"))["control plane"].status == "warn"
    assert (await found(tmp_path, about(), "https://plane.example"))["control plane"].status == "ok"


def test_a_variable_that_is_nearly_one_is_named() -> None:
    (finding,) = misspelled(
        {"SIDEMETER_DRAINS_S": "1", "SIDEMETER_DRAIN_S": "1", "SIDEMETER_DATABASE": "x", "HOME": "/"}
    )
    assert (finding.status, finding.advice) == ("warn", "SIDEMETER_DRAIN_S may be meant")


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path) as running:
        yield running


def doctor(process: AgentProcess, *arguments: str, exit_code: int, **environ: str) -> str:
    service = ["doctor", "--service", "journey", "--data-dir", str(process.data), *arguments]
    return run(*COMMAND, *service, exit_code=exit_code, **environ)


async def test_the_command_finds_both_programs_at_work(tmp_path: Path, plane: ControlPlane) -> None:
    key = await plane.new_key("AGENT")
    async with agent(tmp_path / "data", plane) as process:
        told = ["--socket", str(process.socket), "--control-plane", plane.url, "--json"]
        disk = 3 if host.file_system(tmp_path) in {*host.IN_MEMORY, "overlay"} else 0  # where tests keep their files
        printed = await asyncio.to_thread(doctor, process, *told, exit_code=disk, SIDEMETER_API_KEY=key)
        said = json.loads(printed)
        found = {each["check"]: each for each in said["findings"]}
        assert {found[name]["status"] for name in ("agent", "control plane", "key", "version", "clock")} == {"ok"}
        assert key not in printed
        wrong = await asyncio.to_thread(doctor, process, *told[:-1], exit_code=1, SIDEMETER_API_KEY="smk_wrong")
        assert "fail key: unknown, expired or revoked\n     → make another: createApiKey" in wrong
        hidden = ["--socket", str(tmp_path / "none.sock")]
        assert "fail agent: one has the directory" in await asyncio.to_thread(doctor, process, *hidden, exit_code=1)


def test_a_wrong_setting_is_a_finding(tmp_path: Path) -> None:
    printed = run(*COMMAND, "doctor", "--json", exit_code=1)
    assert json.loads(printed)["findings"][0]["found"].startswith("SIDEMETER_SERVICE: must be set")
    printed = run(*COMMAND, "doctor", "--service", "x", "--drain-s", "long", exit_code=1)
    assert "fail configuration: --drain-s: must be a number" in printed
