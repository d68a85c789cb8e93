"""Meter a call to a language model: what it used is known afterwards, so check first and record when it is done.

    python examples/llm_call.py DIRECTORY

`complete` stands in for the client of a model; its answer has the shape of an OpenAI-like response.
"""

import asyncio
import itertools
import os
import sys
from typing import Any

from sidemeter import Agent, Settings

__all__ = ["complete", "metered_completion"]

_calls = itertools.count(1)


def complete(model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """A model that counts words as tokens, and always writes as much as it may."""
    return {
        "id": f"chatcmpl-{os.getpid()}-{next(_calls)}",
        "model": model,
        "choices": [{"message": {"role": "assistant", "content": "la " * max_tokens}}],
        "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": max_tokens},
    }


async def metered_completion(agent: Agent, customer: str, model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """The model's answer, once its usage is on disk: a customer never holds tokens that nobody counted.

    The answer's own id is the event's id, so recording it again would change nothing.
    """
    answer = complete(model, prompt, max_tokens)
    usage = {
        "model": answer["model"],
        "input_tokens": answer["usage"]["prompt_tokens"],
        "output_tokens": answer["usage"]["completion_tokens"],
    }
    await agent.record("llm.completion", customer, usage, id=answer["id"])
    return answer


async def main(directory: str) -> None:
    """Two calls, metered."""
    async with Agent(Settings.from_environ(os.environ, service="llm-call", data_dir=directory)) as agent:
        for prompt in ("Say hello to the world", "And now in French, please"):
            answer = await metered_completion(agent, "acme", "small", prompt, max_tokens=12)
            print(answer["id"], answer["usage"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
