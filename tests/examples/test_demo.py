"""The demo, whole and short: it checks its own totals, and its exit code is the verdict."""

import dataclasses
import re
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from processes import ROOT, Program, run

DEMO = "examples/demo.py"
VERDICT = re.compile(r"Each of ([\d,]+) acknowledged events was counted once, 3 bills are right to the cent")
PRINTED = re.compile(r"page +(\S+)\nGraphQL +(\S+)\nkey +(\S+)\nquery +(.+)\n")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo puts its directory, and leaves none; a short path, for the sake of the Unix socket in it."""
    with TemporaryDirectory() as directory:
        yield Path(directory)
        assert list(Path(directory).iterdir()) == []


def test_it_ends_by_itself_with_every_event_counted_and_a_customer_refused(temporary: Path) -> None:
    printed = run(sys.executable, DEMO, SECONDS="8", TRACE="", TMPDIR=str(temporary))
    verdict = VERDICT.search(printed)
    assert verdict, printed
    assert int(verdict[1].replace(",", "")) > 100
    assert " 0 requests were refused" not in printed


def test_a_trace_is_played_to_its_end(tmp_path: Path, temporary: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = (f"2023-11-16 18:17:{n // 10:02}.{n % 10}799600,{n},{2 * n}" for n in range(1, 501))
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    printed = run(sys.executable, DEMO, SECONDS="3", TRACE=str(trace), TMPDIR=str(temporary))
    assert VERDICT.search(printed), printed


async def test_what_it_prints_to_paste_works_and_ctrl_c_ends_it_cleanly(tmp_path: Path, temporary: Path) -> None:
    with Program([DEMO], tmp_path / "demo.log", SECONDS="", TRACE="", TMPDIR=str(temporary)) as demo:
        demo.spawn()
        page, graphql, key, query = (await demo.says(PRINTED)).groups()
        await demo.says(re.compile("events acknowledged"))
        async with httpx.AsyncClient() as http:
            assert (await http.get(page)).status_code == 200
            answer = await http.post(graphql, json={"query": query}, headers={"Authorization": f"Bearer {key}"})
            assert answer.json()["data"]["customer"]["cost"]["total"]["currency"] == "USD"

        assert demo.process
        demo.process.send_signal(signal.SIGINT)
        assert await demo.exit_code() == 0
        assert VERDICT.search(demo.log.read_text())


@pytest.mark.parametrize(
    ("variable", "wrong", "said"),
    [
        ("SECONDS", "soon", "SECONDS must be a whole number, not 'soon'"),
        ("TRACE", "README.md", "README.md is no trace of TIMESTAMP,ContextTokens,GeneratedTokens"),
        ("TRACE", "absent.csv", "absent.csv is no trace of TIMESTAMP,ContextTokens,GeneratedTokens"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_starts(variable: str, wrong: str, said: str, temporary: Path) -> None:
    environ = {"SECONDS": "", "TRACE": "", "TMPDIR": str(temporary)} | {variable: wrong}
    assert run(sys.executable, DEMO, exit_code=1, **environ).startswith(f"FAILED: {said}")


@pytest.mark.parametrize(
    ("figure", "off_by", "fault"),
    [
        ("completions", -1, "acme: completions should be 1, and are 0"),
        ("completions", 1, "acme: completions should be 1, and are 2"),
        ("input_tokens", 1, "acme: input tokens should be 100, and are 101"),
        ("cost", 1, "acme: cost should be 49.00, and are 50.00"),
    ],
)
def test_one_event_missing_or_extra_fails_it(
    figure: str, off_by: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    demo, catalogue, traffic = map(import_module, ("demo", "demo_parts.catalogue", "demo_parts.traffic"))
    books = traffic.Books()
    books.completed("acme", traffic.Call(0.0, "small", 100, 10))
    honest = {
        customer: catalogue.Account(
            requests=0,
            completions=account.completions,
            input_tokens=account.input_tokens,
            output_tokens=dict(account.output_tokens),
            cost=catalogue.expected_cost(customer, account.input_tokens, account.output_tokens.total()),
            currency="USD",
            quota={},
        )
        for customer, account in books.accounts.items()
    }
    demo.check(books, catalogue.Counted(honest, []))

    acme = honest["acme"]
    wrong = honest | {"acme": dataclasses.replace(acme, **{figure: getattr(acme, figure) + off_by})}
    with pytest.raises(demo.DemoFailed, match=fault):
        demo.check(books, catalogue.Counted(wrong, []))
