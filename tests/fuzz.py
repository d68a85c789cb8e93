"""Queries and mutations made up from the schema, for a control plane with something in every table: none may fail on our side.

`python -m tests.fuzz` asks for `--minutes` and prints what went wrong, with the question that made it. The same seed makes the
same questions up as long as schema and generator are the same.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import graphql
import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis_graphql import Mode, mutations, nodes, queries

sys.path.append(str(Path(__file__).resolve().parent))  # `processes` and `showcase`, which pytest finds by itself

import showcase
from processes import ControlPlane, control_plane

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Found", "fuzz"]

MIB: Final = 1 << 20
MAX_GROWTH_BYTES: Final = 128 * MIB
"""From when half of the questions are answered: caches are full by then."""

SCHEMA: Final = Path(__file__).parent / "contract" / "schema.graphql"
NAMES: Final = (
    *showcase.CUSTOMERS,
    "tokens",
    "requests",
    "chat",
    "sso",
    "starter",
    "pro",
    "scale",
    "acme-monthly",
    "base",
    "none",
)
NUMBERS: Final = (
    "0",
    "1",
    "0.5",
    "100",
    "-1",
    "1e3",
    "1E-18",
    "999999999999999999",
    "0.000000000000000001",
    "-0",
    "NaN",
    "",
)
INSTANTS: Final = (
    "1970-01-01T00:00:00Z",
    "2000-02-29T23:59:59.999999+14:00",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59",
    "2026-03-29T02:30:00+01:00",
    "2026-11-29",
)
VALUES: Final = ("1", '"x"', "null", "[]", "{}", '{a: [1, {b: "c"}]}', "1.5e400", "true", '{model: "gpt-large"}')


@dataclass(slots=True)
class Found:
    """What came of it: answers by what they say, and what is wrong, by kind, each with the first question that showed it."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @property
    def asked(self) -> int:
        return sum(self.answers.values())

    @property
    def grown_bytes(self) -> int:
        """By how much the process is larger than when half was asked."""
        return self.memory[-1] - self.memory[len(self.memory) // 2] if self.memory else 0


def asked_for(now: datetime) -> st.SearchStrategy[str]:
    """Documents: most fit the schema, some do not, and most names in them are of something there is."""
    days = [now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).isoformat(), now.isoformat()]
    texts = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), st.text(max_size=20))
    numbers = st.one_of(st.sampled_from(NUMBERS), st.decimals(allow_nan=False, allow_infinity=False, places=4).map(str))
    of: dict[str, Any] = {
        "ID": texts.map(nodes.String),
        "String": texts.map(nodes.String),
        "Decimal": numbers.map(nodes.String),
        "DateTime": st.sampled_from([*days, *INSTANTS]).map(nodes.String),
        "JSON": st.sampled_from(VALUES).map(graphql.parse_value),
    }
    schema = SCHEMA.read_text()
    kinds: list[tuple[Callable[..., Any], Mode]] = [(queries, Mode.POSITIVE)] * 3
    kinds += [(mutations, Mode.POSITIVE)] * 3 + [(queries, Mode.NEGATIVE), (mutations, Mode.NEGATIVE)]
    return st.one_of([make(schema, custom_scalars=of, mode=mode) for make, mode in kinds])


def fuzz(plane: ControlPlane, *, seconds: float = 0.0, count: int = 0, first_seed: int = 0, batch: int = 200) -> Found:
    """Ask so many questions, or for so long; one that has no answer within 30 s is wrong, too."""
    found, ends = Found(), time.monotonic() + seconds
    documents = asked_for(datetime.now(UTC))
    with httpx.Client(headers=plane.http.headers, timeout=30) as http:
        turn = 0
        while found.asked < count or time.monotonic() < ends:
            made_up = min(batch, count - found.asked) if count else batch

            @seed(first_seed + turn)
            @settings(
                max_examples=made_up,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(documents)
            def ask(text: str) -> None:
                if seconds and time.monotonic() >= ends:
                    return
                _ask(http, f"{plane.url}/graphql", text, found)

            ask()
            turn += 1
            found.memory.append(_resident_bytes(plane))
    return found


def _ask(http: httpx.Client, url: str, text: str, found: Found) -> None:
    began = time.monotonic()
    try:
        answer = http.post(url, json={"query": text})
        code = _code(answer)
    except (httpx.TransportError, ValueError) as exc:
        code = repr(exc)
    took = time.monotonic() - began
    found.slowest = max(found.slowest, (took, text))
    found.answers[code] += 1
    if code == "INTERNAL" or not code.isupper():
        found.wrong.setdefault(code, text)


def _code(answer: httpx.Response) -> str:
    """DATA, PARTIAL or the code of the first error that is ours or else of the first; of what is none, the status."""
    body = answer.json()
    if answer.status_code != 200:
        return f"{answer.status_code} {body.get('code')}"
    codes = [each["extensions"]["code"] for each in body.get("errors", [])]
    if "INTERNAL" in codes:
        return "INTERNAL"
    return codes[0] if codes else "DATA"


def _resident_bytes(plane: ControlPlane) -> int:
    assert plane.process
    pages = int(Path(f"/proc/{plane.process.pid}/statm").read_text().split()[1])
    return pages * 4096


def internal_errors(log: str) -> dict[str, str]:
    """What the log says of faults, by the last line of each."""
    found = {}
    for line in log.splitlines():
        if '"level": "error"' in line:
            said = json.loads(line)
            trace = said.get("error", said["message"])
            found.setdefault(trace.strip().splitlines()[-1][:160], trace)
    return found


async def _run(minutes: float, first_seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        async with control_plane(Path(directory)) as plane:
            await showcase.stock(plane)
            found = await asyncio.to_thread(fuzz, plane, seconds=minutes * 60, first_seed=first_seed)
            faults = internal_errors(plane.log.read_text())
            alive = await plane.ready()
    print(f"{found.asked} questions, seed {first_seed}: {dict(found.answers.most_common())}")
    print(
        f"memory: {found.memory[0] // MIB} MiB, at the end {found.memory[-1] // MIB} MiB; slowest {found.slowest[0]:.1f} s: {found.slowest[1][:2000]}"
    )
    for kind, text in found.wrong.items():
        print(f"\nWRONG: {kind}\n{text}")
    for kind, trace in faults.items():
        print(f"\nFAULT: {kind}\n{trace}")
    return 0 if alive and not found.wrong and not faults and found.grown_bytes < MAX_GROWTH_BYTES else 1


def main() -> int:
    """Parse, run, print; 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    return asyncio.run(_run(given_.minutes, given_.seed))


if __name__ == "__main__":
    sys.exit(main())
