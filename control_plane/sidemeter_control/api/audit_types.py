"""The audit log, as GraphQL shows it."""

from collections.abc import Sequence
from typing import Self

import msgspec
import strawberry

from sidemeter_control.access.auditing import Check
from sidemeter_control.api.pages import PageInfo, cursor_of
from sidemeter_control.api.scalars import Instant, Json
from sidemeter_control.store import audit

__all__ = ["AuditCheck", "AuditConnection", "AuditEdge", "AuditEntry"]


@strawberry.type
class AuditEntry:
    """One change: who made it, which one by its name in this API, and of what."""

    at: Instant
    actor: str = strawberry.field(
        description='The id of a key, or of a portal link; or "operator": whoever has the machine; or "top-up": a rule that buys credits.'
    )
    actor_name: str | None = strawberry.field(description="The name of the key.")
    action: str
    target: str
    detail: Json
    hash: str | None = strawberry.field(description="Of this entry and all before it, SHA-256 in hexadecimal.")

    @classmethod
    def of(cls, entry: audit.AuditEntry) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            at=Instant(entry.at_us),
            actor=entry.actor,
            actor_name=entry.actor_name,
            action=entry.action,
            target=entry.target,
            detail=Json(msgspec.Raw(entry.detail.encode())),
            hash=None if entry.hash is None else entry.hash.hex(),
        )


@strawberry.type
class AuditEdge:
    """One entry and its place in the log."""

    node: AuditEntry
    cursor: str


@strawberry.type
class AuditConnection:
    """One page of the log."""

    edges: list[AuditEdge]
    page_info: PageInfo

    @classmethod
    def of(cls, found: Sequence[audit.AuditEntry], size: int) -> Self:
        """The page of at most `size`, from `found`, which holds one more entry when there is a next page."""
        edges = [AuditEdge(node=AuditEntry.of(each), cursor=cursor_of(each.seq)) for each in found[:size]]
        end = edges[-1].cursor if edges else None
        return cls(edges=edges, page_info=PageInfo(has_next_page=len(found) > size, end_cursor=end))


@strawberry.type
class AuditCheck:
    """How far the log was found to be as it was written."""

    head: str = strawberry.field(
        description="The number and the hash of the last entry that is. Noted elsewhere, it shows a log that was written anew."
    )
    more: bool = strawberry.field(description="Entries follow: ask again with after.")
    problem: str | None = strawberry.field(description="What is wrong with the entry brokenAt; null when nothing is.")
    broken_at: int | None

    @classmethod
    def of(cls, found: Check) -> Self:
        """The noun in its GraphQL form."""
        broken = found.broken
        return cls(
            head=str(found.head),
            more=found.more,
            problem=None if broken is None else broken.problem,
            broken_at=None if broken is None else broken.seq,
        )
