"""The name of what a request asked for, without the ids, names and secrets that stand in its path."""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["NOWHERE", "route_of"]

NOWHERE: Final = "none"
"""Of a request for what is not there: whoever asks for something new each time makes no new name."""


def route_of(scope: Mapping[str, Any]) -> str:
    """The route that a served request took, by what the router left in its scope.

    >>> route_of({"path": "/v1/customers/acme", "path_params": {"key": "acme"}, "endpoint": print})
    '/v1/customers/{key}'
    >>> route_of({"path": "/wp-login.php"})
    'none'
    """
    if "endpoint" not in scope:
        return NOWHERE
    route: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        if text := str(value):
            route = route.replace(text, f"{{{name}}}")
    return route
