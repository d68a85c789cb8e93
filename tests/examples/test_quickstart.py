"""The first thing a reader runs."""

import sys
from pathlib import Path

from processes import run


def test_it_records_once_and_answers_from_memory(tmp_path: Path) -> None:
    printed = run(sys.executable, "examples/quickstart.py", str(tmp_path / "data"))
    assert "quickstart/call-1 is on disk" in printed
    assert "recorded before: True" in printed
    assert "may acme chat? False: no_control_plane" in printed


def test_run_again_it_still_knows_the_event(tmp_path: Path) -> None:
    run(sys.executable, "examples/quickstart.py", str(tmp_path / "data"))
    assert "recorded before: True" in run(sys.executable, "examples/quickstart.py", str(tmp_path / "data"))
