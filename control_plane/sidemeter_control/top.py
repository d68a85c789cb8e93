"""A control plane seen from a terminal: what comes in, what waits, its agents and the meters it fills."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sidemeter_control.clock import Clock
from sidemeter_control.errors import ControlError
from sidemeter_control.remote import Remote

__all__ = ["Look", "look", "screen", "watch"]

SHOWN: Final = 20
"""Agents on one screen, those with the largest backlog first."""

_QUERY: Final = """{ agents { id service version epoch backlog state lastSeen }
  meters { key backfill { done fraction } } }"""
_FLOWS: Final = (
    ("events counted", "sidemeter_events_total{accepted}"),
    ("duplicates", "sidemeter_events_total{duplicate}"),
    ("dead letters", "sidemeter_events_total{dead_letter}"),
    ("batches", "sidemeter_batches_total{OK}"),
    ("batches sent away", "sidemeter_sent_away_total"),
    ("requests", "sidemeter_http_requests_total"),
)
_STYLES: Final = {"CONNECTED": "green", "DRAINING": "yellow", "SILENT": "", "SILENT_WITH_BACKLOG": "red"}


@dataclass(frozen=True, slots=True)
class Look:
    """A control plane at one moment: its figures by name and value of label, also summed by name; and what it lists."""

    at_s: float
    figures: Mapping[str, float]
    agents: Sequence[Mapping[str, Any]]
    filling: Mapping[str, Decimal]

    def of(self, name: str) -> int:
        """A whole figure; 0 where there is none of the name."""
        return int(self.figures.get(name, 0))


def look(remote: Remote, clock: Clock) -> Look:
    """Ask it. ControlError when it refuses, or does not answer."""
    figures: dict[str, float] = {}
    for family in text_string_to_metric_families(remote.read("/metrics")):
        for sample in family.samples:
            labels = "".join(f"{{{value}}}" for value in sample.labels.values())
            figures[sample.name + labels] = sample.value
            if labels:
                figures[sample.name] = figures.get(sample.name, 0) + sample.value
    data = remote.ask(_QUERY)
    filling = {
        each["key"]: Decimal(each["backfill"]["fraction"])
        for each in data["meters"]
        if each["backfill"] and not each["backfill"]["done"]
    }
    return Look(clock.monotonic_s(), figures, data["agents"], filling)


def screen(url: str, before: Look, now: Look) -> RenderableType:
    """What is shown; rates are those between the two looks."""
    parts: list[RenderableType] = [Text(f"sidemeter-control at {url}", "bold"), _flows(before, now), _standing(now)]
    if now.filling:
        parts.append(_filling(now))
    parts.append(_agents(now))
    return Group(*parts)


def _flows(before: Look, now: Look) -> Table:
    table = Table("", "a second", "since start", box=None, header_style="dim", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    took_s = max(now.at_s - before.at_s, 0.001)
    for word, name in _FLOWS:
        since = max(now.of(name) - before.of(name), 0)  # less: it started anew meanwhile
        table.add_row(word, f"{round(since / took_s):,}", f"{now.of(name):,}")
    return table


def _standing(now: Look) -> Text:
    said = Text(f"\nbacklog {now.of('sidemeter_backlog_events'):,} events at {now.of('sidemeter_agents'):,} agents")
    said.append(f"; {now.of('sidemeter_agents_in_line'):,} wait for their turn")
    for name, meaning in (
        ("sidemeter_dead_letters", "dead letters wait"),
        ("sidemeter_lost_events", "events were lost by agents' disks"),
        ("sidemeter_leases_in_doubt", "parts of limits are in doubt"),
    ):
        if count := now.of(name):
            said.append(f"\n{count:,} {meaning}", "red")
    if now.of("sidemeter_recovering"):
        said.append("\nrecovering: nothing more is granted of hard limits", "red")
    return said.append("\n")


def _filling(now: Look) -> Table:
    table = Table("meters being filled", "", "", box=None, header_style="dim", pad_edge=False)
    for key, fraction in sorted(now.filling.items()):
        percent = int(100 * fraction)
        table.add_row(Text(key), ProgressBar(100, percent, width=30), f"{percent} %")
    return table


def _agents(now: Look) -> RenderableType:
    if not now.agents:
        return Text("no agent has said hello yet: sidemeter agent --control-plane URL starts one")
    table = Table("agent", "service", "version", "epoch", "backlog", "state", "last seen", box=None, pad_edge=False)
    ordered = sorted(now.agents, key=lambda each: (-each["backlog"], each["service"], each["id"]))
    for each in ordered[:SHOWN]:
        names = Text(each["id"][:12]), Text(each["service"]), Text(each["version"])
        state = Text(each["state"], _STYLES.get(each["state"], ""))
        table.add_row(*names, str(each["epoch"]), f"{each['backlog']:,}", state, each["lastSeen"][:19])
    if len(ordered) > SHOWN:
        table.add_row(f"and {len(ordered) - SHOWN} others")
    return table


def watch(remote: Remote, url: str, clock: Clock, *, every_s: float, once: bool) -> None:
    """Show it until it is interrupted; `once`, or where there is no terminal, one screen. Raises as `look` does."""
    console = Console(highlight=False, emoji=False)
    before = look(remote, clock)
    time.sleep(every_s)
    now = look(remote, clock)
    if once or not console.is_terminal:
        console.print(screen(url, before, now))
        return
    with Live(screen(url, before, now), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            try:
                before, now = now, look(remote, clock)
            except ControlError as exc:
                live.update(Text(f"no answer: {exc}", "red"), refresh=True)
            else:
                live.update(screen(url, before, now), refresh=True)
