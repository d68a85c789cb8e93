"""What a call to a language model used, read from what three APIs send: chat completions and responses of OpenAI (and the many
servers that speak like it), messages of Anthropic.

Pure, and made to be copied: `of_chat`, `of_responses` and `of_messages` read the `usage` of a whole answer, the three kinds of
`Call` a stream, event by event, so that at any moment they know what was used so far.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "Call",
    "ChatCompletion",
    "Message",
    "Response",
    "Tokens",
    "about",
    "of_chat",
    "of_messages",
    "of_responses",
]

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """`input` (at full price), `cache_read`, `cache_write` and `output` share no token, so each can have a price of its own.

    `reasoning` is a part of `output`.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def data(self, model: str, usage: str) -> dict[str, Any]:
        """The data of the usage event. `usage` says where the figures are from: "reported", "counted" or "reserved"."""
        return {
            "model": model,
            "usage": usage,
            "input_tokens": self.input,
            "cache_read_tokens": self.cache_read,
            "cache_write_tokens": self.cache_write,
            "output_tokens": self.output,
            "reasoning_tokens": self.reasoning,
            "total_tokens": self.input + self.cache_read + self.cache_write + self.output,
        }


def of_chat(usage: Json) -> Tokens:
    """The `usage` of a chat completion, whose `prompt_tokens` include those from the cache.

    >>> of_chat({"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 16}})
    Tokens(input=4, cache_read=16, cache_write=0, output=7, reasoning=0)
    """
    cached = _of(usage.get("prompt_tokens_details"), "cached_tokens")
    reasoning = _of(usage.get("completion_tokens_details"), "reasoning_tokens")
    given, made = _of(usage, "prompt_tokens"), _of(usage, "completion_tokens")
    return Tokens(input=given - cached, cache_read=cached, output=made, reasoning=reasoning)


def of_responses(usage: Json) -> Tokens:
    """The `usage` of a response, whose `input_tokens` include those from the cache."""
    cached = _of(usage.get("input_tokens_details"), "cached_tokens")
    reasoning = _of(usage.get("output_tokens_details"), "reasoning_tokens")
    given, made = _of(usage, "input_tokens"), _of(usage, "output_tokens")
    return Tokens(input=given - cached, cache_read=cached, output=made, reasoning=reasoning)


def of_messages(usage: Json) -> Tokens:
    """The `usage` of a message, whose `input_tokens` do not include what was read from the cache or written to it.

    >>> of_messages({"input_tokens": 4, "output_tokens": 7, "cache_read_input_tokens": 16})
    Tokens(input=4, cache_read=16, cache_write=0, output=7, reasoning=0)
    """
    return Tokens(
        input=_of(usage, "input_tokens"),
        cache_read=_of(usage, "cache_read_input_tokens"),
        cache_write=_of(usage, "cache_creation_input_tokens"),
        output=_of(usage, "output_tokens"),
    )


