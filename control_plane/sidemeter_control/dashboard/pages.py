"""The pages: `/` for operators, `/portal` for a customer, and their files. They hold no data: they ask GraphQL."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sidemeter_control.dashboard.files import DIGEST, FILES, File

__all__ = ["routes"]

# Each is a view of the one page: its address can be kept, sent and loaded again.
_OPERATORS = (
    "/",
    "/customers",
    "/customers/{key:path}",
    "/meters",
    "/meters/{key:path}",
    "/plans",
    "/plans/{key:path}",
    "/events",
    "/dead-letters",
    "/agents",
    "/webhooks",
    "/audit",
    "/keys",
)
_CUSTOMERS = ("/portal", "/portal/{rest:path}")

_HEADERS = {"Vary": "Accept-Encoding"}
_ASKED_AGAIN = {"Cache-Control": "no-cache"}
# The digest in the address is another one as soon as any file is.
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}


def routes() -> list[BaseRoute]:
    """The pages by their addresses; `GET /static/<digest>/<path>` their files, any other path is 404."""
    return [
        *(Route(path, _operators) for path in _OPERATORS),
        *(Route(path, _customers) for path in _CUSTOMERS),
        Route(f"/static/{DIGEST}/{{path:path}}", _static),
    ]


async def _operators(request: Request) -> Response:
    return _answer(FILES["operator.html"], request, _ASKED_AGAIN)


async def _customers(request: Request) -> Response:
    return _answer(FILES["portal.html"], request, _ASKED_AGAIN)


async def _static(request: Request) -> Response:
    file = FILES.get(request.path_params["path"])
    return _answer(file, request, _KEPT) if file else Response(status_code=404)


def _answer(file: File, request: Request, caching: dict[str, str]) -> Response:
    headers = {"Content-Type": file.media_type, **_HEADERS, **caching}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.content, headers=headers)
