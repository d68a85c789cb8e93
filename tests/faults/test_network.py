import random
from pathlib import Path

import pytest

from faults import network
from faults.seeds import seeds


@pytest.mark.parametrize("seed", seeds(2))
async def test_nothing_is_lost_and_nothing_doubled_whatever_the_network_does_with_requests_and_answers(
    tmp_path: Path, seed: int
) -> None:
    tally = await network.round(random.Random(seed), tmp_path)
    tally.check(*network.EVERY_FAULT)
