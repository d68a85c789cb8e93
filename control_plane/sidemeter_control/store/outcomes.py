"""Outcome rules, and the mentions of things by which uses are settled."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering.meters import Meter, Progress
from sidemeter_control.metering.outcomes import Mention, OutcomeRule, Thing
from sidemeter_control.store.sql import Sql, keeper, on_postgres, with_nul
from sidemeter_control.store.tables import outcome_rules, retired_rollups

__all__ = [
    "add_mentions",
    "add_rule",
    "drop_mentions",
    "fill_rule",
    "mentions",
    "remove_mentions",
    "renew_rules",
    "rules",
    "unfilled",
]

_RULES = Sql(
    """
SELECT id, meter_key, confirm_type, reverse_type, window_us, named_by, filled_seq, watermark_seq FROM outcome_rules
WHERE meter_key IN (SELECT value FROM json_each(?)) ORDER BY id
""",
    postgres="""
SELECT id, meter_key, confirm_type, reverse_type, window_us, named_by, filled_seq, watermark_seq FROM outcome_rules
WHERE meter_key IN (SELECT json_array_elements_text(?)) ORDER BY id
""",
)
_MENTIONS = Sql(
    """
SELECT m.subject, m.rule_id, m.thing, m.time_us, m.source, m.id, m.state, m.nano
FROM json_each(?) AS asked CROSS JOIN outcome_mentions AS m
  ON m.subject = json_extract(asked.value, '$[0]') AND m.rule_id = json_extract(asked.value, '$[1]')
 AND m.thing = json_extract(asked.value, '$[2]')
""",
    postgres="""
SELECT m.subject, m.rule_id, m.thing, m.time_us, m.source, m.id, m.state, m.nano
FROM json_array_elements(?) AS asked JOIN outcome_mentions AS m
  ON m.subject = asked.value ->> 0 AND m.rule_id = (asked.value ->> 1)::integer AND m.thing = asked.value ->> 2
""",
)
_ADD = Sql("""
INSERT INTO outcome_mentions (subject, rule_id, thing, time_us, source, id, state, nano) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
""")
_REMOVE = Sql("""
DELETE FROM outcome_mentions
WHERE subject = ? AND rule_id = ? AND thing = ? AND time_us = ? AND source = ? AND id = ? AND state = ?
""")


_TERMS = ("confirm_type", "reverse_type", "window_us", "named_by")
_LAST_ID = "SELECT max(id) FROM (SELECT id FROM outcome_rules UNION ALL SELECT -meter_id FROM retired_rollups) AS given"
_SOME = Sql(
    "SELECT subject, rule_id, thing, time_us, source, id, state FROM outcome_mentions WHERE rule_id = ? LIMIT ?"
)


async def rules(conn: AsyncConnection, meters: Mapping[str, Meter]) -> list[OutcomeRule]:
    """The rules of those meters (by key), in the order they were made."""
    asked = msgspec.json.encode(list(meters)).decode()
    found: Any = await conn.exec_driver_sql(_RULES.of(conn), (asked,))
    return [
        OutcomeRule(id_, meters[key], confirms, reverses, window_us, named_by, Progress(filled, watermark))
        for id_, key, confirms, reverses, window_us, named_by, filled, watermark in found.all()
    ]


async def unfilled(conn: AsyncConnection) -> str | None:
    """The key of a meter that has a rule which is not filled."""
    behind = outcome_rules.c.filled_seq < outcome_rules.c.watermark_seq
    return (await conn.execute(select(outcome_rules.c.meter_key).where(behind).limit(1))).scalar()


async def add_rule(conn: AsyncConnection, rule: OutcomeRule) -> None:
    """Write a new rule under a number that no mention has; one that is there stays as it is."""
    number = int((await conn.exec_driver_sql(_LAST_ID)).scalar() or 0) + 1
    made = {"id": number, "meter_key": rule.meter.key} | {name: getattr(rule, name) for name in _TERMS}
    progress = {"filled_seq": rule.progress.filled_seq, "watermark_seq": rule.progress.watermark_seq}
    terms = [outcome_rules.c[name] == made[name] for name in ("meter_key", *_TERMS)]
    if (await conn.execute(select(outcome_rules.c.id).where(*terms))).first() is None:
        await conn.execute(insert(outcome_rules).values(made | progress))


async def fill_rule(conn: AsyncConnection, rule: OutcomeRule) -> None:
    """Write how far a rule is filled."""
    filled = update(outcome_rules).where(outcome_rules.c.id == rule.id)
    await conn.execute(filled.values(filled_seq=rule.progress.filled_seq))


async def renew_rules(conn: AsyncConnection, meter: Meter, watermark_seq: int) -> None:
    """Begin the rules of a meter that counts something else now anew, each under another number."""
    for rule in await rules(conn, {meter.key: meter}):
        await conn.execute(delete(outcome_rules).where(outcome_rules.c.id == rule.id))
        await conn.execute(insert(retired_rollups).values(meter_id=-rule.id))
        await add_rule(conn, replace(rule, progress=Progress(0, watermark_seq)))


async def drop_mentions(conn: AsyncConnection, rule_id: int, most: int) -> int:
    """Delete at most so many mentions of that number; answers how many there were to be deleted."""
    found = (await conn.exec_driver_sql(_SOME.of(conn), (rule_id, most))).all()
    await _many(conn, _REMOVE, [tuple(row) for row in found])
    return len(found)


async def mentions(conn: AsyncConnection, things: Collection[Thing]) -> dict[Thing, frozenset[Mention]]:
    """Everything that is known about those things; one that is never mentioned has an empty set."""
    found: defaultdict[Thing, set[Mention]] = defaultdict(set)
    kept, named = keeper(conn), with_nul if on_postgres(conn) else str
    asked = msgspec.json.encode([(subject, rule_id, kept(name)) for subject, rule_id, name in things]).decode()
    rows: Any = await conn.exec_driver_sql(_MENTIONS.of(conn), (asked,)) if things else ()
    for subject, rule_id, name, time_us, source, id_, state, nano in rows:
        found[Thing(subject, rule_id, named(name))].add(Mention(time_us, source, id_, state, int(nano)))
    return {thing: frozenset(found.get(thing, ())) for thing in things}


async def add_mentions(conn: AsyncConnection, added: Iterable[tuple[Thing, Mention]]) -> None:
    """Keep what events say of things; what is kept already stays."""
    rows = [(*_kept(conn, thing), *mention[:4], str(mention.nano)) for thing, mention in added]
    await _many(conn, _ADD, rows)


async def remove_mentions(conn: AsyncConnection, removed: Iterable[tuple[Thing, Mention]]) -> None:
    """Forget what events said of things."""
    await _many(conn, _REMOVE, [(*_kept(conn, thing), *mention[:4]) for thing, mention in removed])


def _kept(conn: AsyncConnection, thing: Thing) -> tuple[Any, ...]:
    return thing.subject, thing.rule_id, keeper(conn)(thing.name)


async def _many(conn: AsyncConnection, statement: Sql, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        await conn.exec_driver_sql(statement.of(conn), list(rows))
