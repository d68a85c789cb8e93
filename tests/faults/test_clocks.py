import random
from pathlib import Path

import pytest

from faults import clocks

pytestmark = pytest.mark.skipif(clocks.skip_reason() is not None, reason=str(clocks.skip_reason()))


@pytest.mark.parametrize("seed", range(1))
async def test_nothing_is_lost_and_nothing_doubled_whatever_the_time_of_day_is_said_to_be(
    tmp_path: Path, seed: int
) -> None:
    tally = await clocks.round(random.Random(seed), tmp_path)
    tally.check(*clocks.EVERY_FAULT, clocks.REPLAYED)
