"""Leases: the holders there have been, the pools they share, and what each has of them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.limits.leases import ACTIVE_FOR_TURNS, Holding, Others, Standing
from sidemeter_control.limits.recovery import HolderId
from sidemeter_control.limits.units import PoolId, Slice
from sidemeter_control.store import changes, state
from sidemeter_control.store.sql import ANY_OF, Sql
from sidemeter_control.store.tables import agents, lease_holders, lease_pools

__all__ = [
    "Figures",
    "Held",
    "Holder",
    "StoredPool",
    "add_holder",
    "add_outside",
    "current_holders",
    "drop",
    "figures",
    "holder",
    "holdings",
    "holds",
    "in_doubt",
    "newest_period",
    "others",
    "over",
    "own_holdings",
    "pools",
    "pools_of",
    "put_holdings",
    "put_pool",
    "set_standing",
    "supersede",
    "turned",
]

_COUNTS = (
    "granted",
    "returned",
    "used",
    "refunded",
    "overrun",
    "written_off",
    "reserved",
    "want_free",
    "need",
    "turn",
)
_counts = attrgetter(*_COUNTS)
_slice = msgspec.json.Decoder(Slice).decode

# One probe of the key for each; SQLite answers a list of row values by a scan.
_ASKED = """
json_each(?) AS asked CROSS JOIN {} ON {}.customer_key = json_extract(asked.value, '$[0]')
 AND {}.feature_key = json_extract(asked.value, '$[1]') AND {}.period = json_extract(asked.value, '$[2]')
"""
_ASKED_PG = """
json_array_elements(?) AS asked JOIN {} ON {}.customer_key = asked.value ->> 0
 AND {}.feature_key = asked.value ->> 1 AND {}.period = (asked.value ->> 2)::bigint
"""
_ONE_OF = "IN (SELECT value FROM json_each(?))"
_TABLE = re.compile(r"\{\w+ AS (\w)\}")


def _both(statement: str) -> Sql:
    """A statement whose `{table AS alias}` is asked by a JSON array of pools; the greater of two is `max` to SQLite, and
    what is one of a JSON array has other words."""

    def asked(how: str) -> str:
        return _TABLE.sub(lambda table: how.replace("{}", table[0][1:-1], 1).replace("{}", table[1]), statement)

    return Sql(asked(_ASKED), postgres=asked(_ASKED_PG).replace("max(", "greatest(").replace(_ONE_OF, f"= {ANY_OF}"))


_OF_POOL = "p.customer_key, p.feature_key, p.period, p.meter_key, p.slice, p.end_us, p.scale, p.outside, p.turn"
_POOLS = _both(f"""
SELECT {_OF_POOL}
FROM {{lease_pools AS p}}
""")  # noqa: S608 -- names of tables
_HOLDINGS = _both(f"""
SELECT h.customer_key, h.feature_key, h.period, h.agent_id, h.hello_id, l.epoch, l.standing, {", ".join(f"h.{name}" for name in _COUNTS)}
FROM {{lease_holdings AS h}}
JOIN lease_holders AS l ON l.agent_id = h.agent_id AND l.hello_id = h.hello_id
""")  # noqa: S608 -- names of tables and columns
_OWN = _both(f"""
SELECT h.customer_key, h.feature_key, h.period, {", ".join(f"h.{name}" for name in _COUNTS)}
FROM {{lease_holdings AS h}} AND h.agent_id = ? AND h.hello_id = ?
""")  # noqa: S608 -- names of tables and columns
# `leases.others`, by the database: a pool may have a thousand holders, and each of them asks every second. A sum of 64-bit
# numbers may need more: each is two, of the upper and of the lower half.
_OTHERS = _both(f"""
WITH each_one AS (
    SELECT h.customer_key, h.feature_key, h.period, p.turn AS turn_now, h.turn, CASE l.standing WHEN 'CURRENT' THEN 1 ELSE 0 END AS shares,
        max(h.granted - max(h.returned, h.written_off), h.used - h.refunded) AS held,
        h.granted - h.returned - h.used - h.reserved + h.refunded AS free, max(h.want_free, h.need) AS wanted
    FROM {{lease_holdings AS h}}
    JOIN lease_holders AS l ON l.agent_id = h.agent_id AND l.hello_id = h.hello_id
    JOIN lease_pools AS p ON p.customer_key = h.customer_key AND p.feature_key = h.feature_key AND p.period = h.period
    WHERE NOT (h.agent_id = ? AND h.hello_id = ?)
), known AS (
    SELECT customer_key, feature_key, period, turn_now - {ACTIVE_FOR_TURNS} * (sum(shares) + 1) AS since
    FROM each_one GROUP BY customer_key, feature_key, period, turn_now
), shared AS (
    SELECT customer_key, feature_key, period, held, CASE WHEN shares = 1 AND turn > since AND wanted > 0 THEN 1 ELSE 0 END AS active,
        shares * max(free, 0) AS spare, max(wanted - free, 0) AS short, wanted
    FROM each_one JOIN known USING (customer_key, feature_key, period)
)
SELECT customer_key, feature_key, period, sum(active), sum(held >> 32), sum(held & 4294967295),
    sum(spare >> 32), sum(spare & 4294967295),
    sum(active * (short >> 32)), sum(active * (short & 4294967295)),
    sum(active * (wanted >> 32)), sum(active * (wanted & 4294967295))
