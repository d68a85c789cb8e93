"""Lookups that ask the database once for all that one request needs of a kind."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from sidemeter_control.limits.features import Feature
from sidemeter_control.limits.handed_out import HandedOut, handed_out
from sidemeter_control.limits.units import PoolId
from sidemeter_control.metering.corrections import Correction
from sidemeter_control.metering.meters import Meter
from sidemeter_control.pricing.catalogue import subscribed
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.pricing.register import registered
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.store import corrections, customers, features, losses, meters, plans
from sidemeter_control.store.losses import StoredLossDeclaration

__all__ = ["Loaders"]

K = TypeVar("K")
V = TypeVar("V")

Ask = Callable[[Callable[[AsyncConnection], Coroutine[Any, Any, Any]]], Awaitable[Any]]


class Loaders:
    """One request's lookups by key; None for what does not exist. `at_us` is the request's now."""

    def __init__(self, ask: Ask, at_us: int) -> None:
        self.meter: DataLoader[str, Meter | None] = _by_key(ask, meters.get)
        self.feature: DataLoader[str, Feature | None] = _by_key(ask, features.get)
        self.customer: DataLoader[str, Customer | None] = _by_key(ask, registered)
        self.owner: DataLoader[str, str | None] = _by_key(ask, customers.owners)
        self.change: DataLoader[str, Meter | None] = _by_key(ask, meters.changes)
        self.corrections: DataLoader[tuple[str, int], Sequence[Correction] | None] = _by_key(ask, corrections.of)
        self.losses: DataLoader[str, Sequence[StoredLossDeclaration] | None] = _by_key(ask, losses.of_agents)
        self.handed_out: DataLoader[PoolId, HandedOut | None] = _by_key(ask, handed_out)
        self.subscribed: DataLoader[Customer, Sequence[Subscribed] | None] = _by_key(ask, _subscribed)
        self.subscribers: DataLoader[tuple[str, int], int | None] = _by_key(
            ask, lambda conn, versions: plans.subscribers(conn, versions, at_us)
        )


async def _subscribed(conn: AsyncConnection, of: list[Customer]) -> Mapping[Customer, Sequence[Subscribed]]:
    found = await subscribed(conn, of)
    return {customer: found[customer.key] for customer in of}


def _by_key(
    ask: Ask, question: Callable[[AsyncConnection, list[K]], Coroutine[Any, Any, Mapping[K, V]]]
) -> DataLoader[K, V | None]:
    async def load(keys: list[K]) -> list[V | None]:
        found: Mapping[K, V] = await ask(lambda conn: question(conn, keys))
        return [found.get(key) for key in keys]

    return DataLoader(load_fn=load)
