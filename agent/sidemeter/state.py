"""The agent's figures: one snapshot of plain numbers, for `/metrics`, `/readyz` and whoever looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AgentState"]


def _counter(help_text: str) -> Any:
    return field(default=0, metadata={"kind": "counter", "help": help_text})


def _gauge(help_text: str) -> Any:
    return field(default=0, metadata={"kind": "gauge", "help": help_text})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """One agent at one moment. Each field is also a metric, `sidemeter_agent_<field>`, counters with `_total`; instants are
    microseconds here, and seconds there.

    >>> AgentState(ready=True, backlog_events=3).backlog_events
    3
    """

    ready: bool = _gauge("1 while events are taken.")
    connected: bool = _gauge("1 while the control plane answers.")
    epoch: int = _gauge("The agent's epoch at the control plane; 0 before the first contact.")
    pending_events: int = _gauge("Accepted events in memory, not yet on disk.")
    backlog_events: int = _gauge("Events on disk that the control plane has not yet counted.")
    oldest_backlog_us: int = field(
        default=0,
        metadata={
            "kind": "gauge",
            "metric": "oldest_backlog_timestamp_seconds",
            "help": "When the oldest of them happened, since 1970; 0 when there is none.",
        },
    )
    buffer_bytes: int = _gauge("Size of the buffer on disk.")
    ballast_bytes: int = _gauge("Room set aside on the disk for everything but recording; 0 while a full disk uses it.")
    disk_refusing: bool = _gauge("1 while the disk is too full to record.")
    set_aside_events: int = _gauge("Events that the control plane can never take, kept apart with the reason.")
    open_losses: int = _gauge("Losses declared here that the control plane has not stored yet.")
    leases: int = _gauge("Leases of hard limits that are held, also ones with nothing left.")
    leases_with_rest: int = _gauge("Those of them that something may still be spent of.")
    leases_in_doubt: int = _gauge("Leases of epochs that are over, with a rest that the control plane was not told of.")
    lost_holders: int = _gauge("Epochs that are over, and of whose leases the control plane is still to be told.")
    open_reservations: int = _gauge("Reservations that have no end yet.")
    reservations_in_doubt: int = _gauge("Reservations whose time was over before their end: charged, and not billed.")
    recorded_events: int = _counter("Events made durable since the start.")
    duplicate_events: int = _counter("Events that were already there.")
    refused_events: int = _counter("Events refused because the buffer, the disk or the agent took none.")
    commits: int = _counter("Commits of the buffer: recorded events over commits is the size of a group.")
    sent_events: int = _counter("Events that the control plane counted.")
    sent_batches: int = _counter("Batches that the control plane answered.")
    failed_sends: int = _counter("Requests to the control plane that brought no usable answer.")
    dead_letters: int = _counter("Events that the control plane accepted and could not count.")
    salvaged_events: int = _counter("Events read back out of a damaged buffer, and taken again.")
    rebuilds: int = _counter("Buffers that were damaged, and begun anew.")
    lost_events: int = _counter(
        "Events that the disk lost after they were acknowledged, as far as their number is known."
    )
    paced_seconds: float = _counter("Time that batches waited because the control plane said so.")
    resends: int = _counter("Times that the control plane lacked what it had counted, and got it again.")
    new_names: int = _counter("Times that another process lived under this agent's name, so that it took a new one.")
    checks: int = _counter("Decisions made.")
    denials: int = _counter("Decisions that said no.")
    denied: Mapping[str, int] = field(
        default_factory=dict,
        metadata={"kind": "counter", "help": "Decisions that said no, by reason.", "label": "reason"},
    )
