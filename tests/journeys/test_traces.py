"""An event followed through both programs by what they send to a collector, and by the ids in their logs."""

import gzip
import json
from pathlib import Path
from typing import Any

from fakes import eventually
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import ADMIN_KEY, AgentProcess, ControlPlane, agent, control_plane
from receivers import Receiver, receiver

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"


class Collected:
    """The spans that a collector got, each with the name of the program it came from."""

    def __init__(self, collector: Receiver) -> None:
        self._collector = collector

    def spans(self) -> list[tuple[str, Any]]:
        found = []
        for each in self._collector.received:
            body = gzip.decompress(each.body) if each.headers.get("content-encoding") == "gzip" else each.body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {one.key: one.value.string_value for one in resource.resource.attributes}
                spans = [span for scope in resource.scope_spans for span in scope.spans]
                found += [(named["service.name"], span) for span in spans]
        return found

    def named(self, program: str, name: str) -> list[Any]:
        return [span for service, span in self.spans() if (service, span.name) == (program, name)]


def environ(collector: Receiver) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "SIDEMETER_LOG_LEVEL": "debug",
    }


def lines(program: AgentProcess | ControlPlane) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.log.read_text().splitlines() if line.startswith("{")]


async def counted(plane: ControlPlane) -> bool:
    text = (await plane.http.get(f"{plane.url}/metrics")).text
    return 'sidemeter_events_total{outcome="accepted"} 1.0' in text


async def test_an_event_is_followed_from_its_caller_to_the_rollup(tmp_path: Path) -> None:
    async with receiver() as collector:
        given, told = environ(collector), Collected(collector)
        async with control_plane(tmp_path, SIDEMETER_TRACES="yes", **given) as plane:
            async with agent(tmp_path / "data", plane, SIDEMETER_TRACES="true", **given) as process:
                event = {"type": "call", "subject": "acme", "id": "1"}
                answer = await process.http.post("/v1/events", json=event, headers={"traceparent": CALLER})
                assert answer.status_code == 202
                await eventually(lambda: counted(plane), 60)
                asked = {"query": "query Whatever { meters { key } }", "operationName": "Whatever"}
                assert (await plane.http.post(f"{plane.url}/graphql", json=asked)).status_code == 200
                assert await process.stop() == 0
            assert await plane.stop() == 0
        (door,) = told.named("sidemeter-agent", "POST /v1/events")
        (record,) = told.named("sidemeter-agent", "sidemeter record")
        (seal,) = told.named("sidemeter-agent", "sidemeter seal")
        (send,) = told.named("sidemeter-agent", "sidemeter send")
        (batch,) = told.named("sidemeter-control", "POST /agent/v1/batch")
        (ingest,) = told.named("sidemeter-control", "sidemeter ingest")
        (rollup,) = told.named("sidemeter-control", "sidemeter rollup")
        assert (door.trace_id.hex(), door.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
        assert record.parent_span_id == door.span_id
        assert [link.span_id for link in seal.links] == [record.span_id]
        chain = [seal, send, batch, ingest, rollup]
        assert [each.parent_span_id for each in chain[1:]] == [each.span_id for each in chain[:-1]]
        assert len({each.trace_id for each in chain}) == 1
        operations = told.named("sidemeter-control", "sidemeter graphql")
        assert "Whatever" in {one.value.string_value for span in operations for one in span.attributes}

        sent = next(each for each in lines(process) if "/agent/v1/batch" in each["message"])
        taken = next(each for each in lines(plane) if each["message"] == "batch 1 of epoch 1: OK")
        ids = ["agent_id", "epoch", "batch_no", "request_id", "trace_id"]
        assert [sent[name] for name in ids] == [taken[name] for name in ids]
        assert sent["trace_id"] == send.trace_id.hex()
        for program in (process, plane):
            assert not [
                key for key in (ADMIN_KEY, process.environ["SIDEMETER_API_KEY"]) if key in program.log.read_text()
            ]


async def test_a_collector_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    async with (
        control_plane(tmp_path, SIDEMETER_TRACES="yes", **given) as plane,
        agent(tmp_path / "data", plane, SIDEMETER_TRACES="true", **given) as process,
    ):
        await process.post("/v1/events", {"type": "call", "subject": "acme"})
        await eventually(lambda: counted(plane), 60)
        assert await process.stop() == 0
        assert await plane.stop() == 0
