from pathlib import Path

import pytest

from faults import disks
from faults.oracle import Turn

pytestmark = pytest.mark.skipif(bool(disks.skip_reason()), reason=str(disks.skip_reason()))


async def test_nothing_is_lost_and_all_goes_on_by_itself_whatever_a_disk_does(tmp_path: Path) -> None:
    tally = await disks.round(Turn(0), tmp_path)
    tally.check(*disks.FAULTS)
