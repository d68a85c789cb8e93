"""The agent's figures as Prometheus text.

The hot path only counts in plain integers; names, help and labels are put to them here, when somebody looks. Through
`prometheus_client`'s own counters each event would cost a microsecond more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from sidemeter.state import AgentState
from sidemeter.version import VERSION

__all__ = ["exposition"]

_TIMESTAMP = "_timestamp_seconds"
_US_PER_S = 1_000_000


class _Snapshot(Collector):
    """What one scrape reads."""

    def __init__(self, state: AgentState, answered: Mapping[tuple[str, int], int]) -> None:
        self._state = state
        self._answered = answered

    def collect(self) -> Iterable[Metric]:
        """Each field of the state as its metadata says, then the answers."""
        for each in fields(self._state):
            family = CounterMetricFamily if each.metadata["kind"] == "counter" else GaugeMetricFamily
            value, label = getattr(self._state, each.name), each.metadata.get("label")
            name = f"sidemeter_agent_{each.metadata.get('metric', each.name)}"
            if name.endswith(_TIMESTAMP):
                value = value / _US_PER_S
            if label is None:
                yield family(name, each.metadata["help"], value=value)
                continue
            by_label = family(name, each.metadata["help"], labels=[label])
            for labelled, count in value.items():
                by_label.add_metric([labelled], count)
            yield by_label
        yield InfoMetricFamily("sidemeter_agent_build", "The version that runs.", {"version": VERSION})
        answers = CounterMetricFamily(
            "sidemeter_http_answers", "Answers of the routes that take events and checks.", labels=["route", "status"]
        )
        for (route, status), count in self._answered.items():
            answers.add_metric([route, str(status)], count)
        yield answers


def exposition(state: AgentState, answered: Mapping[tuple[str, int], int]) -> bytes:
    """The Prometheus text of a snapshot, and of HTTP answers counted by route and status; and what the process uses.

    >>> print(exposition(AgentState(ready=True), {("/v1/check", 200): 2}).decode().splitlines()[-1])
    sidemeter_http_answers_total{route="/v1/check",status="200"} 2.0
    """
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Snapshot(state, answered))
    return generate_latest(registry)
