"""Streamed calls to a model under a hard limit: whatever their end is, it is recorded, charged, and nothing stays set aside."""

import asyncio
import doctest
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import llm_usage
import pytest
from agent.control_plane_double import ControlPlaneDouble
from agent.whole_agent import at
from llm_call import LimitReached, ModelFailed, metered
from llm_server import CHAT, MESSAGES, RESPONSES, Answer, StandIn
from llm_usage import Call, ChatCompletion, Message, Response
from processes import run

from sidemeter import Agent

LIMIT = 1000
HELLO = [{"role": "user", "content": "Say hello to the world"}]
METER = {"event_type": "llm.completion", "aggregation": "SUM", "value_property": "total_tokens", "filters": []}


@pytest.fixture
async def double() -> AsyncIterator[ControlPlaneDouble]:
    """Acme may use so many tokens."""
    async with ControlPlaneDouble() as control_plane:
        control_plane.lease("acme", "tokens", LIMIT, meter=METER)
        yield control_plane


@pytest.fixture
async def agent(tmp_path: Path, double: ControlPlaneDouble) -> AsyncIterator[Agent]:
    async with Agent(at(tmp_path, double)) as running:
        yield running


def chat(**changes: Any) -> ChatCompletion:
    return ChatCompletion({"model": "small", "messages": HELLO, "max_completion_tokens": 50} | changes)


def response(**changes: Any) -> Response:
    return Response({"model": "small", "input": HELLO, "max_output_tokens": 50} | changes)


def message(**changes: Any) -> Message:
    return Message({"model": "large", "messages": HELLO, "max_tokens": 50} | changes)


def until(stream: bytes, last: bytes) -> bytes:
    """A stream's events up to the one that `last` is in."""
    events = stream.split(b"\n\n")
    return b"\n\n".join(events[: next(n for n, event in enumerate(events) if last in event) + 1]) + b"\n\n"


async def answer_of(agent: Agent, server: StandIn, call: Call) -> str:
    async with httpx.AsyncClient(base_url=server.url) as http, metered(agent, http, "acme", call) as texts:
        return "".join([text async for text in texts])


async def spend(agent: Agent, tokens: int) -> bool:
    """Whether so many tokens are free."""
    data = {"total_tokens": tokens}
    return (await agent.consume("llm.completion", "acme", data, id=f"rest-{tokens}", wait_s=5.0)).allowed


async def recorded(agent: Agent, double: ControlPlaneDouble) -> list[dict[str, Any]]:
    """The usage of every call that was counted; nothing is set aside any more, and all that was not used is free."""
    assert agent.status().open_reservations == 0
    await agent.drain()
    usages = [json.loads(event[5]) for (_, event_id), event in double.events.items() if "rest" not in event_id]
    used, refunded = (double.books.total("acme/tokens", name) for name in ("used", "refunded"))
    assert used - refunded == sum(json.loads(event[5])["total_tokens"] for event in double.events.values())
    assert double.books.held("acme/tokens") == used - refunded
    return usages


def tokens(usage: dict[str, Any]) -> tuple[int, ...]:
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return tuple(usage[name] for name in names)


@pytest.mark.parametrize(
    ("make", "used", "answer_id"),
    [
        (chat, (4, 16, 0, 9, 5), "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG"),
        (response, (7, 30, 0, 11, 7), "resp_67c9fdcecf488190bdd9a0409de3a1ec"),
        (message, (25, 300, 100, 15, 0), "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY"),
    ],
    ids=["chat completion", "response", "message"],
)
async def test_a_call_that_finished_is_charged_what_the_api_reported(
    agent: Agent, double: ControlPlaneDouble, make: Callable[[], Call], used: tuple[int, ...], answer_id: str
) -> None:
    call = make()
    async with StandIn() as server:
        assert await answer_of(agent, server, call) == "Hello, world"
        assert server.calls[0]["stream"] is True
    assert await spend(agent, LIMIT - sum(used[:4])), "all the rest is free again"
    (usage,) = await recorded(agent, double)
    assert tokens(usage) == used
    assert usage["total_tokens"] == sum(used[:4])
    assert (usage["usage"], usage["model"], usage["response"]) == ("reported", call.model, answer_id)


