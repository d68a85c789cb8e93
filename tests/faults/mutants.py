"""Does the rig notice? Changes that each break a promise, and the rounds that must fail because of them.

Each mutant is applied to a copy of both programs; a fault rig that stays green on one of them proves nothing.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["MUTANTS", "Mutant", "mutated", "verdict"]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PROGRAMS: Final = ("agent", "control_plane")


@dataclass(frozen=True)
class Mutant:
    """A change of one file, text for text, and the rounds of which at least one must fail within the budget."""

    name: str
    path: str
    old: str
    new: str
    kind: str
    rounds: int
    within_s: float = 120.0
    is_long: bool = False
    """Whether its rounds are left to the soak run."""

    def __str__(self) -> str:
        return self.name


MUTANTS: Final = (
    Mutant(
        "the agent's commits are NORMAL in place of FULL",
        "agent/sidemeter/database.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        "power",
        3,
    ),
    Mutant(
        "the control plane's commits are NORMAL in place of FULL",
        "control_plane/sidemeter_control/store/sqlite.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        "power",
        3,
    ),
    Mutant(
        "the cursor moves in a transaction of its own",
        "control_plane/sidemeter_control/metering/ingest.py",
        """            recorded = await self._record(conn, arrived, now_us, batch)
            await agents.advance(conn, batch, len(arrived.events) + len(arrived.unreadable), now_us)
""",
        """            await agents.advance(conn, batch, len(arrived.events) + len(arrived.unreadable), now_us)
            await conn.commit()
            recorded = await self._record(conn, arrived, now_us, batch)
""",
        "commits",
        1,
    ),
    Mutant(
        "an id is claimed before its event is counted",
        "control_plane/sidemeter_control/metering/ingest.py",
        """        stored = await store(conn, rules, arrived.events, arrived.data, batch=batch, agent_id=agent_id)
""",
        """        from dataclasses import replace
        from sidemeter_control.metering.totals import add_to_totals
        stored = await store(
            conn, replace(rules, readers={}), arrived.events, arrived.data, batch=batch, agent_id=agent_id
        )
        await conn.commit()
        new, data = ([all_of[place] for place in stored.new] for all_of in (arrived.events, arrived.data))
        await add_to_totals(conn, rules.readers, new, now_us, data=data, batch=batch)
""",
        "commits",
        1,
    ),
    Mutant(
        "the agent's acknowledgement comes before its commit",
        "agent/sidemeter/record.py",
        """            duplicates = await self._buffer.append(
""",
        """            for waiter in group.waiters:
                waiter.answer.done() or waiter.answer.set_result(set())
            duplicates = await self._buffer.append(
""",
        "power",
        3,
    ),
    Mutant(
        "rows are deleted before the control plane answered",
        "agent/sidemeter/buffer.py",
        """        def then(_: None) -> None:
            self._stepped()
            self.sealed_seq = batch.last_seq
""",
        """        inner = work

        async def work(conn: aiosqlite.Connection) -> None:
            await inner(conn)
            await conn.execute("DELETE FROM events WHERE seq BETWEEN ? AND ?", (batch.first_seq, batch.last_seq))
            await conn.execute("DELETE FROM batches WHERE last_seq = ?", (batch.last_seq,))
            await kept.put(conn, settled_rows=self._settled + batch.events)

        def then(_: None) -> None:
            self._stepped()
            self.sealed_seq = self._settled_seq = batch.last_seq
            self._add(batch.events, batch.size, unsent=-1)
            self._note()
""",
        "kills",
        3,
    ),
    Mutant(
        "a batch is dropped when the control plane answers 4xx",
        "agent/sidemeter/uplink.py",
        """        if answer.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            return BatchAnswer("REFUSED", message.batch_no, "too large for the control plane")
""",
        """        if 400 <= answer.status < 500:
            return BatchAnswer("OK", message.batch_no + 1)
""",
        "keys",
        1,
    ),
    Mutant(
        "an id is remembered for a while only",
        "control_plane/sidemeter_control/store/events.py",
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (source, id) DO UPDATE SET seq = excluded.seq, received_at_us = excluded.received_at_us"
        " WHERE excluded.received_at_us - received_at_us > 200000",
        "repeats",
        1,
    ),
    Mutant(
        "the cell forgets over a kill what was used of a lease",
        "agent/sidemeter/cell.py",
        "body = _counts.pack(turn, granted, returned, used, reserved, refunded, overrun)",
        "body = _counts.pack(turn, granted, returned, 0, reserved, refunded, overrun)",
        "limits",
        3,
        within_s=400.0,
        is_long=True,
    ),
)


def mutated(mutant: Mutant, directory: Path) -> Path:
    """A copy of both programs in `directory` with the change in it; the old text must be there exactly once."""
    for program in PROGRAMS:
        shutil.copytree(ROOT / program, directory / program, ignore=shutil.ignore_patterns("__pycache__"))
    changed = directory / mutant.path
    text = changed.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.path} holds this {text.count(mutant.old)} times:\n{mutant.old}"
    changed.write_text(text.replace(mutant.old, mutant.new))
    return directory


def verdict(mutant: Mutant, programs: Path) -> dict[str, object]:
    """The report of the mutant's rounds, run on the programs of `programs`."""
    told = programs / "report.json"
    command = [sys.executable, "-m", "tests.faults", "--only", mutant.kind, "--rounds", str(mutant.rounds)]
    path = os.pathsep.join(str(programs / program) for program in PROGRAMS)
    done = subprocess.run(
        [*command, "--lanes", "1", "--stop-at-violation", "--json", str(told)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=mutant.within_s,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    report: dict[str, object] = json.loads(told.read_text())
    return report
