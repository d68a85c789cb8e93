from pathlib import Path

import pytest

from faults import replicas
from faults.oracle import Turn
from faults.seeds import seeds


@pytest.mark.soak
@pytest.mark.timeout(600)  # each start of a control plane, of which there are a dozen, takes long on a busy machine
@pytest.mark.parametrize("seed", seeds(4))
async def test_several_control_planes_lose_nothing_double_nothing_and_overspend_nothing_whatever_breaks(
    tmp_path: Path, seed: int
) -> None:
    if reason := replicas.skip_reason():
        pytest.skip(reason)
    tally = await replicas.round(Turn(seed), tmp_path)
    tally.check(*replicas.OF_PROGRAMS)
