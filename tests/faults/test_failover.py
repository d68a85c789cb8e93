from pathlib import Path

import pytest

from faults import failover
from faults.oracle import Turn


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2))
async def test_what_was_acknowledged_or_granted_outlives_the_leader_of_postgresql(tmp_path: Path, seed: int) -> None:
    if reason := failover.skip_reason():
        pytest.skip(reason)
    tally = await failover.round(Turn(seed), tmp_path)
    tally.check(*failover.FAULTS)
    assert all(each for each in tally.silences_ms.values())
