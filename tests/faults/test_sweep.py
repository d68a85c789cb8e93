from pathlib import Path

import pytest

from faults import sweep
from faults.lives import LIVES
from faults.oracle import Turn
from faults.seeds import seeds

pytestmark = pytest.mark.skipif(bool(sweep.skip_reason()), reason=str(sweep.skip_reason()))


@pytest.mark.parametrize("turn", seeds(2))
async def test_a_program_survives_a_blow_at_any_system_call(tmp_path: Path, turn: int) -> None:
    tally = await sweep.round(Turn(turn), tmp_path)
    tally.check()
    assert sum(tally.faults.values()) >= 15
    assert {name.split(" of the ", 1)[1].split(",")[0] for name in tally.calls} == set(LIVES)