FROM shared GROUP BY customer_key, feature_key, period
""")  # noqa: S608 -- names of tables and a number
_PUT = _both(f"""
INSERT INTO lease_holdings (customer_key, feature_key, period, agent_id, hello_id, {", ".join(_COUNTS)})
VALUES ({", ".join("?" * (5 + len(_COUNTS)))})
ON CONFLICT (customer_key, feature_key, period, agent_id, hello_id)
DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COUNTS)}
""")  # noqa: S608 -- names of columns
_PUT_POOL = _both("""
INSERT INTO lease_pools (customer_key, feature_key, period, meter_key, slice, end_us, scale, outside, turn)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (customer_key, feature_key, period) DO UPDATE SET
    meter_key = excluded.meter_key, slice = excluded.slice, end_us = excluded.end_us, scale = excluded.scale, outside = excluded.outside, turn = excluded.turn
""")
_ONE = "WHERE customer_key = ? AND feature_key = ? AND period = ?"
_OUTSIDE = Sql(f"UPDATE lease_pools SET outside = outside + ? {_ONE}")  # noqa: S608 -- a part of the statement
_TURNED = Sql(f"UPDATE lease_pools SET turn = turn + 1 {_ONE}")  # noqa: S608 -- the same
_DROP = Sql(f"DELETE FROM lease_pools {_ONE}")  # noqa: S608 -- the same
_DROP_HOLDINGS = Sql(f"DELETE FROM lease_holdings {_ONE}")  # noqa: S608 -- the same
_NOT_HELD = """NOT EXISTS (
    SELECT 1 FROM lease_holdings AS h
    WHERE h.customer_key = p.customer_key AND h.feature_key = p.feature_key AND h.period = p.period AND h.agent_id = ?
)"""
_OF_SUBJECTS = Sql(
    f"""
SELECT s.subject, {_OF_POOL}
FROM json_each(?) AS asked CROSS JOIN customer_subjects AS s ON s.subject = asked.value
CROSS JOIN lease_pools AS p ON p.customer_key = s.customer_key
WHERE {_NOT_HELD}
""",  # noqa: S608 -- names of columns
    postgres=f"""
SELECT s.subject, {_OF_POOL}
FROM customer_subjects AS s JOIN lease_pools AS p ON p.customer_key = s.customer_key
WHERE s.subject = {ANY_OF} AND {_NOT_HELD}
""",  # noqa: S608 -- the same
)
_HOLDS = Sql("SELECT 1 FROM lease_holdings WHERE agent_id = ? AND hello_id = ? LIMIT 1")
# A holder that was not followed by another may still tell what it did with what it has.
_OVER = _both("""
SELECT p.customer_key, p.feature_key, p.period FROM lease_pools AS p
WHERE p.end_us < ? AND NOT EXISTS (
    SELECT 1 FROM lease_holdings AS h JOIN lease_holders AS l ON l.agent_id = h.agent_id AND l.hello_id = h.hello_id
    WHERE h.customer_key = p.customer_key AND h.feature_key = p.feature_key AND h.period = p.period
      AND l.standing = 'CURRENT'
      AND (h.reserved > 0 OR h.granted - max(h.returned, h.written_off) > h.used - h.refunded)
) LIMIT ?
""")
_HOLDERS = "lease_holdings AS h JOIN lease_holders AS l ON l.agent_id = h.agent_id AND l.hello_id = h.hello_id"
_REST = "h.granted - max(h.returned, h.written_off) - (h.used - h.refunded)"
_WITH_REST = _both(f"""
SELECT count(CASE WHEN l.standing = 'CURRENT' THEN 1 END), count(CASE WHEN l.standing <> 'CURRENT' THEN 1 END),
    count(CASE WHEN l.standing <> 'CURRENT' AND NOT (h.agent_id {_ONE_OF}) THEN 1 END)
