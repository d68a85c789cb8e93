import random
from pathlib import Path

import pytest

from faults import kills
from faults.seeds import seeds


@pytest.mark.parametrize("seed", seeds(3))
async def test_nothing_is_lost_and_nothing_doubled_when_either_program_is_killed_at_any_moment(
    tmp_path: Path, seed: int
) -> None:
    tally = await kills.round(random.Random(seed), tmp_path)
    tally.check()
    assert sum(tally.faults.values()) == kills.KILLS
