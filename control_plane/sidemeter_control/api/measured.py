"""How many requests there were and how long each took, by route: counted around the whole application."""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidemeter_control.clock import Clock
from sidemeter_control.routes import route_of

__all__ = ["BUCKETS_S", "Measured"]

BUCKETS_S: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""From what a small question takes to what somebody gives up on."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNANSWERED: Final = 499
"""The caller hung up first."""


class Measured:
    """Counts and times the requests that `serve` gets to answer, until the last byte of the answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._counts: dict[str, list[int]] = {}
        self._sums_s: dict[str, float] = {}

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, measured."""

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, began_s = _UNANSWERED, self._clock.monotonic_s()

            async def answer(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, answer)
            finally:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._answered[route_of(scope), method, status] += 1
                self._note(route_of(scope), self._clock.monotonic_s() - began_s)

        return measured

    def _note(self, route: str, took_s: float) -> None:
        counts = self._counts.setdefault(route, [0] * (len(BUCKETS_S) + 1))
        counts[bisect_left(BUCKETS_S, took_s)] += 1
        self._sums_s[route] = self._sums_s.get(route, 0) + took_s

    def figures(self) -> list[CounterMetricFamily | HistogramMetricFamily]:
        """What was measured since the start."""
        requests = CounterMetricFamily(
            "sidemeter_http_requests", "HTTP requests, by what was answered.", labels=["route", "method", "status"]
        )
        for (route, method, status), count in sorted(self._answered.items()):
            requests.add_metric([route, method, str(status)], count)
        durations = HistogramMetricFamily(
            "sidemeter_http_request_duration_seconds", "How long answering took.", labels=["route"]
        )
        bounds = [*map(str, BUCKETS_S), "+Inf"]
        for route, counts in sorted(self._counts.items()):
            durations.add_metric([route], list(zip(bounds, accumulate(counts), strict=True)), self._sums_s[route])
        return [requests, durations]
