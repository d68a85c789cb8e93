import random
from pathlib import Path

from faults import keys


async def test_what_is_recorded_while_the_key_is_refused_arrives_with_the_next_one(tmp_path: Path) -> None:
    (await keys.round(random.Random(1), tmp_path)).check("key revoked")
