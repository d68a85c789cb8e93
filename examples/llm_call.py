"""Meter and limit streamed calls to a language model: what one costs is known only afterwards, and it may end at any word.

    python examples/llm_call.py DIRECTORY

Before a call, the most that it may use is set aside: its input, and `max_tokens`. At its end, whatever the end is, what it did
use is recorded and charged, and the rest is free again; a call that did not start costs nothing. `llm_usage.py` reads the
streams of the APIs. The example calls `llm_server.py`, which answers as they do; for a real one, give the client its base URL and key.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import httpx
from llm_server import StandIn
from llm_usage import Call, ChatCompletion, Message, Response

from sidemeter import Agent, Decision, Settings

__all__ = ["LimitReached", "ModelFailed", "metered"]

LONGEST_CALL_S: Final = 900.0
"""When a process dies in a call, this is how long what it set aside waits; then all of it is charged, and none is billed."""


class LimitReached(Exception):
    """The customer's limit does not allow the most that the call may use: ask for fewer tokens, or tell the customer."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(f"{decision.reason}: {decision.remaining} left of {decision.limit}")
        self.decision = decision


class ModelFailed(Exception):
    """The API says that it failed. `status`: of its answer, 200 if it failed while it streamed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status


@asynccontextmanager
async def metered(
    agent: Agent, http: httpx.AsyncClient, customer: str, call: Call
) -> AsyncIterator[AsyncIterator[str]]:
    """The answer, as it is streamed. Leave the block at any time: when it is left, what was used is on disk.

    Raises LimitReached before anything is called, ModelFailed, and whatever httpx raises.
    """
    is_sent = is_refused = False

    async def trace(step: str, _: object) -> None:
        nonlocal is_sent
        is_sent = is_sent or step.endswith("send_request_headers.started")

    async with agent.reserve("llm.completion", customer, call.at_most(), ttl_s=LONGEST_CALL_S) as hold:
        if not hold.allowed:
            raise LimitReached(hold.decision)
        try:
            async with http.stream("POST", call.path, json=call.body, extensions={"trace": trace}) as response:
                if is_refused := response.is_error:
                    raise ModelFailed(response.status_code, (await response.aread()).decode(errors="replace")[:500])
                async with aclosing(_texts(response, call)) as texts:
                    yield texts
        finally:
            if is_sent and not is_refused and (call.has_begun or not call.error):
                hold.used = call.used()  # the input at least: who was sent it and did not refuse may have read it
            else:
                await hold.release()


async def _texts(response: httpx.Response, call: Call) -> AsyncIterator[str]:
    async for event in _events(response):
        if text := call.read(event):
            yield text
        if call.error:
            raise ModelFailed(response.status_code, call.error)


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The server-sent events of an answer. Lines end with LF or CR LF alone: text may have other separators in it, as JSON may."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            data = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != b"[DONE]":
                yield json.loads(data)


async def main(directory: str) -> None:
    """A call to each API, and one whose reader leaves after the first word."""
    asked = [{"role": "user", "content": "Say hello to the world"}]
    calls = [
        ChatCompletion({"model": "small", "messages": asked, "max_completion_tokens": 50}),
        Response({"model": "small", "input": asked, "max_output_tokens": 50}),
        Message({"model": "large", "messages": asked, "max_tokens": 50}),
    ]
    left = ChatCompletion({"model": "small", "messages": asked, "max_completion_tokens": 50})
    settings = Settings.from_environ(os.environ, service="llm-call", data_dir=directory, on_unknown="allow")
    async with (
        Agent(settings) as agent,
        StandIn() as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
    ):
        for call in calls:
            async with metered(agent, http, "acme", call) as texts:
                print("".join([text async for text in texts]), call.used())
        async with metered(agent, http, "acme", left) as texts:
            print(await anext(texts), "...")
        print("left:", left.used())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
