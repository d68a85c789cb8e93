"""Which epoch a hello gets, who holds it, and when a database must be an older copy of itself."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.metering.batches import NO_DIGEST, BatchStatus, Cursor
from sidemeter_control.metering.identity import (
    NO_NONCES,
    NONCE_BYTES,
    Claim,
    Counted,
    HelloDecision,
    Nonces,
    SyncStatus,
    decide_hello,
    decide_sync,
    lacks,
    next_nonce,
    was_rolled_back,
)

FIRST = next_nonce(None, "s1")
SECOND = next_nonce(FIRST, "s2")
THIRD = next_nonce(SECOND, "s3")
OTHER = next_nonce(FIRST, "another's")

HELLOS = [
    ("the first", None, None, None, None, HelloDecision(1, True, False)),
    ("the same again", Cursor("a", 3, 9, NO_DIGEST), 4, 3, "g", HelloDecision(3, False, False)),
    ("a new one of a known agent", None, 4, 4, "g", HelloDecision(5, True, False)),
    ("one from before a newer epoch", None, 4, 2, "g", HelloDecision(5, True, False)),
    ("an agent that took a new name", None, None, 6, None, HelloDecision(7, True, False)),
    ("one that remembers more, of another copy", None, 2, 6, "older", HelloDecision(7, True, False)),
    ("one that remembers more, of this copy", None, 2, 6, "g", HelloDecision(7, True, True)),
    ("one that is forgotten by this copy", None, None, 1, "g", HelloDecision(2, True, True)),
]


@pytest.mark.parametrize(
    ("known", "newest", "previous", "generation", "decision"), [case[1:] for case in HELLOS], ids=[c[0] for c in HELLOS]
)
def test_a_hello_gets_the_epoch_it_had_or_one_above_all_that_anybody_remembers(
    known: Cursor | None, newest: int | None, previous: int | None, generation: str | None, decision: HelloDecision
) -> None:
    assert decide_hello(known, newest, previous_epoch=previous, generation=generation, current="g") == decision


KNOWN = Counted("a", 2, 4, b"d", "g")


@pytest.mark.parametrize(
    ("counted", "digest_here", "lacking"),
    [
        (None, None, False),
        (KNOWN, b"d", False),
        (KNOWN, None, True),
        (KNOWN, b"another's", True),
        (replace(KNOWN, generation="older"), None, False),
    ],
    ids=["nothing claimed", "it is here", "it is not here", "another is here", "counted in another copy"],
)
def test_a_batch_that_an_agent_knows_to_be_counted_here_and_is_not_shows_a_rollback(
    counted: Counted | None, digest_here: bytes | None, lacking: bool
) -> None:
    assert lacks(counted, digest_here, "g") is lacking
    decided = decide_hello(None, 2, previous_epoch=2, generation="g", current="g", lacking=lacking)
    assert decided == HelloDecision(3, True, lacking)
    assert decide_hello(
        Cursor("a", 2, 5, NO_DIGEST), 2, previous_epoch=2, generation="g", current="g", lacking=lacking
    ) == HelloDecision(2, False, lacking)


SYNCS = [
    ("the first of its epoch", NO_NONCES, Claim(2, None, "s1"), SyncStatus.OK, False),
    ("with the newest nonce", Nonces(SECOND, FIRST), Claim(2, SECOND, "s3"), SyncStatus.OK, False),
    ("with the one before", Nonces(SECOND, FIRST), Claim(2, FIRST, "s9"), SyncStatus.OK, False),
    ("again without one", Nonces(FIRST), Claim(2, None, "s9"), SyncStatus.OK, False),
    ("without one, later", Nonces(SECOND, FIRST), Claim(2, None, "s9"), SyncStatus.FENCED, False),
    ("with one that is too old", Nonces(THIRD, SECOND), Claim(2, FIRST, "s9"), SyncStatus.FENCED, False),
    ("with another's", Nonces(SECOND, FIRST), Claim(2, OTHER, "s9"), SyncStatus.FENCED, False),
    ("with what is no nonce", Nonces(SECOND, FIRST), Claim(2, b"", "s9"), SyncStatus.FENCED, False),
    ("with one not given yet", Nonces(FIRST), Claim(2, THIRD, "s9", "g"), SyncStatus.OK, True),
    ("with one of another copy", Nonces(FIRST), Claim(2, THIRD, "s9", "older"), SyncStatus.OK, False),
    ("that saw a later state", Nonces(FIRST), Claim(2, FIRST, "s9", "g", 8), SyncStatus.OK, True),
    ("that saw this state", Nonces(FIRST), Claim(2, FIRST, "s9", "g", 7), SyncStatus.OK, False),
    ("of an older epoch", NO_NONCES, Claim(1, None, "s9", "g"), SyncStatus.FENCED, False),
    ("of an epoch never given", None, Claim(3, None, "s9"), SyncStatus.UNKNOWN_EPOCH, False),
    ("of an epoch that this copy forgot", None, Claim(3, FIRST, "s9", "g"), SyncStatus.UNKNOWN_EPOCH, True),
    ("that heard of a batch not counted", Nonces(FIRST), Claim(2, FIRST, "s9", "g", 7, 5), SyncStatus.OK, True),
    ("that heard of all that is counted", Nonces(FIRST), Claim(2, FIRST, "s9", "g", 7, 4), SyncStatus.OK, False),
    ("that heard of a batch of another copy", Nonces(FIRST), Claim(2, FIRST, "s9", "o", 7, 5), SyncStatus.OK, False),
    ("of an agent without nonces", Nonces(SECOND, FIRST), Claim(2), SyncStatus.OK, False),
]


@pytest.mark.parametrize(
    ("held", "claim", "status", "rolled_back"), [case[1:] for case in SYNCS], ids=[c[0] for c in SYNCS]
)
def test_a_sync_is_known_for_whose_it_is(
    held: Nonces | None, claim: Claim, status: SyncStatus, rolled_back: bool
) -> None:
    decided = decide_sync(2, held, claim, generation="g", state_version=7, counted_batch_no=4)
    assert (decided.status, decided.rolled_back) == (status, rolled_back)
    if status is not SyncStatus.OK or claim.sync_id is None:
        assert decided.nonces == (held or NO_NONCES)


@pytest.mark.parametrize("status", BatchStatus)
@pytest.mark.parametrize("generation", [None, "older", "g"])
def test_a_batch_that_lacks_what_its_own_generation_counted_shows_a_rollback(
    status: BatchStatus, generation: str | None
) -> None:
    lacking = status in {BatchStatus.GAP, BatchStatus.UNKNOWN_EPOCH}
    assert was_rolled_back(status, generation, "g") == (lacking and generation == "g")


@dataclass
class Process:
    """An agent's process: the nonce it holds, and where it is in its random ids."""

    name: str
    nonce: bytes | None = None
    syncs: int = 0

    def ask(self) -> Claim:
        self.syncs += 1
        return Claim(1, self.nonce, f"{self.name}-{self.syncs}", "g", 1)


