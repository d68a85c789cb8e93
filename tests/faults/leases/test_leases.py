"""A few hundred seeds, each the same run every time; and rules broken on purpose, which must show."""

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from sidemeter.holder import Head, Heard, Holder, LeaseAnswer, Outgoing
from sidemeter.leases import Amounts, Counts, Lease, Leases
from sidemeter_control.limits.leases import Key, Known, Sync, Taken, take

from .machine import AGENT, Process
from .plane import Books, Plane
from .runs import run
from .seed import KINDS, Cast, live
from .wire import Informed

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.no_cover
"""What is run here is measured by its own tests; thousands of steps would take three times as long."""

SEEDS = 60
FAULTS = {
    "agent killed",
    "agent stopped in order",
    "answer into a partition",
    "answer lost",
    "control plane crashes after its commit",
    "control plane crashes before its commit",
    "control plane killed",
    "control plane restored from a backup",
    "control plane rolled back by hand",
    "credits expire",
    "credits granted",
    "directory cloned, both alive",
    "directory put back from a copy",
    "epoch goes on after a kill",
    "epoch lost",
    "killed after a commit",
    "killed at a message",
    "killed at a store",
    "killed before a commit",
    "limit lowered",
    "limit raised",
    "machine put back from an image",
    "machine rebooted",
    "message doubled",
    "message into a partition",
    "message late",
    "message lost",
    "old message repeated",
    "one-way partition",
    "operation costs more than it reserved",
    "period ends",
    "price changed",
    "recovery ends",
    "recovery lasts until the next period",
    "rights written off",
}


def test_no_seed_breaks_a_promise_and_every_kind_of_fault_occurs() -> None:
    report = run(0, SEEDS)
    assert not report.violations, report.text()
    assert report.answers["allowed"] > 50 * SEEDS
    assert report.faults.keys() == FAULTS, report.text()


@pytest.mark.parametrize("seed", [801, 8053, 8742, 9747])
def test_a_seed_that_once_broke_a_promise_holds_it(seed: int) -> None:
    """A directory that is put back between two syncs had forgotten that a reservation ended, or what was settled."""
    assert live(seed).violation is None


def test_the_same_seed_is_the_same_run_step_by_step_in_any_process() -> None:
    command = [sys.executable, "-m", "tests.faults.leases", "--seed", "5", "--trace"]
    told = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "2"}, capture_output=True, check=True)
    here = live(5, tracing=True)
    assert told.stdout.decode().splitlines() == [*here.trace, "seed 5: every promise held"]
    assert len(here.trace) > 30


# The agent, broken on purpose


class FreesWhatExpired(Leases):
    """What a reservation held is free again once its time is over."""

    def expire(self, now_ms: int) -> list[Lease]:
        changed = super().expire(now_ms)
        for lease in changed:
            lease.refunded = lease.used
        return changed


class SpendsWhatIsReserved(Leases):
    """It looks at what was used, and not at what is reserved."""

    def spend(self, amounts: Amounts) -> Any:
        for lease, _ in amounts:
            lease.refunded += lease.reserved
        verdict = super().spend(amounts)
        for lease, _ in amounts:
            lease.refunded -= lease.reserved
        return verdict


class DebitsOneByOne(Leases):
    """It takes from the first limit before it has looked at the second, and leaves it at that."""

    def spend(self, amounts: Amounts) -> Any:
        for one in amounts:
            verdict = super().spend([one])
        return verdict


class AddsGrants(Holder):
    """It takes what an answer says for more of the same."""

    def hear(self, answer: LeaseAnswer, next_sync_id: str) -> Heard:
        before = {lease.key: lease.granted for lease in self.leases}
        heard = super().hear(answer, next_sync_id)
        for lease in self.leases:
            if lease in heard.store:
                lease.granted += before.get(lease.key, 0)
        return heard


class TakesAnyAnswer(Holder):
    """It takes an answer to whatever sync."""

    def hear(self, answer: LeaseAnswer, next_sync_id: str) -> Heard:
        return super().hear(msgspec.structs.replace(answer, sync_id=self.head.sync_id), next_sync_id)


class SendsBeforeItKeeps(Process):
    """What it returns is kept some time after it was said."""

    def send(self, holder: Holder, out: Outgoing) -> None:
        self.world.later(0.5, self.entering(lambda: self.keep(holder, out.store)))
        super().send(holder, Outgoing((), out.message))


class AllowsBeforeItKeeps(Process):
    """The caller is told before the cell has it."""

    def allowed(self, holder: Holder, amounts: Amounts) -> None:
        self.world.later(0.5, self.entering(lambda: self.keep(holder, [lease for lease, _ in amounts])))


class SettlesWhatIsSent(Process):
    """It takes for counted what it has sent, or is about to."""

    def learn(self, holder: Holder, informed: Informed, **kept: object) -> None:
        rows = self.machine.directory.rows
        last_id = rows[-1].id if rows else ""
        super().learn(holder, informed._replace(counted=len(rows), last_id=last_id), **kept)


class DebitsLess(Process):
    """It debits what an event costs on the average, not at most."""

    def debit(self, limit: str, units: int) -> int:
        debit = super().debit(limit, units)
        return debit // 2 if limit in self.machine.directory.caps else debit


