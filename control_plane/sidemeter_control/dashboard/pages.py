"""The operator's page at `/`, and its files. The page holds no data: it asks GraphQL with the key it is given."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

__all__ = ["routes"]

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_FILES = {path.name: path for path in _STATIC.iterdir() if path.suffix in _MEDIA_TYPES}

_HEADERS = {"Cache-Control": "no-cache"}


def routes() -> list[BaseRoute]:
    """`GET /` is the page, `GET /static/<name>` its script and style; any other name is 404."""
    return [Route("/", _overview), Route("/static/{name}", _static)]


async def _overview(request: Request) -> Response:  # noqa: ARG001 -- the interface of a route
    return _file("overview.html")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    return _file(name) if name in _FILES else Response(status_code=404)


def _file(name: str) -> Response:
    path = _FILES[name]
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=_HEADERS)
