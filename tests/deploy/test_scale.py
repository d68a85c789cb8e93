"""deploy/scale.md: its list of tables is the one that the tables give, and its model comes to what it says."""

from decimal import Decimal
from math import ceil
from pathlib import Path

import pytest

from sidemeter_control.store.tables import metadata
from sidemeter_control.store.tables.spread import spread_of

PAGE = (Path(__file__).resolve().parents[2] / "deploy" / "scale.md").read_text()


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose head begins with that."""
    lines = PAGE[PAGE.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def where(name: str) -> str:
    on = spread_of(metadata.tables[name])
    return f"by `{on.by}`" if on.by else "everywhere" if on.everywhere else "at home"


def test_every_table_is_listed_where_it_is_with_its_reason() -> None:
    said = {name.strip("`"): (place, why) for name, place, why in rows("table")}
    assert said == {table.name: (where(table.name), spread_of(table).why) for table in metadata.sorted_tables}


@pytest.mark.parametrize("row", rows("e"), ids=lambda row: row[0])
def test_the_bytes_of_the_model_are_what_its_inputs_come_to(row: list[str]) -> None:
    rate, each, month, year, nodes = (Decimal(cell.split()[0].replace(",", "")) for cell in row)
    a_day = rate * 86_400 * each
    assert abs(month - a_day * 30 / 10**9) <= Decimal("0.5")
    assert abs(year - a_day * 365 / 10**12) <= Decimal("0.05")
    assert nodes == ceil(a_day * 365 / 10**12)
