"""Uses are settled by the first outcome within the window, in whatever order and batches events arrive."""

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from fakes import ManualClock
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from planes import open_database

from sidemeter_control.metering.breakdown import Settled, settled_within
from sidemeter_control.metering.catalogue import create_meter, update_meter
from sidemeter_control.metering.correcting import correct_event, void_event
from sidemeter_control.metering.events import Event, parse_data
from sidemeter_control.metering.filling import fill_once
from sidemeter_control.metering.ingest import Ingest
from sidemeter_control.metering.meters import Aggregation, Progress, new_meter
from sidemeter_control.metering.outcomes import Mention, OutcomeRule, settled
from sidemeter_control.metering.rollups import HOUR_US
from sidemeter_control.metering.windows import Interval
from sidemeter_control.store import events as stored_events
from sidemeter_control.store import meters, outcomes, state
from sidemeter_control.store.database import Database

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


@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(sent=events(), made_after=st.integers(0, 4), data=st.data())
async def test_whatever_comes_when_it_is_what_a_look_at_all_events_gives(
    sent: list[Event], made_after: int, data: st.DataObject
) -> None:
    arrived, clock = data.draw(st.permutations(sent)), ManualClock(NOW_US)
    interval = Interval(*sorted(NOW_US - data.draw(st.integers(0, 10 * HOUR_US)) for _ in range(2)))
    now = {event.id: event for event in sent}
    with TemporaryDirectory() as directory:
        async with open_database(Path(directory)) as database:
            made = new_meter("amounts", "resolved", Aggregation.SUM, value_property="amount", now_us=0)
            meter = await create_meter(database, made)
            rule = OutcomeRule(0, meter, "kept", "reopened", WINDOW_US, "case.id")
            ingest = Ingest(database, clock)
            for part in range(4):
                if part == made_after:
                    await keep(database, rule)
                await ingest.record(arrived[part::4])
                for event in data.draw(st.lists(st.sampled_from(arrived[part::4] or sent[:1]), max_size=2)):
                    if event in arrived[: part + 1] or event in arrived[part::4]:
                        await correct(database, event, data.draw(st.sampled_from(["void", "2", "9"])), now)
                if data.draw(st.booleans()):
                    await fill_once(database, clock, most=3)
            while await fill_once(database, clock, most=4):
                pass
            async with database.read() as conn:
                kept = await outcomes.rules(conn, {meter.key: meter})
                found = [await settled_within(conn, each, ["acme", "acme-eu"], interval) for each in (*kept, rule)]
    assert found == [naive(list(now.values()), interval)] * (2 if made_after < 4 else 1)


async def keep(database: Database, rule: OutcomeRule) -> None:
    async with database.write() as conn:
        stored = Progress(0, await stored_events.last_seq(conn))
        await outcomes.add_rule(conn, replace(rule, progress=stored))
        await state.config_changed(conn)


async def correct(database: Database, event: Event, to: str, now: dict[str, Event]) -> None:
    """Void it, or let it be about another amount and case."""
    if to == "void":
        if now.pop(event.id, None) is not None:
            await void_event(database, event.source, event.id, "wrong", by="k", now_us=NOW_US)
        return
    text = json.dumps({"amount": to, "case": {"id": to}})
    await correct_event(database, event.source, event.id, text, "wrong", by="k", now_us=NOW_US)
    now[event.id] = msgspec.structs.replace(event, data=text)


async def test_a_meter_that_counts_something_else_settles_anew(tmp_path: Path) -> None:
    use = Event("use", "s", "resolved", "acme", NOW_US - HOUR_US, '{"amount": 3, "other": 5, "case": {"id": 1}}')
    undo = Event("undo", "s", "reopened", "acme", NOW_US, '{"case": {"id": 1}}')
    clock = ManualClock(NOW_US)
    async with open_database(tmp_path) as database:
        made = new_meter("amounts", "resolved", Aggregation.SUM, value_property="amount", now_us=0)
        await keep(
            database, OutcomeRule(0, await create_meter(database, made), "kept", "reopened", WINDOW_US, "case.id")
        )
        await Ingest(database, clock).record([use, undo])
        await update_meter(database, replace(made, value_property="other"))
        while await fill_once(database, clock):
            pass
        async with database.read() as conn:
            known = await meters.get(conn, ["amounts"])
            (rule,) = await outcomes.rules(conn, known)
            found = await settled_within(conn, rule, ["acme"], Interval(NOW_US - 2 * HOUR_US, NOW_US + HOUR_US))
            left = (await conn.exec_driver_sql("SELECT count(*) FROM outcome_mentions")).scalar()
    assert (found, left) == (Settled(Decimal(0), Decimal(5)), 2)
