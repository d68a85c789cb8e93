"""Requests begin one by one as they arrive, and whoever leaves holds nobody up."""

import asyncio
import itertools
from collections.abc import Generator
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from sidemeter_control.api.turns import InTurn

nobody = cast("Any", None)


class Began:
    """An application that answers at once; `numbers` are those of its requests, as they began."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.door = InTurn(self._answer)

    async def _answer(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.numbers.append(scope["number"])

    def request(self, number: int) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.door({"type": "http", "number": number}, nobody, nobody))


class Turn:
    """One turn of the loop, to be awaited."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def test_one_begins_in_each_turn_and_what_comes_meanwhile_is_behind_what_waits() -> None:
    began = Began()
    tasks = [began.request(number) for number in range(5)]
    found = [0]
    for number in range(5, 9):  # as if it were read between two turns
        await Turn()
        found.append(len(began.numbers))
        tasks.append(began.request(number))
    while len(began.numbers) < len(tasks):
        await Turn()
        found.append(len(began.numbers))
    assert began.numbers == list(range(9))
    assert max(after - before for before, after in itertools.pairwise(found)) == 1


async def test_whoever_leaves_while_it_waits_holds_nobody_up() -> None:
    began = Began()
    tasks = [began.request(number) for number in range(4)]
    await Turn()
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert began.numbers == [0, 3]


async def test_a_request_that_is_alone_begins_at_once() -> None:
    began = Began()
    for number in range(3):
        await began.door({"type": "http", "number": number}, nobody, nobody)
        assert began.numbers[-1] == number
        await Turn()
        await Turn()
