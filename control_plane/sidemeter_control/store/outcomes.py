"""Outcome rules, and the mentions of things by which uses are settled."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import Meter
from sidemeter_control.metering.outcomes import Mention, OutcomeRule, Thing
from sidemeter_control.store.tables import outcome_rules

__all__ = ["add_mentions", "add_rule", "mentions", "remove_mentions", "rules"]

_MENTIONS = """
SELECT m.subject, m.rule_id, m.thing, m.time_us, m.source, m.id, m.state, m.nano
FROM json_each(?) AS asked CROSS JOIN outcome_mentions AS m
  ON m.subject = json_extract(asked.value, '$[0]') AND m.rule_id = json_extract(asked.value, '$[1]')
 AND m.thing = json_extract(asked.value, '$[2]')
"""
_ADD = """
INSERT INTO outcome_mentions (subject, rule_id, thing, time_us, source, id, state, nano) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_REMOVE = """
DELETE FROM outcome_mentions
WHERE subject = ? AND rule_id = ? AND thing = ? AND time_us = ? AND source = ? AND id = ? AND state = ?
"""


async def rules(conn: AsyncConnection, meters: Mapping[str, Meter]) -> list[OutcomeRule]:
    """The rules of those meters (by key), in the order they were made."""
    found = await conn.execute(
        select(outcome_rules).where(outcome_rules.c.meter_key.in_(list(meters))).order_by(outcome_rules.c.id)
    )
    return [
        OutcomeRule(row.id, meters[row.meter_key], row.confirm_type, row.reverse_type, row.window_us, row.named_by)
        for row in found
    ]


async def add_rule(conn: AsyncConnection, rule: OutcomeRule) -> int:
    """Write a new rule; answers its number."""
    written = await conn.execute(
        insert(outcome_rules).values(
            meter_key=rule.meter.key,
            confirm_type=rule.confirm_type,
            reverse_type=rule.reverse_type,
            window_us=rule.window_us,
            named_by=rule.named_by,
        )
    )
    (number,) = written.inserted_primary_key or (0,)
    return int(number)


async def mentions(conn: AsyncConnection, things: Collection[Thing]) -> dict[Thing, frozenset[Mention]]:
    """Everything that is known about those things; one that is never mentioned has an empty set."""
    found: defaultdict[Thing, set[Mention]] = defaultdict(set)
    asked = msgspec.json.encode(list(things)).decode()
    rows: Any = await conn.exec_driver_sql(_MENTIONS, (asked,)) if things else ()
    for subject, rule_id, name, time_us, source, id_, state, nano in rows:
        found[Thing(subject, rule_id, name)].add(Mention(time_us, source, id_, state, int(nano)))
    return {thing: frozenset(found.get(thing, ())) for thing in things}


async def add_mentions(conn: AsyncConnection, added: Iterable[tuple[Thing, Mention]]) -> None:
    """Keep what events say of things; what is kept already stays."""
    rows = [(*thing, *mention[:4], str(mention.nano)) for thing, mention in added]
    await _many(conn, _ADD, rows)


async def remove_mentions(conn: AsyncConnection, removed: Iterable[tuple[Thing, Mention]]) -> None:
    """Forget what events said of things."""
    await _many(conn, _REMOVE, [(*thing, *mention[:4]) for thing, mention in removed])


async def _many(conn: AsyncConnection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        await conn.exec_driver_sql(statement, list(rows))
