"""The network between agents and the control plane: loses, doubles, delays, cuts, repeats later, and answers nonsense."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sidemeter.errors import Unreachable
from sidemeter.uplink import Answer

from .process import Process
from .world import World

__all__ = ["Network", "Request", "SimLink", "Storm"]

TYPICAL_S: Final = 0.004
MAX_RECORDED: Final = 30


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it travels."""

    path: str
    body: bytes
    headers: Mapping[str, str]


Serve = Callable[[Request, Callable[[Answer | None], None]], None]
"""Takes a request and calls back with the answer; with None when the connection breaks before there is one."""


@dataclass(slots=True)
class Storm:
    """How often what goes wrong on the way does, for each request that it could happen to."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    request_doubled: float = 0.0
    request_late: float = 0.0
    repeated_later: float = 0.0
    error_before: float = 0.0
    error_after: float = 0.0
    garbage: float = 0.0
    anothers_answer: float = 0.0


class Network:
    """Carries requests to `serve`. `cut_there` and `cut_back` name the agents whose requests or answers vanish."""

    def __init__(self, world: World, storm: Storm) -> None:
        self.world = world
        self.storm = storm
        self.serve: Serve = lambda request, reply: reply(None)
        self.cut_there: set[str] = set()
        self.cut_back: set[str] = set()
        self._recorded: list[Request] = []
        self._answers: list[tuple[str, Answer]] = []

    def send(self, name: str, request: Request, reply: Callable[[Answer | None], None]) -> None:
        """Send a request from the agent `name`; `reply` is called at most once, perhaps never."""
        world, storm = self.world, self.storm
        if name in self.cut_there:
            world.fault("request into a partition", name)
            return
        if world.strikes("request lost", storm.request_lost, name, request.path):
            if world.chance(0.5):
                world.later(TYPICAL_S, lambda: reply(None))
            return
        if world.strikes("error before it arrived", storm.error_before, name, request.path):
            world.later(TYPICAL_S, lambda: reply(self._error()))
            return
        self._remember(request)
        self._deliver(request, self._delay_s(name, request), lambda answer: self._back(name, request, answer, reply))
        if world.strikes("request doubled", storm.request_doubled, name, request.path):
            self._deliver(request, self._delay_s(name, request) + world.rng.expovariate(2.0), _nobody)
        if self._recorded and world.strikes("old request repeated", storm.repeated_later, name):
            self._deliver(world.rng.choice(self._recorded), world.rng.uniform(0.0, 30.0), _nobody)

    def _remember(self, request: Request) -> None:
        if len(self._recorded) < MAX_RECORDED:
            self._recorded.append(request)
        elif self.world.chance(0.2):
            self._recorded[int(self.world.rng.random() * MAX_RECORDED)] = request

    def _deliver(self, request: Request, delay_s: float, reply: Callable[[Answer | None], None]) -> None:
        self.world.later(delay_s, lambda: self.serve(request, reply))

    def _delay_s(self, name: str, request: Request) -> float:
        if self.world.strikes("request late", self.storm.request_late, name, request.path):
            return self.world.rng.uniform(0.5, 40.0)  # also later than its sender waits, and than its next attempts
        return self.world.rng.expovariate(1 / TYPICAL_S)

    def _back(self, name: str, request: Request, answer: Answer | None, reply: Callable[[Answer | None], None]) -> None:
        world, storm = self.world, self.storm
        if name in self.cut_back:
            world.fault("answer into a partition", name)
            return
        if world.strikes("answer lost", storm.answer_lost, name, request.path):
            if world.chance(0.5):
                world.later(TYPICAL_S, lambda: reply(None))
            return
        if world.strikes("error after it was served", storm.error_after, name, request.path):
            answer = self._error()
        elif answer is not None and world.strikes("garbage for an answer", storm.garbage, name, request.path):
            answer = self._garbage(answer)
        elif answer is not None:
            answer = self._anothers(name, request, answer)
        world.later(world.rng.expovariate(1 / TYPICAL_S), lambda: reply(answer))

    def _anothers(self, name: str, request: Request, answer: Answer) -> Answer:
        """Now and then an answer that was given before, to somebody, for something, as a bad cache or proxy would."""
        if len(self._answers) < MAX_RECORDED:
            self._answers.append((request.path, answer))
        same = [each for path, each in self._answers if path == request.path]
        struck = self.world.strikes("answer to another request", self.storm.anothers_answer, name, request.path)
        return self.world.rng.choice(same) if struck else answer

    def _error(self) -> Answer:
        status = self.world.rng.choice((408, 429, 500, 502, 503, 504, 404, 401, 200))
        retry = self.world.rng.choice(("", "1", "7", "-3", "soon", "1e3"))
        return Answer(status, {"retry-after": retry} if retry else {}, b"<html>Bad Gateway</html>")

    def _garbage(self, answer: Answer) -> Answer:
        rng, body = self.world.rng, answer.body
        match rng.randrange(4):
            case 0:
                body = rng.randbytes(rng.randrange(200))
            case 1:
                body = body[: rng.randrange(len(body) + 1)]
            case 2:
                body = b"\xc1" + body
            case _:
                body = b"\x80"
        return Answer(200, answer.headers, body)


class SimLink:
    """What `Link` is to the agent, on the simulated network."""

    def __init__(self, network: Network, process: Process, name: str, timeout_s: float) -> None:
        self._network = network
        self._process = process
        self._name = name
        self._timeout_s = timeout_s

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and wait for its answer."""
        answered: asyncio.Future[Answer | None] = self._process.create_future()

        def reply(answer: Answer | None) -> None:
            if self._process.alive and not answered.done():
                answered.set_result(answer)

        self._network.send(self._name, Request(path, body or b"", dict(headers or {})), reply)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await answered
        except TimeoutError:
            raise Unreachable("simulated: no answer in time") from None
        if answer is None:
            raise Unreachable("simulated: connection reset")
        return answer

    async def close(self) -> None:
        """Nothing is held open."""


def _nobody(answer: Answer | None) -> None:
    """Whoever sent it does not wait for this answer."""