FROM {_HOLDERS}
WHERE {_REST} > 0
""")  # noqa: S608 -- parts of the statement
_IN_DOUBT = _both(f"""
SELECT p.customer_key, p.feature_key, p.period, p.scale, sum({_REST})
FROM {_HOLDERS} JOIN lease_pools AS p
    ON p.customer_key = h.customer_key AND p.feature_key = h.feature_key AND p.period = h.period
WHERE l.standing <> 'CURRENT' AND {_REST} > 0 AND (p.end_us IS NULL OR p.end_us > ?)
GROUP BY p.customer_key, p.feature_key, p.period LIMIT ?
""")  # noqa: S608 -- the same


@dataclass(frozen=True, slots=True)
class Holder:
    """One epoch of one agent, named by its hello. Its number may be that of another, after a rollback."""

    id: HolderId
    epoch: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class StoredPool:
    """A limit in one period: see `leases.Pool`. `end_us` None: the period never ends. `outside` in units.

    It is of what the meter counts with these values of its dimensions; `slice` empty: of all that it counts.
    """

    id: PoolId
    meter_key: str
    slice: Slice
    end_us: int | None
    scale: int
    outside: int
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What one holder has of one pool."""

    holder: Holder
    holding: Holding


class Figures(NamedTuple):
    """How much there is of leases: holders by their standing, pools, and holdings with something left to spend.

    `held` are those of holders that may spend it, `in_doubt` of those that are gone, of which `stranded` are those whose
    agent was not heard of lately.
    """

    holders: Mapping[Standing, int]
    pools: int
    held: int
    in_doubt: int
    stranded: int


async def holder(conn: AsyncConnection, id_: HolderId) -> Holder | None:
    """One holder, if this database has heard of it."""
    columns = lease_holders.c
    wanted = select(lease_holders).where(columns.agent_id == id_[0], columns.hello_id == id_[1])
    row = (await conn.execute(wanted)).one_or_none()
    return None if row is None else Holder(id_, row.epoch, Standing(row.standing))


async def add_holder(conn: AsyncConnection, made: Holder) -> None:
    """Write a holder that is new here, and count it."""
    agent_id, hello_id = made.id
    values = {"agent_id": agent_id, "hello_id": hello_id, "epoch": made.epoch, "standing": made.standing.value}
    await conn.execute(insert(lease_holders).values(values))
    await state.holder_joined(conn)


async def set_standing(conn: AsyncConnection, id_: HolderId, standing: Standing) -> None:
    """Write what became of a holder."""
    await conn.execute(
        update(lease_holders)
        .where(lease_holders.c.agent_id == id_[0], lease_holders.c.hello_id == id_[1])
        .values(standing=standing.value)
    )


async def supersede(conn: AsyncConnection, agent_id: str) -> None:
    """Say that another hello follows: whoever spoke for the agent so far may only return."""
    await conn.execute(
        update(lease_holders)
        .where(lease_holders.c.agent_id == agent_id, lease_holders.c.standing == Standing.CURRENT.value)
        .values(standing=Standing.SUPERSEDED.value)
    )


async def current_holders(conn: AsyncConnection) -> list[HolderId]:
    """Every holder that was not followed by another."""
    found = await conn.execute(
        select(lease_holders.c.agent_id, lease_holders.c.hello_id).where(
            lease_holders.c.standing == Standing.CURRENT.value
        )
    )
    return [(row.agent_id, row.hello_id) for row in found]


async def holds(conn: AsyncConnection, id_: HolderId) -> bool:
    """Whether that holder has a part of any pool."""
    return bool(await _rows(conn, _HOLDS, *id_))


async def newest_period(conn: AsyncConnection) -> int | None:
    """The latest period that there is a pool of."""
    found: int | None = await conn.scalar(select(func.max(lease_pools.c.period)))
    return found


async def pools(conn: AsyncConnection, ids: Iterable[PoolId]) -> dict[PoolId, StoredPool]:
    """Those of these pools that there are."""
    found = (_pool(*row) for row in await _rows(conn, _POOLS, _json(ids)))
    return {pool.id: pool for pool in found}


async def pools_of(
    conn: AsyncConnection, subjects: Collection[str], agent_id: str | None
) -> dict[str, list[StoredPool]]:
    """The pools that usage of these subjects may count toward, by subject.

    `agent_id`: not those that this agent has a part of.
    """
    found: dict[str, list[StoredPool]] = {}
    for subject, *pool in await _rows(conn, _OF_SUBJECTS, _json(subjects), agent_id):
        found.setdefault(subject, []).append(_pool(*pool))
    return found


async def put_pool(conn: AsyncConnection, pool: StoredPool) -> None:
    """Write a pool, new or in place of what was there."""
    counts = pool.meter_key, msgspec.json.encode(pool.slice).decode()
    await conn.exec_driver_sql(
        _PUT_POOL.of(conn), (*pool.id, *counts, pool.end_us, pool.scale, pool.outside, pool.turn)
    )


