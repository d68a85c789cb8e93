import random
from pathlib import Path

from faults import repeats


async def test_what_is_sent_again_later_by_any_way_is_counted_once(tmp_path: Path) -> None:
    tally = await repeats.round(random.Random(1), tmp_path)
    tally.check("repeated through an agent", "repeated through no agent")
