import random
from pathlib import Path

import pytest

from faults import namespaces

pytestmark = pytest.mark.skipif(namespaces.skip_reason() is not None, reason=str(namespaces.skip_reason()))


@pytest.mark.parametrize("seed", range(1))
async def test_nothing_is_lost_and_nothing_doubled_however_packets_are_lost_held_and_repeated(
    tmp_path: Path, seed: int
) -> None:
    tally = await namespaces.round(random.Random(seed), tmp_path)
    tally.check(*namespaces.FAULTS)