async def test_usage_is_asked_for_where_it_only_comes_when_asked_for(agent: Agent) -> None:
    async with StandIn() as server:
        await answer_of(agent, server, chat(stream_options={"include_obfuscation": False}))
    assert server.calls[0]["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize(
    ("make", "stream", "given"),
    [
        (chat, CHAT, None),
        (response, RESPONSES, None),
        (message, MESSAGES, (25, 300, 100)),
    ],
    ids=["chat completion", "response", "message"],
)
@pytest.mark.parametrize("leaves", [False, True], ids=["cancelled", "reader leaves"])
async def test_a_call_that_is_left_in_mid_stream_is_charged_what_was_streamed(
    agent: Agent,
    double: ControlPlaneDouble,
    make: Callable[[], Call],
    stream: bytes,
    given: tuple[int, ...] | None,
    leaves: bool,
) -> None:
    call = make()
    answers = {call.path: Answer([until(stream, b"world")], ends="never")}
    heard: list[str] = []
    half = asyncio.Event()

    async def listen(server: StandIn) -> None:
        async with httpx.AsyncClient(base_url=server.url) as http, metered(agent, http, "acme", call) as texts:
            async for text in texts:
                heard.append(text)
                if len(heard) == 2:
                    half.set()
                    if leaves:
                        break

    async with StandIn(answers) as server:
        listening = asyncio.create_task(listen(server))
        await half.wait()
        if not leaves:
            assert agent.status().open_reservations == 1
            listening.cancel()
        await asyncio.wait([listening])
        assert listening.cancelled() is not leaves
        await server.gone.wait()
    assert "".join(heard) == "Hello, world"
    counted = given or (-(-len(json.dumps(call.body)) // 4), 0, 0)
    assert await spend(agent, LIMIT - sum(counted) - 3), "what was set aside and not used is free again"
    (usage,) = await recorded(agent, double)
    assert tokens(usage) == (*counted, 3, 0), "twelve bytes are about three tokens"
    assert usage["usage"] == "counted"


async def test_a_call_that_may_cost_more_than_is_left_is_refused_and_nothing_is_called(
    agent: Agent, double: ControlPlaneDouble
) -> None:
    async with StandIn() as server:
        with pytest.raises(LimitReached, match="limit_reached") as refused:
            await answer_of(agent, server, chat(max_completion_tokens=LIMIT))
        assert refused.value.decision.limit == LIMIT
        assert server.calls == []
    assert await spend(agent, LIMIT)
    assert await recorded(agent, double) == []


OVERLOADED = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'


@pytest.mark.parametrize(
    "answer",
    [
        Answer([OVERLOADED], status=529),
        Answer(
            [b'{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}'], status=429
        ),
        Answer([b"event: error\ndata: " + OVERLOADED + b"\n\n"]),
    ],
    ids=["529", "429", "first event"],
)
async def test_a_call_that_the_api_refuses_costs_nothing(
    agent: Agent, double: ControlPlaneDouble, answer: Answer
) -> None:
    call = message()
    async with StandIn({call.path: answer}) as server:
        with pytest.raises(ModelFailed, match=r"Overloaded|Rate limit reached"):
            await answer_of(agent, server, call)
    assert await spend(agent, LIMIT)
    assert await recorded(agent, double) == []


async def test_a_call_that_reaches_no_server_costs_nothing(agent: Agent, double: ControlPlaneDouble) -> None:
    async with StandIn() as server:
        pass
    with pytest.raises(httpx.ConnectError):
        await answer_of(agent, server, chat())
    assert await spend(agent, LIMIT)
    assert await recorded(agent, double) == []


@pytest.mark.parametrize(
    ("answer", "fails"),
    [
        (Answer([until(CHAT, b"world")], ends="broken"), httpx.RemoteProtocolError),
        (Answer([until(CHAT, b"world"), b'data: {"error":{"message":"overloaded"}}\n\n']), ModelFailed),
        (Answer([until(CHAT, b'"stop"'), b"data: [DONE]\n\n"]), None),
    ],
    ids=["broken off", "error", "no usage"],
)
async def test_a_stream_without_usage_is_charged_what_was_counted_and_says_so(
    agent: Agent, double: ControlPlaneDouble, answer: Answer, fails: type[Exception] | None
) -> None:
    call = ChatCompletion(chat().body, input_tokens=20, count=lambda text: len(text.split()))
    async with StandIn({call.path: answer}) as server:
        if fails:
            with pytest.raises(fails):
                await answer_of(agent, server, call)
        else:
            assert await answer_of(agent, server, call) == "Hello, world"
    assert await spend(agent, LIMIT - 22)
    (usage,) = await recorded(agent, double)
    assert (usage["input_tokens"], usage["output_tokens"], usage["usage"]) == (20, 2, "counted")


async def test_a_call_that_nobody_answers_is_charged_its_input_which_may_have_been_read(
    agent: Agent, double: ControlPlaneDouble
) -> None:
    call = ChatCompletion(chat().body, input_tokens=20)
    async with StandIn({call.path: Answer([], status=0)}) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await answer_of(agent, server, call)
    assert await spend(agent, LIMIT - 20)
    (usage,) = await recorded(agent, double)
    assert (usage["total_tokens"], usage["usage"]) == (20, "counted")


async def test_calls_at_the_same_time_never_use_more_than_the_limit_together(
    agent: Agent, double: ControlPlaneDouble
) -> None:
    calls = [message(max_tokens=150) for _ in range(10)]
    async with StandIn() as server:
        ends = await asyncio.gather(*(answer_of(agent, server, call) for call in calls), return_exceptions=True)
        assert {type(end) for end in ends} == {str, LimitReached}
        assert len(server.calls) == sum(end == "Hello, world" for end in ends)
    assert len(await recorded(agent, double)) == len(server.calls)


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_a_stream_is_read_the_same_wherever_it_is_cut(agent: Agent, size: int) -> None:
    stream = CHAT.replace(b", world", ", w\u00f6rld\u2028\u0085".encode()).replace(b"\n", b"\r\n")
    call = chat()
    answer = Answer([stream[at : at + size] for at in range(0, len(stream), size)])
    async with StandIn({call.path: answer}) as server:
        assert await answer_of(agent, server, call) == "Hello, w\u00f6rld\u2028\u0085"
    assert tokens(call.used()) == (4, 16, 0, 9, 5)


def test_what_nobody_reads_is_counted_too() -> None:
    calls = {"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": '{"a":1}'}}]}
    call = ChatCompletion(chat().body, count=len)
    assert call.read({"id": "c", "choices": [{"delta": calls}, {"delta": {"reasoning_content": "Hm"}}]}) == ""
    assert call.used()["output_tokens"] == 9
    of_response = Response(response().body, count=len)
    assert of_response.read({"type": "response.function_call_arguments.delta", "delta": '{"a"'}) == ""
    assert of_response.read({"type": "response.output_audio.delta", "delta": "AAAA"}) == ""
    assert of_response.used()["output_tokens"] == 4
    of_message = Message(message().body, count=len)
    for delta in ({"thinking": "Hm"}, {"partial_json": "{}"}, {"signature": "EqQB"}):
        assert of_message.read({"type": "content_block_delta", "delta": delta}) == ""
    assert of_message.used()["output_tokens"] == 4


