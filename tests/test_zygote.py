import signal
import sys
from pathlib import Path

from processes import forked, without_settings


def run(log: Path, *arguments: str) -> int:
    return forked([sys.executable, "-m", *arguments], without_settings(), log).wait()


def test_a_forked_program_ends_with_its_own_exit_code_and_writes_to_its_own_log(tmp_path: Path) -> None:
    agent, plane = tmp_path / "agent.log", tmp_path / "plane.log"
    assert run(agent, "sidemeter.cli", "agent", "--service", "a" * 300) == 2
    assert run(plane, "sidemeter_control.cli", "--help") == 0
    assert "--service: must be 1 to 256 printable characters" in agent.read_text()
    assert "sidemeter-control" in plane.read_text()


def test_a_killed_one_says_by_which_signal(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "sidemeter.cli", "agent", "--service", "a", "--data-dir", str(tmp_path / "a")]
    program = forked(arguments, without_settings(), tmp_path / "log")
    assert program.poll() is None
    program.kill()
    assert (program.wait(), program.poll()) == (-signal.SIGKILL, -signal.SIGKILL)
