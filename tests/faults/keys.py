"""The agent's key is revoked while it works: every request is refused for good, until it gets another key."""

import asyncio
import random
from pathlib import Path
from typing import Final

from fakes import eventually
from processes import AgentProcess, ControlPlane

from .oracle import Tally
from .rig import deployed, traffic

__all__ = ["round"]

KEEP_NOTHING: Final = {"SIDEMETER_KEEP_SENT_BYTES": "0", "SIDEMETER_KEEP_SENT_S": "0"}
"""What was dropped as if it had been counted could else be sent again."""


async def round(rng: random.Random, directory: Path) -> Tally:  # noqa: A001 -- what every kind of fault calls it
    """Recording goes on while the control plane says 401; with the new key everything arrives."""
    async with deployed(rng, directory, **KEEP_NOTHING) as it:
        (agent,) = it.agents
        key = await _give_key(it.plane, agent)
        caller = asyncio.create_task(traffic(it.oracle, agent, rng))
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        await it.plane.ask("mutation($id: ID!) { revokeApiKey(id: $id) }", id=key)
        acknowledged = len(it.oracle.acknowledged)
        await eventually(lambda: len(it.oracle.acknowledged) > acknowledged + 3000)
        it.oracle.faults["key revoked"] += 1
        caller.cancel()
        await asyncio.wait([caller])
        await _give_key(it.plane, agent)
        return await it.settle()


async def _give_key(plane: ControlPlane, agent: AgentProcess) -> str:
    """Start the agent anew with a key of its own; answers the key's id."""
    made = await plane.make("createApiKey", "ApiKeyInput", "id secret", name="agent", scopes=["AGENT"])
    agent.kill()
    agent.environ["SIDEMETER_API_KEY"] = made["secret"]
    await agent.start()
    return str(made["id"])
