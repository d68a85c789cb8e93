"""The README's own mutation, requests and query, as a reader would run them, against real programs."""

import asyncio
import json
import re
import sys
from pathlib import Path

from fakes import eventually
from processes import ADMIN_KEY, AgentProcess, control_plane, run

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
        patient = {"SIDEMETER_FIRST_CHECK_WAIT_S": "10"}  # on a busy machine it takes a while to hear of a subject
        with AgentProcess(tmp_path / "data", plane.url, made["createApiKey"]["secret"], **patient) as agent:
            async with agent.http:
                await agent.start()
                assert (await agent.post(events, event))["accepted"] == 1

                async def allowed() -> bool:  # at once, unless the machine is too busy to hear of the lease in time
                    decision = await agent.post(check, question)
                    assert decision["reason"] in {"within_limit", "lease_short", "no_lease"}
                    return bool(decision["allowed"])

                await eventually(allowed)

                async def counted() -> dict[str, object] | None:
                    customer = (await plane.ask(ask))["customer"]
                    return customer if customer["quota"]["used"] == "812" else None

                customer = await eventually(counted)
                assert customer["cost"]["total"] == {"rounded": "20", "currency": "USD"}
                assert [line["amount"]["rounded"] for line in customer["cost"]["lines"]] == ["20", "0"]
                assert customer["quota"]["remaining"] == "4999188"
                assert await agent.stop() == 0


async def test_its_commands_keep_a_plan_in_a_file(tmp_path: Path) -> None:
    commands = [
        line.split("#")[0].split() for line in README.splitlines() if line.startswith("    sidemeter-control plan ")
    ]
    assert [command[2] for command in commands] == ["export", "diff", "apply"]
    define, _ = graphql_blocks()
    async with control_plane(tmp_path) as plane:
        await plane.ask(define)
        keep, show, publish = [
            [
                sys.executable,
                "-m",
                "sidemeter_control.cli",
                *(str(tmp_path / word) if word == "plan.yaml" else word for word in command[1:]),
                "--url",
                plane.url,
            ]
            for command in commands
        ]
        await asyncio.to_thread(run, *keep, SIDEMETER_API_KEY=ADMIN_KEY)
        assert "no change" in await asyncio.to_thread(run, *show, SIDEMETER_API_KEY=ADMIN_KEY)
        file = tmp_path / "plan.yaml"
        file.write_text(
            file.read_text().replace("amount: '20'", "amount: '25'").replace('amount: "20"', 'amount: "25"')
        )
        told = await asyncio.to_thread(lambda: run(*show, exit_code=3, SIDEMETER_API_KEY=ADMIN_KEY))
        assert "25" in told
        assert "version 2" in await asyncio.to_thread(run, *publish, "--yes", SIDEMETER_API_KEY=ADMIN_KEY)
