"""A body is read within its bounds, or refused."""

import pytest
from starlette.requests import Request
from starlette.types import Message

from sidemeter_control.api.bodies import read_body
from sidemeter_control.api.problems import Refused

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"10")]}


async def test_a_caller_who_hangs_up_in_the_middle_is_no_failure_of_ours() -> None:
    """Agents die and callers lose patience all day: a trace in the log for each would bury what matters."""
    told: list[Message] = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return told.pop(0)

    with pytest.raises(Refused, match="hung up"):
        await read_body(Request(SCOPE, receive), max_bytes=100, max_decoded_bytes=100)
