"""The page of threats names tests that there are, and every attack over HTTP is on it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "control_plane" / "THREATS.md").read_text()
ROW = re.compile(r"^\| (?P<who>\w+) \| (?P<what>[^|]+) \| (?P<how>[^|]+) \| `(?P<test>[^`|]+)` \|$", re.MULTILINE)
ACTORS = set(re.findall(r"^\| \*\*(\w+)\*\* \|", PAGE, re.MULTILINE))
ATTACKS = "tests/journeys/test_attacks.py"
OF_THE_RIG = {  # what they show is not an attack, or another form of one that the page has
    "test_files_that_are_no_certificate_are_refused_by_name",
    "test_a_link_reaches_its_customer_alone_and_changes_only_its_own_budgets",
    "test_the_audit_log_is_verified_while_it_is_written",
}


def named_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return {each.name for each in functions if each.name.startswith("test_")}


def test_the_page_has_rows_and_each_of_its_actors_an_attack() -> None:
    rows = list(ROW.finditer(PAGE))
    assert len(rows) == PAGE.count("`tests/") - 1  # one more names this file
    assert {row["who"] for row in rows} == ACTORS


@pytest.mark.parametrize("test", [row["test"] for row in ROW.finditer(PAGE)])
def test_every_attack_names_a_test_that_there_is(test: str) -> None:
    path, _, name = test.partition("::")
    assert (ROOT / path).is_file()
    assert not name or name in named_in(path)


def test_every_attack_over_http_is_on_the_page() -> None:
    named = {row["test"].partition("::")[2] for row in ROW.finditer(PAGE)}
    assert named_in(ATTACKS) - named == OF_THE_RIG
