"""Lookups that ask the database once for all that one request needs of a kind."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import cached_property
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
from sidemeter_control.pricing.register import registered, remembered
from sidemeter_control.pricing.subscriptions import Subscribed
from sidemeter_control.store import corrections, customers, features, losses, meters, plans
from sidemeter_control.store.losses import StoredLossDeclaration

__all__ = ["Loaders"]

K = TypeVar("K")
V = TypeVar("V")

Ask = Callable[[Callable[[AsyncConnection], Coroutine[Any, Any, Any]]], Awaitable[Any]]


class Loaders:
    """One request's lookups by key; None for what does not exist. `at_us` is the request's now.

    Each is made when it is first used: of ten, a request needs two or three.
    """

    def __init__(self, ask: Ask, at_us: int) -> None:
        self._ask, self.at_us = ask, at_us

    @cached_property
    def meter(self) -> DataLoader[str, Meter | None]:
        """Meters by key."""
        return _by_key(self._ask, meters.get)

    @cached_property
    def feature(self) -> DataLoader[str, Feature | None]:
        """Features by key."""
        return _by_key(self._ask, features.get)

    @cached_property
    def customer(self) -> DataLoader[str, Customer | None]:
        """Customers by key."""
        return _by_key(self._ask, registered)

    async def one_customer(self, key: str) -> Customer | None:
        """One customer, at once where it is remembered: it need not wait for others that may be asked for."""
        found: Customer | None = await self._ask(lambda conn: remembered(conn, key))
        return await self.customer.load(key) if found is None else found

    @cached_property
    def owner(self) -> DataLoader[str, str | None]:
        """The customer's key by a subject."""
        return _by_key(self._ask, customers.owners)

    @cached_property
    def change(self) -> DataLoader[str, Meter | None]:
        """What a meter is being changed to, by its key."""
        return _by_key(self._ask, meters.changes)

    @cached_property
    def corrections(self) -> DataLoader[tuple[str, int], Sequence[Correction] | None]:
        """What corrected an event, by where it is stored."""
        return _by_key(self._ask, corrections.of)

    @cached_property
    def losses(self) -> DataLoader[str, Sequence[StoredLossDeclaration] | None]:
        """What agents declared lost, by agent."""
        return _by_key(self._ask, losses.of_agents)

    @cached_property
    def handed_out(self) -> DataLoader[PoolId, HandedOut | None]:
        """What leases hold, by pool."""
        return _by_key(self._ask, handed_out)

    @cached_property
    def subscribed(self) -> DataLoader[Customer, Sequence[Subscribed] | None]:
        """Subscriptions by customer."""
        return _by_key(self._ask, _subscribed)

    @cached_property
    def subscribers(self) -> DataLoader[tuple[str, int], int | None]:
        """How many subscribe now to a version of a plan."""
        return _by_key(self._ask, lambda conn, versions: plans.subscribers(conn, versions, self.at_us))


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
