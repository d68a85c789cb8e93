"""Uses are settled by the first outcome within the window, in whatever order and batches events arrive."""

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fakes import ManualClock
from hypothesis import given, settings
from hypothesis import strategies as st
from planes import open_database

from sidemeter_control.metering.catalogue import create_meter
from sidemeter_control.metering.events import Event, parse_data
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, new_meter
from sidemeter_control.metering.outcomes import Mention, OutcomeReader, OutcomeRule, settled
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.metering.settling import Settled, settle, settled_within
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store import outcomes

WINDOW_US = 3 * HOUR_US
NOW_US = 1_767_225_600_000_000
TYPES = {"USED": "resolved", "CONFIRMED": "kept", "REVERSED": "reopened"}


def mention(time_us: int, id_: str, state: str, nano: int = 0) -> Mention:
    return Mention(time_us, "s", id_, state, nano)


@pytest.mark.parametrize(
    ("after_us", "state"),
    [(0, "REVERSED"), (WINDOW_US - 1, "REVERSED"), (WINDOW_US, None), (-1, None)],
    ids=["at the same instant", "at the last instant", "when the window is over", "before the use"],
)
def test_an_outcome_counts_within_the_window(after_us: int, state: str | None) -> None:
    found = settled([mention(100, "use", "USED", 1), mention(100 + after_us, "undo", "REVERSED")], WINDOW_US)
    assert [each for _, each in found] == ([] if state is None else [state])


def test_the_first_outcome_counts_and_settles_every_use_before_it() -> None:
    mentions = [
        mention(0, "1", "USED", 5),
        mention(1, "2", "USED", 6),
        mention(2, "3", "CONFIRMED"),
        mention(3, "4", "REVERSED"),
        mention(4, "5", "USED", 7),
    ]
    assert settled(reversed(mentions), WINDOW_US) == [(mentions[0], "CONFIRMED"), (mentions[1], "CONFIRMED")]


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    found = []
    for index in range(draw(st.integers(1, 25))):
        state = draw(st.sampled_from(sorted(TYPES)))
        data: dict[str, object] = {"amount": str(draw(st.integers(-3, 9)))}
        if draw(st.integers(0, 5)):
            data["case"] = {"id": draw(st.sampled_from([1, "2", "x"]))}
        at_us = NOW_US - draw(st.integers(0, 9)) * HOUR_US - draw(st.sampled_from([0, 1, HOUR_US // 2]))
        subject = draw(st.sampled_from(["acme", "acme-eu", "other"]))
        found.append(Event(f"e{index}", "s", TYPES[state], subject, at_us, json.dumps(data)))
    return found


def naive(events: Sequence[Event], interval: Interval) -> Settled:
    """Look for the outcome of each use among all events."""
    totals = dict.fromkeys(("kept", "reopened"), Decimal(0))
    for use in events:
        case = parse_data(use.data).get("case")
        if use.type != "resolved" or use.subject == "other" or case is None:
            continue
        if not interval.from_us <= use.time_us < interval.to_us:
            continue
        later = [
            each
            for each in events
            if each.type in totals
            and each.subject == use.subject
            and str((parse_data(each.data).get("case") or {}).get("id")) == str(case["id"])  # type: ignore[attr-defined]
            and use.time_us <= each.time_us < use.time_us + WINDOW_US
        ]
        if later:
            first = min(later, key=lambda each: (each.time_us, each.source, each.id))
            totals[first.type] += Decimal(str(parse_data(use.data)["amount"]))
    return Settled(totals["kept"], totals["reopened"])


@settings(max_examples=40, deadline=None)
@given(sent=events(), gone=st.sets(st.integers(0, 24)), parts=st.integers(1, 4), data=st.data())
async def test_in_any_order_and_batches_and_after_corrections_it_is_what_a_look_at_all_events_gives(
    sent: list[Event], gone: set[int], parts: int, data: st.DataObject
) -> None:
    arrived = data.draw(st.permutations(sent))
    interval = Interval(*sorted(NOW_US - data.draw(st.integers(0, 10 * HOUR_US)) for _ in range(2)))
    with TemporaryDirectory() as directory:
        async with open_database(Path(directory)) as database:
            made = new_meter("amounts", "resolved", Aggregation.SUM, value_property="amount", now_us=0)
            meter = await create_meter(database, made)
            async with database.write() as conn:
                rule = OutcomeRule(0, meter, "kept", "reopened", WINDOW_US, "case.id")
                await outcomes.add_rule(conn, rule)
                (rule,) = await outcomes.rules(conn, {meter.key: meter})
            reader = OutcomeReader(rule)
            readers = {type_: [reader] for type_ in reader.types}
            ingest = Ingest(database, ManualClock(NOW_US))
            for part in range(parts):
                batch = arrived[part::parts]
                await ingest.record(batch)
                async with database.write() as conn:
                    await settle(conn, readers, [(each, parse_data(each.data)) for each in batch])
            removed = [each for place, each in enumerate(arrived) if place in gone]
            async with database.write() as conn:
                await settle(conn, readers, [], [(each, parse_data(each.data)) for each in removed])
                for each in removed:
                    await conn.exec_driver_sql("DELETE FROM events WHERE id = ?", (each.id,))
            async with database.read() as conn:
                found, looked_up = [
                    await settled_within(conn, each, ["acme", "acme-eu"], interval)
                    for each in (rule, replace(rule, id=0))
                ]
    assert found == looked_up == naive([each for each in sent if each not in removed], interval)
