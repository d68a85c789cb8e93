"""A metered call to a model, by itself."""

import sys
from pathlib import Path

from processes import run


def test_each_call_prints_the_usage_that_it_recorded(tmp_path: Path) -> None:
    lines = run(sys.executable, "examples/llm_call.py", str(tmp_path / "data")).splitlines()
    assert len(lines) == 2
    assert all("'prompt_tokens': 5, 'completion_tokens': 12" in line for line in lines)
