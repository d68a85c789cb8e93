"""Hello, epochs and losses against a control plane on a real port: who the agent is, whatever became of its directory."""

import shutil
from pathlib import Path

import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import counted, ids, settings
from fakes import ManualClock, eventually

from sidemeter import Agent
from sidemeter.batches import Step, after_hello, after_sync
from sidemeter.buffer import Buffer
from sidemeter.clock import SystemClock
from sidemeter.losses import Loss
from sidemeter.presence import DECLARE_AGAIN_S
from sidemeter.uplink import MAX_LOSSES

HELLOS = [
    ("in no epoch, a new one", None, 3, 1, 0, 0, Step.GO_ON),
    ("in no epoch, one that another went on with", None, 3, 5, 0, 0, Step.NEW_NAME),
    ("all is counted", 3, 3, 5, 4, 4, Step.GO_ON),
    ("the answer to the last batch was lost", 3, 3, 6, 4, 5, Step.GO_ON),
    ("the control plane is older", 3, 3, 4, 4, 5, Step.RESEND),
    ("the control plane has nothing", 3, 3, 1, 4, 5, Step.RESEND),
    ("another went on", 3, 3, 7, 4, 5, Step.NEW_NAME),
    ("the control plane never knew it", 3, 4, 1, 4, 5, Step.START_OVER),
]
SYNCS = [
    ("OK", 4, 4, Step.GO_ON),
    ("OK", 5, 4, Step.GO_ON),
    ("OK", 3, 4, Step.RESEND),
    ("FENCED", 0, 4, Step.NEW_NAME),
    ("UNKNOWN_EPOCH", 0, 4, Step.START_OVER),
]


@pytest.mark.parametrize(
    ("epoch", "answered", "next_batch_no", "settled", "sealed", "step"),
    [case[1:] for case in HELLOS],
    ids=[case[0] for case in HELLOS],
)
def test_the_answer_to_a_hello_asks_for_one_step(
    epoch: int | None, answered: int, next_batch_no: int, settled: int, sealed: int, step: Step
) -> None:
    assert after_hello(epoch, answered, next_batch_no, settled=settled, sealed=sealed) is step


@pytest.mark.parametrize(("status", "counted_batch_no", "settled", "step"), SYNCS)
def test_the_answer_to_a_sync_asks_for_one_step(status: str, counted_batch_no: int, settled: int, step: Step) -> None:
    assert after_sync(status, counted_batch_no, settled=settled) is step  # type: ignore[arg-type]


class Rebooted(SystemClock):
    """The same machine, started anew."""

    def boot_id(self) -> str:
        return "another"


async def one_event(directory: Path, double: ControlPlaneDouble, name: str, clock: SystemClock | None = None) -> None:
    """Run an agent until one more event is counted."""
    before = len(double.events)
    async with Agent(settings(directory, double), clock) as agent:
        await agent.record("call", "acme", id=name)
        await counted(double, before + 1)
        await eventually(lambda: agent.status().backlog_events == 0)


async def test_every_start_says_hello_and_a_restart_keeps_the_epoch(tmp_path: Path, double: ControlPlaneDouble) -> None:
    for number in range(3):
        await one_event(tmp_path, double, str(number))
    assert len(double.messages("hello")) == 3
    assert len(double.epochs) == 1


async def test_a_renamed_directory_keeps_its_epoch(tmp_path: Path, double: ControlPlaneDouble) -> None:
    await one_event(tmp_path / "a", double, "1")
    (tmp_path / "a").rename(tmp_path / "b")
    await one_event(tmp_path / "b", double, "2")
    assert len(double.epochs) == 1


