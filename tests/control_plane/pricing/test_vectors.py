"""Worked examples of well-known billing systems hold, exactly, through the public functions and through GraphQL."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from planes import Plane, plane
from price_vectors import Answer, Ask, Line, OutOfScope, line_amounts, solve

from sidemeter_control.pricing.charges import ChargeSpec
from sidemeter_control.pricing.preview import UsageLineSpec, UsageSpec, preview

VECTORS = Path(os.environ.get("SIDEMETER_SHARED", Path(__file__).parents[4] / "shared")) / "vectors"

OWN = Path(__file__).with_name("own_vectors.jsonl")
"""In the same schema: rules of its README that the sample has no row for."""


def vectors(path: Path) -> list[Any]:
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{path} is not here"), id="absent")]
    return [pytest.param(vector, id=vector["id"]) for vector in map(json.loads, path.read_text().splitlines())]


async def ask_functions(currency: str, charge: Mapping[str, Any], usage: Mapping[str, Any]) -> Answer:
    written = msgspec.convert(usage, type=Written)
    lines = written.lines
    if lines is not None:
        lines = [UsageLineSpec(dimensions=line["dimensions"], quantity=Decimal(line["quantity"])) for line in lines]
    used = UsageSpec(
        quantity=written.quantity,
        events=written.events,
        lines=lines,
        previous_quantity=written.previous_quantity,
        final=written.final,
    )
    price = preview(currency, msgspec.convert(charge, type=ChargeSpec), used)
    return Answer(
        price.total.amount, price.total.rounded, [Line(line.tier, line.match, line.amount) for line in price.lines]
    )


class Written(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A usage as JSON."""

    quantity: Decimal | None = None
    events: list[Decimal] | None = None
    lines: list[Any] | None = None
    previous_quantity: Decimal | None = None
    final: bool = True


QUERY = """query($currency: String!, $charge: ChargeInput!, $usage: UsageInput!) {
  pricePreview(currency: $currency, charge: $charge, usage: $usage) {
    total { amount rounded } lines { tier match amount { amount } } } }"""


def asking_graphql(control: Plane) -> Ask:
    async def ask(currency: str, charge: Mapping[str, Any], usage: Mapping[str, Any]) -> Answer:
        asked = await control.ask(QUERY, currency=currency, charge=charge, usage=usage)
        price = asked["pricePreview"]
        lines = [Line(line["tier"], line["match"], Decimal(line["amount"]["amount"])) for line in price["lines"]]
        return Answer(Decimal(price["total"]["amount"]), Decimal(price["total"]["rounded"]), lines)

    return ask


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(plane(tmp_path_factory.mktemp("control")))


async def check(vector: Mapping[str, Any], ask: Ask) -> None:
    if vector.get("disputed"):
        pytest.skip(f"disputed: {vector['why']}")
    try:
        assert await solve(vector, ask) == Decimal(vector["expected"]["amount"])
    except OutOfScope as reason:
        pytest.skip(str(reason))
    if "lines" in vector["expected"]:
        expected = [Decimal(each["amount"]) for each in vector["expected"]["lines"]]
        assert await line_amounts(vector, ask) == expected


@pytest.mark.parametrize("vector", [*vectors(VECTORS / "pricing.jsonl"), *vectors(OWN)])
async def test_price_through_the_public_functions(vector: Mapping[str, Any]) -> None:
    await check(vector, ask_functions)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("vector", [*vectors(VECTORS / "pricing.jsonl"), *vectors(OWN)])
async def test_price_through_graphql(vector: Mapping[str, Any], control: Plane) -> None:
    await check(vector, asking_graphql(control))
