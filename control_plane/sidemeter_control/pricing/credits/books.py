"""What customers were given: their grants and resets, read once and remembered with the configuration."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import Meter
from sidemeter_control.pricing.credits.grants import CreditGrant, CreditReset, Denomination
from sidemeter_control.pricing.customers import Customer
from sidemeter_control.store import credits, features, meters, state
from sidemeter_control.store.remembered import Remembered

__all__ = ["Book", "books"]

MAX_CUSTOMERS_REMEMBERED = 5_000


@dataclass(frozen=True, slots=True)
class Book:
    """All of one denomination that one customer was given, the oldest grant first; the meter of its feature."""

    grants: tuple[CreditGrant, ...] = ()
    resets: tuple[CreditReset, ...] = ()
    meter: Meter | None = None


_known: Remembered[str, Mapping[Denomination, Book]] = Remembered(MAX_CUSTOMERS_REMEMBERED)


async def books(conn: AsyncConnection, of: Collection[Customer]) -> Mapping[str, Mapping[Denomination, Book]]:
    """What those customers were given, by customer key; read anew only when the configuration has changed."""
    known = _known.at(await state.get(conn))
    unknown = [each.key for each in of if each.key not in known]
    if unknown:
        found = await _read_books(conn, unknown)
        known |= {key: found.get(key, {}) for key in unknown}
    return {each.key: known[each.key] for each in of}


async def _read_books(conn: AsyncConnection, keys: Sequence[str]) -> Mapping[str, Mapping[Denomination, Book]]:
    grants, resets = await credits.of_customers(conn, keys), await credits.resets_of(conn, keys)
    given = {(each.customer_key, each.denomination) for each in grants}
    given |= {(each.customer_key, each.denomination) for each in resets}
    counted = await _meters(conn, {of.feature for _, of in given if of.feature is not None})
    found: dict[str, dict[Denomination, Book]] = {}
    for key, of in given:
        found.setdefault(key, {})[of] = Book(
            tuple(each for each in grants if (each.customer_key, each.denomination) == (key, of)),
            tuple(each for each in resets if (each.customer_key, each.denomination) == (key, of)),
            counted.get(of.feature or ""),
        )
    return found


async def _meters(conn: AsyncConnection, wanted: Collection[str]) -> Mapping[str, Meter]:
    if not wanted:
        return {}
    named = {key: each.meter_key for key, each in (await features.get(conn, sorted(wanted))).items()}
    found = await meters.get(conn, sorted(key for key in named.values() if key is not None))
    return {feature: found[key] for feature, key in named.items() if key is not None}
