"""Metrics: every figure of the snapshot is there, with its help and its kind."""

import dataclasses

import pytest
from conventions import breaches
from prometheus_client.parser import text_string_to_metric_families

from sidemeter.metrics import exposition
from sidemeter.state import AgentState

METRICS = {"oldest_backlog_us": "oldest_backlog_timestamp_seconds"}
FIELDS = [each for each in dataclasses.fields(AgentState) if "label" not in each.metadata]


@pytest.mark.parametrize("name", [each.name for each in FIELDS])
def test_every_figure_is_told_with_its_help(name: str) -> None:
    state = AgentState(**{each.name: number for number, each in enumerate(FIELDS)})
    families = {family.name: family for family in text_string_to_metric_families(exposition(state, {}).decode())}
    family = families[f"sidemeter_agent_{METRICS.get(name, name)}"]
    assert family.documentation
    scale = 1_000_000 if family.name.endswith("_timestamp_seconds") else 1
    assert [sample.value * scale for sample in family.samples] == [getattr(state, name)]
    assert family.samples[0].name.endswith("_total") is (family.type == "counter")


def test_answers_are_told_by_route_and_status() -> None:
    text = exposition(AgentState(), {("/v1/events", 202): 3, ("/v1/events", 422): 1}).decode()
    assert 'sidemeter_http_answers_total{route="/v1/events",status="202"} 3.0' in text
    assert 'sidemeter_http_answers_total{route="/v1/events",status="422"} 1.0' in text


def test_denials_are_told_by_reason() -> None:
    text = exposition(AgentState(denied={"lease_short": 3, "limit_reached": 1}), {}).decode()
    assert 'sidemeter_agent_denied_total{reason="lease_short"} 3.0' in text
    assert 'sidemeter_agent_denied_total{reason="limit_reached"} 1.0' in text


def test_names_units_and_helps_are_by_the_conventions() -> None:
    state = AgentState(denied={"lease_short": 1})
    families = list(text_string_to_metric_families(exposition(state, {("/v1/check", 200): 1}).decode()))
    assert breaches(families) == []
    assert {"sidemeter_agent_build_info", "process_resident_memory_bytes"} <= {family.name for family in families}
