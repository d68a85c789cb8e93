import random
from pathlib import Path

import pytest

from faults import limits
from faults.seeds import seeds


@pytest.mark.timeout(600)  # a minute, where nothing else is going on
@pytest.mark.parametrize("seed", seeds(3))
async def test_no_more_is_allowed_than_a_hard_limit_whatever_breaks_and_what_is_left_is_explained(
    tmp_path: Path, seed: int
) -> None:
    tally = await limits.round(random.Random(seed), tmp_path)
    tally.check(*limits.FAULTS)
