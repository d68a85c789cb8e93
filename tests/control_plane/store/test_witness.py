"""The witness beside a database: what it was told last, in the order of commits, or nothing at all."""

import asyncio
from pathlib import Path

import pytest

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.limits.recovery import Attested
from sidemeter_control.store.witness import Witness

FIRST, SECOND, THIRD = Attested("gen_1", 1, 1), Attested("gen_1", 2, 1), Attested("gen_1", 2, 2)


async def test_it_says_after_a_restart_what_it_was_told_last(tmp_path: Path) -> None:
    path = tmp_path / "control.db.holders"
    witness = Witness(path)
    assert witness.last is None
    for each in (FIRST, SECOND, THIRD, Attested("gen_2", 3, None)):
        await witness.keep(witness.statement(each))
        assert (witness.last, Witness(path).last) == (each, each)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_order_is_that_of_the_transactions_not_of_the_writes(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "w")
    earlier, later = witness.statement(FIRST), witness.statement(THIRD)
    await witness.keep(later)
    await witness.keep(earlier)
    assert witness.last == Witness(tmp_path / "w").last == THIRD


async def test_it_hears_how_far_others_have_come_and_never_says_less_again(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "w")
    witness.hear("gen_1", 9, 9)
    assert witness.last is None  # nobody knows how far it had come before
    await witness.keep(witness.statement(SECOND))
    for generation, lease_version, holders in (("gen_1", 7, 3), ("gen_1", 6, 2), ("gen_0", 99, 99)):
        witness.hear(generation, lease_version, holders)
        assert witness.last == Witness(tmp_path / "w").last == Attested("gen_1", 7, 3)
    await witness.keep(witness.statement(THIRD))  # of a transaction before those that were heard of
    assert witness.last == Witness(tmp_path / "w").last == Attested("gen_1", 7, 3)
    await witness.keep(witness.statement(Attested("gen_1", 8, None)))
    witness.hear("gen_1", 9, 4)
    assert witness.last == Witness(tmp_path / "w").last == Attested("gen_1", 9, None)


@pytest.mark.parametrize("place", range(0, 512, 41))
async def test_a_file_that_is_damaged_or_cut_says_nothing(tmp_path: Path, place: int) -> None:
    path = tmp_path / "w"
    witness = Witness(path)
    await witness.keep(witness.statement(FIRST))
    record = path.read_bytes()
    path.write_bytes(record[:place] + bytes([record[place] ^ 1]) + record[place + 1 :])
    assert Witness(path).last is None
    path.write_bytes(record[:place])
    assert Witness(path).last is None


async def test_what_cannot_be_written_down_is_not_answered(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "gone" / "w")
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        await witness.keep(witness.statement(FIRST))
    assert witness.last is None
    (tmp_path / "w").mkdir()
    with pytest.raises(StoreUnavailable, match="Is a directory"):
        Witness(tmp_path / "w")


async def test_what_is_heard_while_something_is_kept_is_not_forgotten(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "w")
    await witness.keep(witness.statement(Attested("g", 1, 1)))
    keeping = asyncio.create_task(witness.keep(witness.statement(Attested("g", 2, 2))))
    await asyncio.sleep(0)  # it is being written
    witness.hear("g", 7, 3)
    await keeping
    assert witness.last == Attested("g", 7, 3)
    assert Witness(tmp_path / "w").last == witness.last
