import random
from pathlib import Path

import pytest

from faults import commits


@pytest.mark.skipif(bool(commits.skip_reason()), reason=str(commits.skip_reason()))
async def test_what_belongs_together_is_in_one_commit_of_the_control_plane(tmp_path: Path) -> None:
    tally = await commits.round(random.Random(1), tmp_path)
    tally.check("kill after at fdatasync of the control plane")
