"""GraphiQL at `/graphql` for browsers, whole from the package. The page holds no data: it asks with the key pasted into it."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

__all__ = ["asset", "page", "wanted"]

_FOLDER = Path(__file__).parent / "graphiql"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_ASSETS = {path.name: path for path in _FOLDER.iterdir() if path.suffix in (".css", ".js")}

# GraphiQL sets styles and fonts inline; scripts and requests stay on this server.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src data:; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


def wanted(request: Request) -> bool:
    """Whether a browser asks for the page, rather than a client for an answer."""
    return (
        request.method in ("GET", "HEAD")
        and "query" not in request.query_params
        and "text/html" in request.headers.get("accept", "")
    )


def page() -> Response:
    """The page itself."""
    return _file(_FOLDER / "explorer.html")


async def asset(request: Request) -> Response:
    """`GET /graphql/assets/<name>`: a script or style of the page; any other name is 404."""
    path = _ASSETS.get(request.path_params["name"])
    return _file(path) if path else Response(status_code=404)


def _file(path: Path) -> Response:
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=_HEADERS)