def answered(held: Nonces, claim: Claim) -> tuple[SyncStatus, Nonces]:
    decided = decide_sync(1, held, claim, generation="g", state_version=1)
    assert not decided.rolled_back
    return decided.status, decided.nonces


@given(st.lists(st.sampled_from(["answered", "lost", "repeated", "restarted"]), max_size=40))
def test_one_process_is_never_fenced_whatever_is_lost_repeated_or_restarted(steps: list[str]) -> None:
    held, process = NO_NONCES, Process("one")
    for number, step in enumerate(steps):
        if step == "restarted":
            process = replace(process, name=f"one{number}")
            continue
        claim = process.ask()
        status, held = answered(held, claim)
        assert status is SyncStatus.OK
        if step == "repeated":
            assert answered(held, claim) == (SyncStatus.OK, held)
        if step != "lost":
            process.nonce = held.current
            assert len(held.current or b"") == NONCE_BYTES


@given(st.integers(0, 5), st.lists(st.booleans(), min_size=4, max_size=40))
def test_of_two_processes_with_one_identity_one_is_fenced_at_its_second_sync_after_the_other(
    before: int, turns: list[bool]
) -> None:
    held, one = NO_NONCES, Process("one")
    for _ in range(before):
        _, held = answered(held, one.ask())
        one.nonce = held.current
    processes = {True: one, False: replace(one, name="other")}
    turns = [True, False, *turns, True, False, True]
    seen = []
    for turn in turns:
        status, held = answered(held, processes[turn].ask())
        if status is SyncStatus.OK:
            processes[turn].nonce = held.current
        seen.append(status)
    assert SyncStatus.FENCED in seen
