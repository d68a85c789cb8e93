import random
from pathlib import Path

from faults import load


async def test_nothing_is_lost_when_events_are_giant_or_poisonous_and_programs_stand_still(tmp_path: Path) -> None:
    tally = await load.burden(random.Random(0), tmp_path)
    tally.check(*load.FAULTS)
    assert tally.dead_letters == load.POISONED


async def test_twenty_agents_drain_an_hour_at_once_and_fresh_events_of_others_get_through(tmp_path: Path) -> None:
    tally = await load.drain(random.Random(0), tmp_path, hour=300)
    tally.check(load.DRAINED)
    assert tally.stored >= load.DRAINING * 300
