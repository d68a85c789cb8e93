"""Keys, as GraphQL takes and shows them: never a secret, but once."""

from typing import Self

import strawberry

from sidemeter_control.api.context import Info
from sidemeter_control.api.pages import Connection, connection, position
from sidemeter_control.api.scalars import Instant, instant
from sidemeter_control.errors import InvalidInput
from sidemeter_control.store import keys
from sidemeter_control.store.keys import Key, Scope

__all__ = ["ApiKey", "ApiKeyInput", "ApiKeySecret", "keys_page"]

strawberry.enum(Scope)


@strawberry.input
class ApiKeyInput:
    """A key to make. customer or service: the only one that it is for; then it reaches nothing of any other.

    For one customer it may have the scopes READ and WRITE, for one service AGENT, READ and WRITE.
    """

    name: str
    scopes: list[Scope]
    expires_at: Instant | None = None
    customer: strawberry.ID | None = None
    service: str | None = None


@strawberry.type
class ApiKeySecret:
    """A key with its new secret: kept nowhere, never shown again."""

    id: strawberry.ID
    secret: str


@strawberry.type
class ApiKey:
    """A key, without its secret."""

    id: strawberry.ID
    name: str
    prefix: str | None = strawberry.field(
        description="How the secret begins, to know it by. Null for one that was given."
    )
    scopes: list[Scope]
    customer: strawberry.ID | None = strawberry.field(description="The only customer that it is for.")
    service: str | None = strawberry.field(description="The only service that it is for.")
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    last_used_at: Instant | None = strawberry.field(description="To the minute.")
    former_secret_until: Instant | None = strawberry.field(
        description="Until when a secret is taken that was replaced; null when none is."
    )

    @classmethod
    def of(cls, key: Key, former_until_us: int | None) -> Self:
        """The noun in its GraphQL form."""
        return cls(
            id=strawberry.ID(key.id),
            name=key.name,
            prefix=key.prefix,
            scopes=sorted(key.scopes, key=lambda scope: scope.value),
            customer=None if key.customer is None else strawberry.ID(key.customer),
            service=key.service,
            created_at=Instant(key.created_at_us),
            expires_at=instant(key.expires_at_us),
            revoked_at=instant(key.revoked_at_us),
            last_used_at=instant(key.last_used_at_us),
            former_secret_until=instant(former_until_us),
        )


async def keys_page(info: Info, size: int, after: str | None) -> Connection[ApiKey]:
    """A page of all keys, the oldest first."""
    start = None if after is None else _place(position(after))
    now_us = info.context.now_us
    found = await info.context.ask(lambda conn: keys.page(conn, size + 1, start))
    former = await info.context.ask(lambda conn: keys.retiring(conn, [key.id for key in found], now_us))
    return connection(
        found, size, lambda key: ApiKey.of(key, former.get(key.id)), lambda key: f"{key.created_at_us}:{key.id}"
    )


def _place(text: str) -> tuple[int, str]:
    made, colon, key_id = text.partition(":")
    if not colon or not made.isascii() or not made.isdigit() or len(made) > 18:
        raise InvalidInput("after", "must be a cursor from an earlier page")
    return int(made), key_id
