"""Hello and sync against a control plane on a real port: one epoch, limits that stay known."""

from collections import Counter
from pathlib import Path

from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import counted, settings
from fakes import eventually

from sidemeter import Agent


async def test_a_lost_answer_to_the_hello_gets_the_same_epoch(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.faults.extend(["lose", "lose"])
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record("call", "acme")
        await counted(double, 1)
        assert agent.status().epoch == 1
    assert len({hello["hello_id"] for hello in double.messages("hello")}) == 1
    assert len(double.epochs) == 1


async def test_the_epoch_is_kept_over_a_restart(tmp_path: Path, double: ControlPlaneDouble) -> None:
    for number in range(1, 4):
        async with Agent(settings(tmp_path, double)) as agent:
            await agent.record("call", "acme")
            await counted(double, number)
    assert [epoch.next_batch_no for epoch in double.epochs.values()] == [4]


async def test_usage_before_the_limit_was_known_counts(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "10")
    double.held.clear()
    async with Agent(settings(tmp_path, double)) as agent:
        await agent.record("call", "acme", {"tokens": 4})
        agent.record_nowait("call", "acme", {"tokens": 5})
        double.held.set()
        assert await agent.learn("acme")
        assert agent.check("acme", "tokens").used == 9


async def test_limits_and_own_usage_survive_a_restart_without_the_control_plane(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        assert await agent.learn("acme")
        double.counts = False
        await agent.consume("call", "acme", {"tokens": 4})
        await eventually(lambda: agent.status().backlog_events == 0)
    await double.stop()
    for used in (4, 6):
        async with Agent(settings(tmp_path, double, first_check_wait_s=0.01, drain_s=0.0)) as agent:
            assert agent.check("acme", "tokens").used == used
            assert (await agent.consume("call", "acme", {"tokens": 2})).allowed
            assert agent.check("stranger", "tokens").reason == "unknown_subject"


async def test_own_usage_survives_a_restart_although_what_was_sent_is_not_kept(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double, keep_sent_s=0.0, keep_sent_bytes=0)) as agent:
        assert await agent.learn("acme")
        double.counts = False
        for number in range(1, 4):
            await agent.record("call", "acme", {"tokens": 2})
            await eventually(lambda number=number: agent.status().sent_batches == number)
    await double.stop()
    async with Agent(settings(tmp_path, double, drain_s=0.0)) as agent:
        assert agent.check("acme", "tokens").used == 6


async def test_a_checked_subject_becomes_known_without_being_asked_for(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    double.meter("acme", "tokens", None)
    async with Agent(settings(tmp_path, double, sync_interval_s=3600.0)) as agent:
        assert agent.check("acme", "tokens").reason == "unknown_subject"
        await eventually(lambda: agent.check("acme", "tokens").reason == "unlimited")
        (quota,) = agent.quotas("acme") or ()
        assert (quota.feature, quota.limit, quota.used) == ("tokens", None, 0)


async def test_a_lower_limit_is_learned_while_running(tmp_path: Path, double: ControlPlaneDouble) -> None:
    double.meter("acme", "tokens", "10")
    async with Agent(settings(tmp_path, double)) as agent:
        assert await agent.learn("acme")
        double.limits["acme/tokens"]["limit"] = "0"
        await eventually(lambda: not agent.check("acme", "tokens").allowed)


async def test_a_sync_asked_again_for_want_of_an_answer_is_the_same_sync(
    tmp_path: Path, double: ControlPlaneDouble
) -> None:
    """Else the first, when the network brings it after the second, would look like another process under this name."""
    async with Agent(settings(tmp_path, double)) as agent:
        await eventually(lambda: len(double.messages("sync")) > 1)
        double.answers_again = True  # to every request what another was answered: no answer
        before = len(double.messages("sync"))
        await eventually(lambda: len(double.messages("sync")) > before + 2)
        double.answers_again = False
        await agent.record("call", "acme")
        await counted(double, 1)
    times = sorted(Counter(message["sync_id"] for message in double.messages("sync")).values())
    assert times[-1] > 2
    assert set(times[:-1]) == {1}, "another sync that was answered had the same id"
