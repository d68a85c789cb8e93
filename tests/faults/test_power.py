from pathlib import Path

import pytest

from faults import power
from faults.oracle import Turn
from faults.seeds import seeds

pytestmark = pytest.mark.skipif(bool(power.skip_reason()), reason=str(power.skip_reason()))


@pytest.mark.parametrize("turn", seeds(2))
async def test_what_was_acknowledged_survives_power_cuts_of_either_side(tmp_path: Path, turn: int) -> None:
    tally = await power.round(Turn(turn), tmp_path)
    tally.check()
    assert sum(tally.faults.values()) == power.CUTS
