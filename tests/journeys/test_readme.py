"""The README's own mutation, requests and query, as a reader would run them, against real programs."""

import json
import re
from pathlib import Path

from fakes import eventually
from processes import AgentProcess, control_plane

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def graphql_blocks() -> list[str]:
    return re.findall(r"```graphql\n(.*?)```", README, flags=re.DOTALL)


def requests() -> list[tuple[str, object]]:
    """Path and body of each curl command."""
    found = re.findall(r"http://agent(/\S+) .*?-d '(\{.*?\})'$", README, flags=re.DOTALL | re.MULTILINE)
    return [(path, json.loads(body)) for path, body in found]


async def test_what_the_readme_defines_records_and_asks_gives_a_live_bill(tmp_path: Path) -> None:
    define, ask = graphql_blocks()
    (events, event), (check, question) = requests()
    async with control_plane(tmp_path) as plane:
        made = await plane.ask(define)
        with AgentProcess(tmp_path / "data", plane.url, made["createApiKey"]["secret"]) as agent:
            async with agent.http:
                await agent.start()
                assert (await agent.post(events, event))["accepted"] == 1
                decision = await agent.post(check, question)
                assert (decision["allowed"], decision["reason"]) == (True, "within_limit")

                async def counted() -> dict[str, object] | None:
                    customer = (await plane.ask(ask))["customer"]
                    return customer if customer["quota"]["used"] == "812" else None

                customer = await eventually(counted)
                assert customer["cost"]["total"] == {"rounded": "20", "currency": "USD"}
                assert [line["amount"]["rounded"] for line in customer["cost"]["lines"]] == ["20", "0"]
                assert customer["quota"]["remaining"] == "4999188"
                assert await agent.stop() == 0
