"""Record usage and ask for a limit, in the process of your own service; nothing else has to run.

    python examples/quickstart.py DIRECTORY

The events wait in DIRECTORY, safe from a kill and a power cut, until the agent is given a control plane to forward
them to (`SIDEMETER_CONTROL_PLANE=http://…` and `SIDEMETER_API_KEY=…` in the environment).
"""

import asyncio
import os
import sys

from sidemeter import Agent, Settings


async def main(directory: str) -> None:
    """Record one call twice: the second time is a retry, and is not counted again."""
    settings = Settings.from_environ(os.environ, service="quickstart", data_dir=directory)
    async with Agent(settings) as agent:
        usage = {"model": "small", "input_tokens": 812, "output_tokens": 90}
        receipt = await agent.record("llm.completion", "acme", usage, id="call-1")
        print(f"{receipt.source}/{receipt.id} is on {receipt.durability}")

        retry = await agent.record("llm.completion", "acme", usage, id="call-1")
        print(f"recorded before: {retry.duplicate}")

        decision = agent.check("acme", "chat")  # answered from memory, in microseconds
        print(f"may acme chat? {decision.allowed}: {decision.reason}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