async def add_outside(conn: AsyncConnection, units: Mapping[PoolId, int]) -> None:
    """Add usage that no holder speaks for."""
    if units:
        await conn.exec_driver_sql(_OUTSIDE.of(conn), [(more, *id_) for id_, more in units.items()])


async def turned(conn: AsyncConnection, ids: Collection[PoolId]) -> None:
    """Count a sync that asked for each of these pools."""
    if ids:
        await conn.exec_driver_sql(_TURNED.of(conn), list(ids))


async def holdings(conn: AsyncConnection, ids: Iterable[PoolId]) -> dict[PoolId, list[Held]]:
    """What every holder has of these pools; one that nobody has anything of is absent."""
    found: dict[PoolId, list[Held]] = {}
    for customer, feature, period, agent_id, hello_id, epoch, standing, *counts in await _rows(
        conn, _HOLDINGS, _json(ids)
    ):
        whose = Holder((agent_id, hello_id), epoch, Standing(standing))
        found.setdefault((customer, feature, period), []).append(Held(whose, Holding(*counts)))
    return found


async def own_holdings(conn: AsyncConnection, id_: HolderId, ids: Iterable[PoolId]) -> dict[PoolId, Holding]:
    """What one holder has of these pools; one that it has nothing of is absent."""
    found = await _rows(conn, _OWN, _json(ids), *id_)
    return {(customer, feature, period): Holding(*counts) for customer, feature, period, *counts in found}


async def others(conn: AsyncConnection, id_: HolderId, ids: Iterable[PoolId]) -> dict[PoolId, Others]:
    """The summary of all holders but one of these pools, as `leases.others` says; one without any is absent."""
    found = {}
    for customer, feature, period, active, *halves in await _rows(conn, _OTHERS, _json(ids), *id_):
        held, spare, short, wanted = (
            (int(high) << 32) + int(low) for high, low in zip(halves[::2], halves[1::2], strict=True)
        )
        found[customer, feature, period] = Others(held, active, spare, short, wanted)
    return found


async def put_holdings(conn: AsyncConnection, id_: HolderId, changed: Mapping[PoolId, Holding]) -> None:
    """Write what a holder has of these pools."""
    if changed:
        changes.note(conn, customers={customer for customer, _, _ in changed})
        await conn.exec_driver_sql(
            _PUT.of(conn), [(*pool, *id_, *_counts(holding)) for pool, holding in changed.items()]
        )


async def over(conn: AsyncConnection, before_us: int, limit: int) -> list[PoolId]:
    """At most `limit` pools of periods that ended before then, and that no holder has anything left of."""
    return [(row[0], row[1], row[2]) for row in await _rows(conn, _OVER, before_us, limit)]


async def drop(conn: AsyncConnection, ids: Sequence[PoolId]) -> None:
    """Forget pools, and what anybody had of them."""
    if ids:
        await conn.exec_driver_sql(_DROP_HOLDINGS.of(conn), list(ids))
        await conn.exec_driver_sql(_DROP.of(conn), list(ids))


async def in_doubt(conn: AsyncConnection, now_us: int, limit: int) -> list[tuple[PoolId, int, int]]:
    """At most `limit` pools of periods that are not over, with their scale, and the units left with holders that are gone."""
    return [((row[0], row[1], row[2]), row[3], int(row[4])) for row in await _rows(conn, _IN_DOUBT, now_us, limit)]


async def figures(conn: AsyncConnection, heard_since_us: int) -> Figures:
    """How much there is, counted now. An agent that was not heard of since then leaves stranded what it had."""
    heard = await conn.execute(select(agents.c.agent_id).where(agents.c.last_seen_us >= heard_since_us))
    found = await conn.execute(select(lease_holders.c.standing, func.count()).group_by(lease_holders.c.standing))
    holders = dict.fromkeys(Standing, 0) | {Standing(standing): count for standing, count in found}
    pools_ = int(await conn.scalar(select(func.count()).select_from(lease_pools)) or 0)
    ((held, doubtful, stranded),) = await _rows(conn, _WITH_REST, _json(heard.scalars()))
    return Figures(holders, pools_, held, doubtful, stranded)


async def _rows(conn: AsyncConnection, statement: Sql, *parameters: object) -> Sequence[Sequence[Any]]:
    return list(await conn.exec_driver_sql(statement.of(conn), parameters))


def _pool(customer: str, name: str, period: int, meter_key: str, sliced: str, *rest: Any) -> StoredPool:
    return StoredPool((customer, name, period), meter_key, _slice(sliced), *rest)


def _json(values: Iterable[Any]) -> str:
    return msgspec.json.encode(list(values)).decode()
