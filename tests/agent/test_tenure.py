"""Tenure: what is kept before anything else happens, and what a process may go on with."""

from pathlib import Path

import pytest

from sidemeter.cell import MAX_RECORDS, Cell, FileMemory, OwnMemory
from sidemeter.clock import SystemClock
from sidemeter.kept import Identity
from sidemeter.leases import Lease
from sidemeter.limits import Limits
from sidemeter.tenure import MAX_LOST, Tenure

KEY = ("acme/tokens", 0)


class Bench:
    """Processes that follow each other in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opened: list[str] = []

    def open(self, name: str) -> Cell:
        self.opened.append(name)
        return Cell(FileMemory.open(self.directory / name))

    def process(self, file_id: str = "f1") -> Tenure:
        return Tenure(Limits(allow_unknown=False), SystemClock(), self.open, lambda: (self.directory, file_id))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def identity(hello_id: str = "h1", epoch: int | None = 1, nonce: bytes | None = None) -> Identity:
    return Identity("a1", hello_id, epoch, epoch, "g1", nonce)


def granted(tenure: Tenure, units: int) -> Lease:
    """A lease of the present holder, kept."""
    assert tenure.holder is not None
    lease = tenure.holder.leases.watch(*KEY)
    assert lease is not None
    lease.granted += units
    tenure.keep([lease])
    return lease


def test_no_cell_is_made_before_there_is_a_lease(bench: Bench) -> None:
    tenure = bench.process()
    assert tenure.resume(identity(), [], [])
    tenure.begin("a1", "h1", 1)
    assert (bench.opened, tenure.holds) == ([], False)
    granted(tenure, 5)
    assert (len(bench.opened), tenure.holds, list(tenure.unnamed)) == (1, True, [KEY])


def test_a_process_goes_on_with_what_directory_and_cell_tell_of(bench: Bench) -> None:
    first = bench.process()
    first.begin("a1", "h1", 1)
    lease = granted(first, 9)
    lease.used = 4
    first.keep([lease])
    first.close()
    second = bench.process()
    assert second.resume(identity(), [(KEY, "h1")], [])
    assert [each.counts[:3] for each in second.leases] == [(9, 0, 4)]


@pytest.mark.parametrize(
    ("who", "named"),
    [
        (identity(nonce=b"other"), [(KEY, "h1")]),
        (identity(epoch=2), [(KEY, "h1")]),
        (identity(), [(KEY, "h1"), (("acme/calls", 0), "h1")]),
        (identity(), [(("acme/calls", 0), "h1")]),
        (identity(), None),
    ],
    ids=["an older copy", "another epoch", "a lease without counts", "counts of an unknown lease", "damaged names"],
)
def test_a_process_that_cannot_be_sure_gives_the_epoch_up(
    bench: Bench, who: Identity, named: list[tuple[tuple[str, int], str]] | None
) -> None:
    first = bench.process()
    first.begin("a1", "h1", 1)
    granted(first, 9)
    first.close()
    second = bench.process()
    assert not second.resume(who, named, [])
    assert not second.holds
    second.begin("a1", "h2", 2)
    assert second.leases == []


def test_leases_of_an_epoch_that_was_given_up_are_known_as_counted(bench: Bench) -> None:
    tenure = bench.process()
    assert tenure.resume(identity("h2"), [(KEY, "h1")], [])
    assert KEY in tenure._limits.debits.had


def test_a_database_that_is_another_has_a_cell_of_its_own(bench: Bench) -> None:
    for file_id in ("f1", "f2"):
        tenure = bench.process(file_id)
        tenure.begin("a1", "h1", 1)
        granted(tenure, 1)
        tenure.close()
    assert len(set(bench.opened)) == 2


def test_a_holder_with_leases_does_not_go_on_over_another_database(bench: Bench) -> None:
    tenure = bench.process()
    holder = tenure.begin("a1", "h1", 1)
    granted(tenure, 5)
    assert not tenure.resume(identity(), [(KEY, "h1")], [])
    assert (tenure.holder, list(tenure.lost), holder.is_lost) == (None, [holder], True)


def test_a_lost_holder_is_neither_kept_in_the_cell_of_the_next_nor_forgotten_before_its_bound(bench: Bench) -> None:
    tenure = bench.process()
    for number in range(MAX_LOST + 2):
        tenure.begin("a1", f"h{number}", number + 1)
        lease = granted(tenure, 5)
    assert len(tenure.lost) == MAX_LOST
    tenure.lose()
    assert tenure.lost[0].head.hello_id == "h2"
    lease.used = 3
    tenure.keep([lease])
    tenure.close()
    again = bench.process()
    assert again.resume(identity(f"h{MAX_LOST + 1}", MAX_LOST + 2), [(KEY, f"h{MAX_LOST + 1}")], [])
    assert [each.used for each in again.leases] == [0]


def test_a_lease_that_has_no_place_in_the_cell_is_returned_and_not_spent() -> None:
    class Full(Cell):
        def claim(self, key: tuple[str, int]) -> int:
            raise OSError(f"the cell holds {MAX_RECORDS} leases, and no more")

    tenure = Tenure(Limits(allow_unknown=False), SystemClock(), lambda _: Full(OwnMemory()), lambda: (Path(), ""))
    tenure.begin("a1", "h1", 1)
    lease = granted(tenure, 5)
    assert (lease.free, lease.returned, list(tenure.unnamed)) == (0, 5, [])


def test_without_memory_that_outlives_it_a_process_begins_anew() -> None:
    def process() -> Tenure:
        return Tenure(Limits(allow_unknown=False), SystemClock(), lambda _: Cell(OwnMemory()), lambda: (Path(), ""))

    first = process()
    first.begin("a1", "h1", 1)
    granted(first, 5)
    assert not process().resume(identity(), [(KEY, "h1")], [])
