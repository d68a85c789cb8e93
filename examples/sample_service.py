"""A whole metered service: Starlette, the agent in its process, and the middleware of `asgi_middleware.py`.

    export SIDEMETER_CONTROL_PLANE=http://127.0.0.1:8080 SIDEMETER_API_KEY=smk_… SIDEMETER_DATA_DIR=data
    python examples/sample_service.py --port 8000
    curl -H 'X-Customer: acme' -d '{"model": "small", "prompt": "Hello", "max_tokens": 9}' 127.0.0.1:8000/chat

Every request to `/chat` is one event `http.request`, from the middleware, and one `llm.completion`, from the handler. The
model is a stand-in whose answer has the shape of a chat completion; `llm_call.py` shows calls that are streamed and limited.
"""

import argparse
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from asgi_middleware import MeteringMiddleware
from llm_usage import of_chat
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sidemeter import Agent, Settings

__all__ = ["application"]

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
    usage = of_chat(answer["usage"]).data(answer["model"], "reported")
    await agent.record("llm.completion", customer, usage, id=answer["id"])
    return answer


def application(settings: Settings) -> Starlette:
    """The service. The agent lives as long as it does, and drains when it stops."""
    agent = Agent(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with agent:
            yield

    async def chat(request: Request) -> JSONResponse:
        call = await request.json()
        customer = request.headers["x-customer"]
        answer = await metered_completion(agent, customer, call["model"], call["prompt"], call["max_tokens"])
        return JSONResponse(answer)

    return Starlette(
        routes=[Route("/chat", chat, methods=["POST"])],
        middleware=[Middleware(MeteringMiddleware, agent=agent, feature="chat")],
        lifespan=lifespan,
    )


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="A sample service, metered.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: other machines reach it too, as in a container")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    given = parser.parse_args()
    settings = Settings.from_environ(os.environ, service="chat", first_check_wait_s=2.0)
    uvicorn.run(application(settings), host=given.host, port=given.port, access_log=False)


if __name__ == "__main__":
    main()
