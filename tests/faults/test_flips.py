from pathlib import Path

from faults import flips
from faults.oracle import Turn


async def test_what_a_damaged_file_held_is_brought_back_or_declared_lost(tmp_path: Path) -> None:
    tally = await flips.round(Turn(0), tmp_path)
    tally.check()
    assert sum(tally.faults.values()) == flips.COPIES