def about(text: str) -> int:
    """Tokens of a text, estimated: one for every four bytes. A tokenizer knows better, for its own models.

    >>> about("Hello, world")
    3
    """
    return -(-len(text.encode()) // 4)


class Call(ABC):
    """One streamed call: the `body` to send to `path`, and what is known of its answer so far.

    `tokens` is the last that was reported, `is_final` whether nothing comes after it; `error` what the API says went wrong.
    Give `input_tokens` if you have counted them, and for a body that refers to what is not in it: an image by its URL, a file, an
    earlier response. Raises ValueError for a body without a highest number of output tokens: nobody knows what it may cost.
    """

    path: str
    _highest: tuple[str, ...]
    """The fields of the body that may say how many output tokens there are at most."""

    def __init__(self, body: Json, *, input_tokens: int | None = None, count: Callable[[str], int] = about) -> None:
        self.body: dict[str, Any] = {**body, "stream": True}
        self.model = str(body["model"])
        self.response_id: str | None = None
        self.tokens = Tokens()
        self.is_final = False
        self.has_begun = False
        self.error: str | None = None
        self._input_tokens = input_tokens
        self._count = count
        self._made: list[str] = []
        self._most_output = next((int(body[each]) for each in self._highest if body.get(each)), 0)
        if not self._most_output:
            raise ValueError(f"{self._highest[0]} must be set: without it nobody knows what a call may cost")

    def at_most(self) -> dict[str, Any]:
        """The event of a call that costs as much as it may. A token is one byte or more, so input has no more than bytes."""
        given = self._input_tokens
        given = len(json.dumps(self.body, ensure_ascii=False).encode()) if given is None else given
        return Tokens(input=given, output=self._most_output).data(self.model, "reserved")

    def used(self) -> dict[str, Any]:
        """The event of what was used so far: as reported, or, while no final report has come, as far as it can be counted."""
        if self.is_final:
            return self._event(self.tokens, "reported")
        tokens = self.tokens
        if tokens == Tokens():
            given = self._input_tokens
            tokens = Tokens(input=self._count(json.dumps(self.body, ensure_ascii=False)) if given is None else given)
        made = self._count("".join(self._made))
        return self._event(replace(tokens, output=max(tokens.output, made)), "counted")

    def read(self, event: Json) -> str:
        """Take one event of the stream; the text in it that is for the reader of the answer."""
        if event.get("type") == "error" or event.get("error"):
            self.error = str((event.get("error") or event).get("message"))
            return ""
        self.has_begun = True
        return self._read(event)

    @abstractmethod
    def _read(self, event: Json) -> str:
        """`read` of an event that is no error."""

    def _make(self, text: str | None) -> str:
        self._made.append(text or "")
        return text or ""

    def _report(self, tokens: Tokens) -> None:
        self.tokens, self.is_final = tokens, True

    def _event(self, tokens: Tokens, usage: str) -> dict[str, Any]:
        return tokens.data(self.model, usage) | ({"response": self.response_id} if self.response_id else {})


class ChatCompletion(Call):
    """`POST /v1/chat/completions`. Usage comes in a last chunk without choices, because the body asks for it."""

    path = "/v1/chat/completions"
    _highest = ("max_completion_tokens", "max_tokens")

    def __init__(self, body: Json, **given: Any) -> None:
        options = {**(body.get("stream_options") or {}), "include_usage": True}
        super().__init__({**body, "stream_options": options}, **given)
        self._most_output *= body.get("n") or 1

    def _read(self, event: Json) -> str:
        self.response_id = event.get("id") or self.response_id
        if event.get("usage"):
            self._report(of_chat(event["usage"]))
        return "".join(self._delta(choice.get("delta") or {}) for choice in event.get("choices") or ())

    def _delta(self, delta: Json) -> str:
        for tool_call in delta.get("tool_calls") or ():
            self._make((tool_call.get("function") or {}).get("arguments"))
        self._make(delta.get("reasoning_content"))  # of servers that show it
        return self._make(delta.get("content")) + self._make(delta.get("refusal"))


class Response(Call):
    """`POST /v1/responses`. Usage is in the last event, which says how the response ended."""

    path = "/v1/responses"
    _highest = ("max_output_tokens",)

    def _read(self, event: Json) -> str:
        kind, response = event.get("type", ""), event.get("response") or {}
        self.response_id = response.get("id") or self.response_id
        if kind in {"response.completed", "response.incomplete", "response.failed"} and response.get("usage"):
            self._report(of_responses(response["usage"]))
        if kind == "response.failed":
            self.error = str((response.get("error") or {}).get("message"))
        if not kind.endswith(".delta") or "audio" in kind:
            return ""
        made = self._make(event.get("delta"))
        return made if kind in {"response.output_text.delta", "response.refusal.delta"} else ""


class Message(Call):
    """`POST /v1/messages`. The input is reported first, the output last; each report is of all so far, not of what came anew."""

    path = "/v1/messages"
    _highest = ("max_tokens",)

    def __init__(self, body: Json, **given: Any) -> None:
        super().__init__(body, **given)
        self._usage: dict[str, Any] = {}

    def _read(self, event: Json) -> str:
        if event["type"] == "message_start":
            self.response_id = event["message"]["id"]
            self._add(event["message"]["usage"])
        elif event["type"] == "message_delta":
            self._add(event["usage"])
            self._report(self.tokens)
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            self._make(delta.get("thinking"))
            self._make(delta.get("partial_json"))
            return self._make(delta.get("text"))
        return ""

    def _add(self, usage: Json) -> None:
        self._usage |= {name: value for name, value in usage.items() if value is not None}
        self.tokens = of_messages(self._usage)


def _of(usage: Json | None, name: str) -> int:
    return (usage or {}).get(name) or 0
