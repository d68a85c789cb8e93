import random
from pathlib import Path

import pytest

from faults import identity
from faults.seeds import seeds


@pytest.mark.parametrize("seed", seeds(2))
async def test_nothing_is_lost_and_nothing_doubled_when_agents_and_databases_are_copied_and_put_back(
    tmp_path: Path, seed: int
) -> None:
    tally = await identity.round(random.Random(seed), tmp_path)
    tally.check(*identity.FAULTS)