def test_a_later_report_replaces_what_it_names_and_leaves_the_rest() -> None:
    call = message()
    started = {"input_tokens": 25, "cache_read_input_tokens": 300, "output_tokens": 1}
    call.read({"type": "message_start", "message": {"id": "msg", "usage": started}})
    told = {"input_tokens": 472, "cache_read_input_tokens": None, "output_tokens": 89}
    call.read({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": told})
    assert tokens(call.used()) == (472, 300, 0, 89, 0)


@pytest.mark.parametrize("kind", ["incomplete", "failed"])
def test_a_response_that_ends_early_is_charged_what_it_reports(kind: str) -> None:
    call, usage = response(), {"input_tokens": 3, "output_tokens": 50}
    error = {"code": "server_error", "message": "no more"} if kind == "failed" else None
    call.read({"type": f"response.{kind}", "response": {"id": "resp", "usage": usage, "error": error}})
    assert (tokens(call.used()), call.used()["usage"]) == ((3, 0, 0, 50, 0), "reported")
    assert call.error == ("no more" if kind == "failed" else None)


def test_a_call_is_set_aside_for_as_much_as_it_may_cost() -> None:
    assert chat().at_most()["total_tokens"] >= len(HELLO[0]["content"]) + 50
    assert chat(n=3, max_completion_tokens=None, max_tokens=50).at_most()["output_tokens"] == 150
    assert Message(message().body, input_tokens=12).at_most()["total_tokens"] == 62
    with pytest.raises(ValueError, match="max_completion_tokens must be set"):
        chat(max_completion_tokens=None)


def test_what_it_says_of_reading_usage_holds() -> None:
    assert doctest.testmod(llm_usage) == (0, 3)


def test_the_example_prints_what_each_call_used(tmp_path: Path) -> None:
    lines = run(sys.executable, "examples/llm_call.py", str(tmp_path / "data")).splitlines()
    assert [line.split(" {")[0] for line in lines] == ["Hello, world"] * 3 + ["Hello ...", "left:"]
    totals = [re.findall(r"'total_tokens': (\d+)", line) for line in lines[:3]]
    assert totals == [["29"], ["48"], ["440"]]
    assert "'usage': 'counted'" in lines[-1]
