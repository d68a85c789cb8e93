"""The systemd units: what systemd says of them, and whether the programs take what they give."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import DEPLOY, check_command, settings_of

from sidemeter.settings import Settings as AgentSettings

UNITS = {"sidemeter-control.service": "sidemeter-control", "sidemeter-agent@.service": "sidemeter"}
SPECIFIERS = {"%i": "chat", "%S": "/var/lib", "%t": "/run"}
MOST_EXPOSED = "20"
"""In tenths, as `systemd-analyze security` reckons it: 0 is shut, 100 is open."""

KEYS = {"SIDEMETER_ADMIN_KEY": "smk_of_the_administrator"}

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def lines(unit: str) -> list[tuple[str, str]]:
    """Every setting of the unit as an instance called chat has it."""
    text = (DEPLOY / "systemd" / unit).read_text()
    for name, value in SPECIFIERS.items():
        text = text.replace(name, value)
    return [(name, value) for name, _, value in (line.partition("=") for line in text.splitlines()) if _]


def of(unit: str, name: str) -> list[str]:
    return [value for each, value in lines(unit) if each == name]


def analysed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_unit(unit: str, tmp_path: Path) -> None:
    (command,) = of(unit, "ExecStart")
    text = (DEPLOY / "systemd" / unit).read_text().replace(command.split()[0], sys.executable)
    here = tmp_path / unit
    here.write_text(text)
    done = analysed("verify", "--man=no", here)
    assert (done.returncode, done.stdout) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_little_that_it_could_reach(unit: str) -> None:
    done = analysed("security", "--offline=true", f"--threshold={MOST_EXPOSED}", DEPLOY / "systemd" / unit)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_starts_its_program_with_settings_that_it_takes(unit: str) -> None:
    (command,) = of(unit, "ExecStart")
    assert Path(command.split()[0]).name == UNITS[unit]
    check_command(command)
    environ = dict(each.split("=", 1) for each in of(unit, "Environment"))
    settings = settings_of(UNITS[unit], environ | (KEYS if unit == "sidemeter-control.service" else {}))
    (state,) = (Path("/var/lib", each) for each in of(unit, "StateDirectory"))
    assert of(unit, "StateDirectoryMode") == ["0700"]
    if isinstance(settings, AgentSettings):
        (runtime,) = (Path("/run", each) for each in of(unit, "RuntimeDirectory"))
        assert (settings.data_dir, settings.cell_dir) == (state, runtime)
        assert settings.socket
        assert settings.socket.parent == runtime
        assert of(unit, "RuntimeDirectoryPreserve") == ["yes"]  # with the cell in it
        assert of(unit, "User") == ["chat"]
        drain_s = settings.drain_s
    else:
        assert Path(settings.database.removeprefix("sqlite:///")).parent == state
        drain_s = settings.drain_s
    assert float(of(unit, "TimeoutStopSec")[0]) > drain_s
    assert f"# drain_s is {drain_s:g}" in (DEPLOY / "systemd" / unit).read_text()


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_takes_from_the_program_what_it_does_not_need(unit: str) -> None:
    wanted = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "RestrictSUIDSGID": "yes",
        "MemoryDenyWriteExecute": "yes",
        "UMask": "0077",
    }
    assert wanted.items() <= dict(lines(unit)).items()
    assert not of(unit, "ReadWritePaths")