def forgets_reservations(counts: Counts) -> Counts:
    return counts._replace(reserved=0)


def resumes_always(head: Head | None, standing: Any, boot_id: str, *, names_known: bool) -> bool:
    """A directory is all it takes to go on."""
    return standing is not None


def resumes_whatever_boot(head: Head | None, standing: Any, boot_id: str, *, names_known: bool) -> bool:
    return head is not None and standing is not None and names_known and head.hello_id == standing.hello_id


# The control plane, broken on purpose


class ForgetsGrants(Plane):
    """Its commit lacks, now and then, what it answers."""

    def keep(self, taken: Taken, sync: Sync) -> None:
        if self.world.rng.random() < 0.8:
            super().keep(taken, sync)


class FreesTheSuperseded(Plane):
    """A new hello gives back what the old epoch had left."""

    def superseded(self, books: Books, holder: tuple[str, str]) -> None:
        for own in books.holdings.values():
            if holder in own:
                own[holder] = own[holder].write_off()


class TakesReturnsForTwice(Plane):
    """Each return that it hears of, it gives back again."""

    @staticmethod
    def take(sync: Sync, known: Known) -> Taken:
        taken = take(sync, known)
        doubled = {
            key: replace(one, returned=one.returned + one.returned - known.holdings[key].returned)
            for key, one in taken.holdings.items()
        }
        return replace(taken, holdings=doubled)


class KnowsNoRollback(Plane):
    """It goes on from an older copy as if nothing had happened."""

    def _recover(self, holders: int | None) -> None:
        self.witness = type(self.witness)(self.books.state_version, holders)

    def _sync(self, message: Any) -> Any:
        self.books.state_version = max(self.books.state_version, message.state_version)
        return super()._sync(message)


class BillsLate(Plane):
    """What it grants is by the bill of a sync or more ago, while holders have settled since."""

    late: ClassVar[Counter[Key]] = Counter()

    def _known(self, sync: Sync) -> Known:
        known, now = super()._known(sync), Counter(self.books.bills)
        pools = {
            key: (replace(pool, limit=pool.limit + now[key] - self.late[key]), rest)
            if key[0] in self.books.caps
            else (pool, rest)
            for key, (pool, rest) in known.pools.items()
        }
        type(self).late = now
        return replace(known, pools=pools)


class GrantsWhatExpired(Plane):
    """Credits that ran out are granted from, all the same."""

    def expire(self, limit: str, share: int) -> None:
        units = self.books.limits[limit]
        super().expire(limit, share)
        self.books.limits[limit] = units


ROLLBACKS = ("kill", "back_up", "back_up", "roll_back", "cut_back", "reboot", "clone")


def agent(kinds: tuple[str, ...] = KINDS, /, *, in_money: bool = False, **parts: Any) -> Cast:
    mutated = dataclasses.replace(AGENT, **parts)
    return Cast(agent=mutated, kinds=kinds, is_dense=kinds != KINDS, in_money=in_money)


MUTANTS = {
    "expired_is_unused": (agent(leases=FreesWhatExpired), 10),
    "reserved_is_free": (agent(leases=SpendsWhatIsReserved), 10),
    "several_limits_are_not_one_step": (agent(leases=DebitsOneByOne), 10),
    "grant_added_instead_of_max": (agent(holder=AddsGrants), 10),
    "any_answer_is_taken": (agent(("cut_back", "kill", "lower_limit"), holder=TakesAnyAnswer), 60),
    "return_not_durable_before_send": (agent(process=SendsBeforeItKeeps), 10),
    "allowed_before_the_cell": (agent(process=AllowsBeforeItKeeps), 10),
    "crash_forgets_reservations": (agent(resume_counts=forgets_reservations), 20),
    "snapshot_resumes_without_hello": (agent(may_resume=resumes_always), 20),
    "image_resumes_in_another_boot": (agent(("image", "kill"), may_resume=resumes_whatever_boot), 40),
    "server_forgets_a_grant": (Cast(plane=ForgetsGrants), 10),
    "hello_releases_the_old_epoch": (Cast(plane=FreesTheSuperseded, kinds=("reboot",), is_dense=True), 20),
    "returned_twice": (Cast(plane=TakesReturnsForTwice), 10),
    "settled_when_sent": (agent(("cut_there", "cut_back"), in_money=True, process=SettlesWhatIsSent), 20),
    "debited_below_the_cap": (agent(("kill",), in_money=True, process=DebitsLess), 20),
    "bill_older_than_what_is_settled": (Cast(plane=BillsLate, kinds=("kill",), is_dense=True, in_money=True), 20),
    "expired_credits_are_granted": (
        Cast(plane=GrantsWhatExpired, kinds=("expire_credits",), is_dense=True, in_money=True),
        20,
    ),
    "rollback_not_noticed": (Cast(plane=KnowsNoRollback, kinds=ROLLBACKS, is_dense=True), 20),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_rule_shows_within_a_few_seeds(mutant: str) -> None:
    cast, seeds = MUTANTS[mutant]
    assert run(0, seeds, cast, until_broken=True).violations
