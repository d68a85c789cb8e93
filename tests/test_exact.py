"""No binary float in the path of quantities and money (P17): the packages are walked, and what is found has a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "agent" / "sidemeter", ROOT / "control_plane" / "sidemeter_control")

SECONDS = "durations and waits in seconds, from a monotonic clock"

ALLOWED = {
    "agent/sidemeter/agent.py": SECONDS,
    "agent/sidemeter/answers.py": SECONDS,
    "agent/sidemeter/api.py": SECONDS,
    "agent/sidemeter/backoff.py": SECONDS,
    "agent/sidemeter/buffer.py": SECONDS,
    "agent/sidemeter/client.py": SECONDS,
    "agent/sidemeter/clock.py": SECONDS,
    "agent/sidemeter/connections.py": SECONDS,
    "agent/sidemeter/enforce.py": SECONDS,
    "agent/sidemeter/errors.py": SECONDS,
    "agent/sidemeter/events.py": "names the type to refuse it: a caller's float is no exact number",
    "agent/sidemeter/formats.py": "names the type to refuse it: a caller's float is no exact number",
    "agent/sidemeter/forward.py": SECONDS,
    "agent/sidemeter/ledger.py": SECONDS,
    "agent/sidemeter/line.py": SECONDS,
    "agent/sidemeter/presence.py": SECONDS,
    "agent/sidemeter/refresh.py": SECONDS,
    "agent/sidemeter/reservation.py": SECONDS,
    "agent/sidemeter/reserve.py": SECONDS,
    "agent/sidemeter/server.py": SECONDS,
    "agent/sidemeter/settings.py": SECONDS,
    "agent/sidemeter/state.py": SECONDS,
    "agent/sidemeter/host.py": SECONDS,
    "agent/sidemeter/cli.py": SECONDS,
    "agent/sidemeter/top.py": "figures and rates for people, from an agent's metrics",
    "agent/sidemeter/tracked.py": SECONDS,
    "agent/sidemeter/uplink.py": SECONDS,
    "control_plane/sidemeter_control/api/agents.py": SECONDS,
    "control_plane/sidemeter_control/app.py": SECONDS,
    "control_plane/sidemeter_control/api/backups.py": SECONDS,
    "control_plane/sidemeter_control/api/live/bounds.py": SECONDS,
    "control_plane/sidemeter_control/api/live/hub.py": SECONDS,
    "control_plane/sidemeter_control/api/meter_types.py": "the contract's `Backfill.fraction`: how far a fill is, for people",
    "control_plane/sidemeter_control/cli.py": "an instant on its way into the text of a message, and a wait in seconds",
    "control_plane/sidemeter_control/clock.py": SECONDS,
    "control_plane/sidemeter_control/api/measured.py": SECONDS,
    "control_plane/sidemeter_control/connections.py": SECONDS,
    "control_plane/sidemeter_control/doctor.py": "figures for people, from a control plane's metrics",
    "control_plane/sidemeter_control/host.py": SECONDS,
    "control_plane/sidemeter_control/top.py": "figures and rates for people, from a control plane's metrics",
    "control_plane/sidemeter_control/metering/formats.py": "names the type to refuse it: MessagePack floats are no exact numbers",
    "control_plane/sidemeter_control/metering/pacing.py": "seconds, and events a second for pacing agents; nothing of it is billed",
    "control_plane/sidemeter_control/store/database.py": SECONDS,
    "control_plane/sidemeter_control/store/connecting.py": SECONDS,
    "control_plane/sidemeter_control/store/postgres.py": SECONDS,
    "control_plane/sidemeter_control/store/sqlite.py": SECONDS,
}
"""Files that may say float, each with the reason; everything else is exact."""

FLOAT_COLUMNS = {"Float", "FLOAT", "REAL", "DOUBLE", "DOUBLE_PRECISION", "Double"}
BILLING = ("control_plane/sidemeter_control/pricing/", "control_plane/sidemeter_control/limits/")
_COMPUTES = (ast.BinOp, ast.AugAssign, ast.Compare, ast.UnaryOp)


def floats(source: str) -> Iterator[int]:
    """The lines of a module that name the type, convert to it, compute with a literal of it or make a column of it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id="float"):
                yield node.lineno
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in FLOAT_COLUMNS:
                yield node.lineno
            case _ if isinstance(node, _COMPUTES):
                yield from (
                    each.lineno
                    for each in ast.iter_child_nodes(node)
                    if isinstance(each, ast.Constant) and isinstance(each.value, float)
                )


def found() -> dict[str, list[int]]:
    modules = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
    lines = {str(path.relative_to(ROOT)): sorted(set(floats(path.read_text()))) for path in modules}
    return {name: where for name, where in lines.items() if where}


@pytest.mark.parametrize(
    "source",
    [
        "x = float('1')",
        "y = 2 * 0.1",
        "z = -0.5",
        "total += 1.5",
        "Column('price', Float)",
        "sa.REAL()",
        "def f(a: float): ...",
    ],
)
def test_a_float_is_found(source: str) -> None:
    assert list(floats(source))


@pytest.mark.parametrize("source", ["x = Decimal('0.1')", "y = 2 * 3", "timeout = 0.5", "name = 'float'"])
def test_what_is_exact_is_not_taken_for_one(source: str) -> None:
    assert not list(floats(source))


def test_no_float_without_a_reason() -> None:
    assert {name: where for name, where in found().items() if name not in ALLOWED} == {}


def test_every_reason_is_still_needed() -> None:
    assert ALLOWED.keys() - found().keys() == set()


def test_nothing_that_prices_or_limits_may_have_a_reason() -> None:
    assert [name for name in ALLOWED if name.startswith(BILLING)] == []