async def test_a_copied_directory_and_a_machine_started_anew_get_a_new_epoch_under_the_same_name(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    await one_event(tmp_path / "a", double, "1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    await one_event(tmp_path / "b", double, "2")
    await one_event(tmp_path / "b", double, "3", Rebooted())
    assert [(agent, epoch) for agent, epoch in double.epochs] == [(next(iter(double.epochs))[0], n) for n in (1, 2, 3)]


async def test_what_was_sealed_in_the_original_is_sealed_anew_in_the_copy(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.faults.extend(["lose"] * 50)
    async with Agent(settings(tmp_path / "a", double, drain_s=0.0)) as agent:
        await agent.record("call", "acme", id="1")
        await eventually(lambda: agent.status().failed_sends > 0)
    double.faults.clear()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    async with Agent(settings(tmp_path / "b", double)):
        await counted(double, 1)
    async with Agent(settings(tmp_path / "a", double)) as agent:
        await eventually(lambda: agent.status().backlog_events == 0)
    assert ids(double) == {"1"}


async def test_epochs_of_a_new_name_go_on_above_the_old_ones(tmp_path: Path, double: ControlPlaneDouble) -> None:
    for number in range(3):
        await one_event(tmp_path, double, str(number), Rebooted() if number == 1 else None)
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: len(double.messages("hello")) == 4)
        double.faults.append({"status": "FORK", "next_batch_no": 1})
        await agent.record("call", "acme", id="3")
        await counted(double, 4)
        assert agent.status().new_names == 1
        assert agent.status().epoch == 4
    assert len({agent_id for agent_id, _ in double.epochs}) == 2
    assert all(epoch.next_batch_no == 2 for epoch in double.epochs.values())


async def test_a_control_plane_that_numbers_a_new_name_from_1_gets_everything_again(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.knows_previous_epochs = False
    for number in range(3):
        await one_event(tmp_path, double, str(number), Rebooted() if number == 1 else None)
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: len(double.messages("hello")) == 4)
        double.faults.append({"status": "FORK", "next_batch_no": 1})
        await agent.record("call", "acme", id="3")
        await counted(double, 4)
        await eventually(lambda: agent.status().backlog_events == 0)
        assert agent.status().epoch == 1
    assert ids(double) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("batch_no", [1, 3])
async def test_a_rollback_is_noticed_by_an_agent_that_has_nothing_to_send(
    tmp_path: Path, double: ControlPlaneDouble, batch_no: int
) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        for number in range(1, 5):
            await agent.record("call", "acme", id=str(number))
            await counted(double, number)
        await eventually(lambda: agent.status().backlog_events == 0)
        for key in list(double.events)[batch_no - 1 :]:
            del double.events[key]
        (epoch,) = double.epochs.values()
        epoch.next_batch_no, epoch.digests = batch_no, epoch.digests[:batch_no]
        await counted(double, 4)
        assert agent.status().resends >= 1
    assert len(double.epochs) == 1


async def test_a_rollback_while_the_agent_was_stopped_is_noticed_at_its_hello(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    for number in range(4):
        await one_event(tmp_path, double, str(number))
    double.events.clear()
    double.epochs.clear()
    double.counts = False  # no sync is answered
    async with Agent(settings(tmp_path, double)):
        await counted(double, 4)


async def test_a_machine_started_anew_gives_a_restored_control_plane_all_that_is_kept(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    for number in range(3):
        await one_event(tmp_path, double, str(number))
    double.events.clear()
    double.epochs.clear()
    double.generation = "g2"
    async with Agent(settings(tmp_path, double), Rebooted()) as agent:
        await counted(double, 3)
        await eventually(lambda: agent.status().backlog_events == 0)
    async with Agent(settings(tmp_path, double), Rebooted()) as agent:
        await eventually(lambda: len(double.messages("hello")) >= 5)
        await agent.record("call", "acme", id="3")
        await counted(double, 4)
        assert agent.status().resends == 0


async def test_an_agent_that_takes_a_new_name_at_a_restored_control_plane_gives_it_all_that_is_kept(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        for number in range(1, 4):
            await agent.record("call", "acme", id=str(number))
            await counted(double, number)
        double.counts = False  # no sync is answered
        double.events.clear()
        double.generation = "g2"
        double.faults.append({"status": "FORK", "next_batch_no": 1})
        await agent.record("call", "acme", id="4")
        await counted(double, 4)
        await eventually(lambda: agent.status().backlog_events == 0)


async def test_every_hello_names_the_last_batch_that_is_counted_under_the_name_it_had(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    for number in range(2):
        await one_event(tmp_path, double, str(number))
    async with Agent(settings(tmp_path, double), Rebooted()) as agent:
        await eventually(lambda: len(double.messages("hello")) == 3)
        double.faults.append({"status": "FORK", "next_batch_no": 1})
        await agent.record("call", "acme", id="2")
        await counted(double, 3)
        await eventually(lambda: agent.status().backlog_events == 0)
    await one_event(tmp_path, double, "3", Rebooted())
    told = [message.get("counted") for message in double.messages("hello")]
    first, second = ({agent_id: None for agent_id, _ in double.epochs}).keys()
    named = [each and (each["agent_id"], each["epoch"], each["batch_no"]) for each in told]
    assert named == [None, (first, 1, 1), (first, 1, 2), (first, 1, 2), (second, 3, 1)]
    assert told[-1]["digest"] == double.epochs[second, 3].digests[1]
    assert {each["generation"] for each in told if each} == {"g1"}


async def test_what_a_sync_says_is_believed_only_after_a_hello_to_the_same_copy_of_the_database(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        for number in range(1, 4):
            await agent.record("call", "acme", id=str(number))
            await counted(double, number)
        await eventually(lambda: agent.status().backlog_events == 0)
        double.events.clear()
        for epoch in double.epochs.values():  # another one got this number, and came further
            epoch.hello_id, epoch.next_batch_no = "another's", 9
        double.generation = "g2"
        await counted(double, 3)
        assert agent.status().new_names == 0


def loss(number: int) -> Loss:
    return Loss(f"l{number}", number, None, None, "x" * 5000, 7)


async def declare(directory: Path, *losses: Loss) -> None:
    buffer = await Buffer.open(directory, SystemClock())
    for each in losses:
        await buffer.declare(each)
    await buffer.close()


async def test_losses_are_declared_once_and_in_turns(tmp_path: Path, double: ControlPlaneDouble) -> None:
    count = MAX_LOSSES + 5
    await declare(tmp_path, *map(loss, range(count)))
    async with Agent(settings(tmp_path, double)) as agent:
        assert agent.status().open_losses == count
        await eventually(lambda: agent.status().open_losses == 0)
    assert len(double.losses) == count
    assert [len(hello.get("losses", ())) for hello in double.messages("hello")] == [MAX_LOSSES, 5]
    assert {hello["hello_id"] for hello in double.messages("hello")} == {double.messages("hello")[0]["hello_id"]}


async def test_a_loss_noticed_while_running_is_declared_at_once(tmp_path: Path, double: ControlPlaneDouble) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: agent.status().epoch)
        assert agent._parts
        await agent._parts.buffer.declare(loss(1))
        await eventually(lambda: agent.status().open_losses == 0)
    ((_, stored),) = double.losses.items()
    assert (stored["first_seq"], stored["last_seq"], len(stored["reason"])) == (1, None, 1024)


async def test_a_loss_noticed_while_a_hello_is_answered_is_declared_with_the_next(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.held.clear()
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: double.headers)  # the hello is there, and said without losses
        assert agent._parts
        await agent._parts.buffer.declare(loss(1))
        double.held.set()
        await eventually(lambda: agent.status().open_losses == 0)


@pytest.mark.parametrize("how", ["replaced by an empty one", "rolled back within the epoch"])
async def test_a_control_plane_that_lost_a_declaration_is_told_again(
    tmp_path: Path, double: ControlPlaneDouble, how: str
) -> None:
    async with Agent(settings(tmp_path, double)) as agent:
        for number in range(1, 4):
            await agent.record("call", "acme", id=str(number))
            await counted(double, number)
        assert agent._parts
        await agent._parts.buffer.declare(loss(1))
        await eventually(lambda: agent.status().open_losses == 0 and agent.status().backlog_events == 0)
        double.losses.clear()
        double.events.clear()
        if how == "replaced by an empty one":
            double.epochs.clear()
            double.generation = "g2"
        else:
            (epoch,) = double.epochs.values()
            epoch.next_batch_no, epoch.digests = 1, epoch.digests[:1]
        await counted(double, 3)
        await eventually(lambda: len(double.losses) == 1 and agent.status().open_losses == 0)


async def test_a_control_plane_without_declarations_leaves_them_queued_until_it_has_them(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    await declare(tmp_path, loss(1))
    double.stores_losses = False
    clock = ManualClock()
    async with Agent(settings(tmp_path, double, sync_interval_s=0.01), clock) as agent:

        def after(count: int) -> bool:
            clock.advance(0.1)
            return len(double.messages("sync")) > count

        await eventually(lambda: after(20))
        assert len(double.messages("hello")) == 1
        await agent.record("call", "acme")
        await eventually(lambda: after(0) and double.events)
        double.stores_losses = True
        clock.advance(DECLARE_AGAIN_S)
        await eventually(lambda: after(0) and agent.status().open_losses == 0)
        assert len(double.losses) == 1
        double.held.set()


async def test_losses_that_are_refused_stop_no_event(tmp_path: Path, double: ControlPlaneDouble) -> None:
    await declare(tmp_path, loss(1))
    double.faults.append(400)
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record("call", "acme")
        await counted(double, 1)
        assert agent.status().open_losses == 1
    assert ["losses" in hello for hello in double.messages("hello")] == [True, False]


async def test_the_copy_of_the_database_that_was_heard_of_last_is_named(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    await one_event(tmp_path, double, "1")
    await one_event(tmp_path, double, "2")
    first, second = double.messages("hello")
    assert ("generation" in first, second["generation"], second["previous_epoch"]) == (False, "g1", 1)
    assert {message["generation"] for message in double.messages("batch")} == {"g1"}
    assert {message["seen"]["generation"] for message in double.messages("sync")} == {"g1"}
    assert len({message["sync_id"] for message in double.messages("sync")}) == len(double.messages("sync"))
