"""Meter every request of a Starlette or FastAPI service, and answer 429 to a customer at the limit.

    app.add_middleware(MeteringMiddleware, agent=agent, feature="chat")

Each answered request becomes one event `http.request` with its method, route and status. `sample_service.py` is a whole
service around it.
"""

from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidemeter import Agent, Decision

__all__ = ["MeteringMiddleware"]


def customer_header(connection: HTTPConnection) -> str | None:
    """Whose request it is. In a service of yours: whoever the credentials belong to. None: not metered."""
    return connection.headers.get("x-customer")


class MeteringMiddleware:
    """Pure ASGI, so that streams and background tasks pass through untouched.

    `check` costs microseconds and no network call. The event is handed to the agent before the first byte of the answer
    leaves: no customer ever sees an answer that the agent does not know of.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        agent: Agent,
        feature: str,
        subject_of: Callable[[HTTPConnection], str | None] = customer_header,
    ) -> None:
        self.app = app
        self.agent = agent
        self.feature = feature
        self.subject_of = subject_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass the request on and record it when its answer begins."""
        subject = self.subject_of(HTTPConnection(scope)) if scope["type"] == "http" else None
        if subject is None:
            await self.app(scope, receive, send)
            return

        decision = await self.decide(subject)
        if not decision.allowed:
            await refusal(decision)(scope, receive, send)
            return

        async def record_then_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unmatched")
                usage = {"method": scope["method"], "route": route, "status": message["status"]}
                self.agent.record_nowait("http.request", subject, usage)
            await send(message)

        await self.app(scope, receive, record_then_send)

    async def decide(self, subject: str) -> Decision:
        """From memory; only a subject never seen before, or a lease that is used up, waits for the control plane."""
        return await self.agent.ask(subject, self.feature)


def refusal(decision: Decision) -> JSONResponse:
    """RFC 9457: why not, in words and in a stable code."""
    problem = {
        "type": f"urn:sidemeter:problem:{decision.reason}",
        "title": decision.reason.replace("_", " ").capitalize(),
        "status": 429,
        "code": decision.reason,
        "feature": decision.feature,
        "used": None if decision.used is None else str(decision.used),
        "limit": None if decision.limit is None else str(decision.limit),
    }
    return JSONResponse(problem, status_code=429, media_type="application/problem+json")
