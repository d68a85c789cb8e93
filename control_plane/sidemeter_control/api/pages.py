"""Long lists, a page at a time: connections with opaque cursors."""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import strawberry

from sidemeter_control.errors import InvalidInput

__all__ = ["Connection", "Edge", "PageInfo", "connection", "cursor_of", "numbers", "position"]

Node = TypeVar("Node")
Noun = TypeVar("Noun")

_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)


@strawberry.type
class PageInfo:
    """Whether there is more after this page, and the cursor to ask for it with."""

    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Edge(Generic[Node]):
    """One element and its place in the list."""

    node: Node
    cursor: str


@strawberry.type
class Connection(Generic[Node]):
    """One page of a list."""

    edges: list[Edge[Node]]
    page_info: PageInfo


def cursor_of(position: str | int) -> str:
    """The opaque cursor of a position in a list.

    >>> position(cursor_of("acme"))
    'acme'
    """
    return base64.urlsafe_b64encode(str(position).encode()).decode()


def position(cursor: str | None) -> str:
    """The position a cursor stands for, "" for none; InvalidInput when no answer ever gave such a cursor."""
    try:
        return base64.b64decode((cursor or "").encode("ascii"), altchars=b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error) as exc:
        raise InvalidInput("after", "must be a cursor from an earlier page") from exc


def numbers(cursor: str | None, count: int) -> tuple[int, ...] | None:
    """The numbers that a position joins with ":", so many of them; None for no cursor.

    >>> numbers(cursor_of("7:-1"), 2)
    (7, -1)
    """
    if cursor is None:
        return None
    parts = position(cursor).split(":")
    if len(parts) != count or not all(map(_NUMBER.fullmatch, parts)):
        raise InvalidInput("after", "must be a cursor from an earlier page")
    return tuple(map(int, parts))


def connection(
    found: Sequence[Noun], size: int, show: Callable[[Noun], Node], place: Callable[[Noun], str | int]
) -> Connection[Node]:
    """The page of at most `size`, from `found`, which holds one more element when there is a next page."""
    edges = [Edge(node=show(each), cursor=cursor_of(place(each))) for each in found[:size]]
    end = edges[-1].cursor if edges else None
    return Connection(edges=edges, page_info=PageInfo(has_next_page=len(found) > size, end_cursor=end))
