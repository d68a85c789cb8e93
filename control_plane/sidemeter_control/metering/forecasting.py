"""Forecasting: what a customer's meters are expected to count by an instant, from the hours that are counted now."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from sidemeter_control.metering import usage
from sidemeter_control.metering.forecasts import (
    HISTORY_HOURS,
    MAX_AHEAD_HOURS,
    Outlook,
    Refusal,
    outlook,
    unforeseeable,
    week_hours,
)
from sidemeter_control.metering.meters import Meter, nano_of
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.store import rollups

__all__ = ["outlook_of_slice", "outlooks"]


async def outlooks(
    conn: AsyncConnection,
    meters: Sequence[Meter],
    subjects: Sequence[str],
    time_zone: str,
    *,
    now_us: int,
    until_us: int,
) -> Mapping[str, Outlook | Refusal]:
    """The forecast of each meter for those subjects together, or why it has none, by meter key; one question for all."""
    found: dict[str, Outlook | Refusal] = {}
    foreseen = []
    for meter in meters:
        refusal = Refusal.TOO_FAR if until_us - now_us > MAX_AHEAD_HOURS * HOUR_US else unforeseeable(meter)
        if refusal is None:
            foreseen.append(meter)
        else:
            found[meter.key] = refusal
    if not foreseen:
        return found
    from_us = _began(now_us)
    used = await rollups.by_hour(conn, foreseen, from_us, now_us // HOUR_US * HOUR_US, subjects)
    week = week_hours(from_us, until_us, time_zone)
    return found | {meter.key: outlook(used[meter.id], week, now_us, until_us) for meter in foreseen}


async def outlook_of_slice(
    conn: AsyncConnection,
    meter: Meter,
    subjects: Sequence[str],
    time_zone: str,
    sliced: Sequence[tuple[str, str]],
    *,
    now_us: int,
    until_us: int,
) -> Outlook | Refusal:
    """The same of what a meter counts with those dimensions."""
    refusal = Refusal.TOO_FAR if until_us - now_us > MAX_AHEAD_HOURS * HOUR_US else unforeseeable(meter)
    if refusal is not None:
        return refusal
    from_us = _began(now_us)
    rows = await usage.rows(
        conn,
        meter,
        subjects=dict.fromkeys(subjects, "all"),
        from_us=from_us,
        to_us=now_us // HOUR_US * HOUR_US,
        window="HOUR",
        filters={key: {value} for key, value in sliced},
    )
    used = {row.window_start_us // HOUR_US: nano_of(row.value) for row in rows if row.value}
    return outlook(used, week_hours(from_us, until_us, time_zone), now_us, until_us)


def _began(now_us: int) -> int:
    return (now_us // HOUR_US - HISTORY_HOURS) * HOUR_US
