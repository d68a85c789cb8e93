"""Customers in the register: whose subjects are whose, and what an upsert leaves behind."""

import pytest
from fakes import ManualClock

from sidemeter_control.errors import Conflict, InvalidInput
from sidemeter_control.pricing.catalogue import publish_plan, subscribe
from sidemeter_control.pricing.customers import MAX_METADATA_BYTES, MAX_SUBJECTS, Customer, new_customer
from sidemeter_control.pricing.plans import PlanSpec
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.pricing.subscriptions import SubscribeSpec
from sidemeter_control.store import customers, state
from sidemeter_control.store.database import Database


async def names(database: Database, search: str | None = None, after: str = "", limit: int = 10) -> list[str]:
    async with database.read() as conn:
        return [each.key for each in await customers.page(conn, limit, after=after, search=search)]


async def test_a_customer_without_subjects_has_its_key() -> None:
    assert new_customer("acme", now_us=0).subjects == ("acme",)


async def test_an_upsert_leaves_what_it_says_and_keeps_the_day_of_creation(database: Database) -> None:
    first = new_customer("acme", name="Acme", currency="EUR", subjects=["b", "a", "b"], metadata="{}", now_us=1)
    assert await upsert_customer(database, first) == Customer("acme", "Acme", "EUR", "UTC", ("a", "b"), "{}", 1)
    again = new_customer("acme", time_zone="Europe/Berlin", subjects=["c"], now_us=2)
    assert await upsert_customer(database, again) == Customer("acme", None, None, "Europe/Berlin", ("c",), None, 1)


async def test_a_subject_is_one_customers_at_most(database: Database) -> None:
    await upsert_customer(database, new_customer("acme", subjects=["shared"], now_us=0))
    with pytest.raises(Conflict, match="subject 'shared' belongs to customer 'acme'"):
        await upsert_customer(database, new_customer("globex", subjects=["shared"], now_us=0))
    assert await names(database) == ["acme"]


async def test_a_subject_that_was_let_go_can_be_taken(database: Database) -> None:
    await upsert_customer(database, new_customer("acme", subjects=["moving"], now_us=0))
    await upsert_customer(database, new_customer("acme", now_us=0))
    await upsert_customer(database, new_customer("globex", subjects=["moving"], now_us=0))
    async with database.read() as conn:
        assert await customers.owners(conn, ["moving", "acme", "nobody"]) == {"moving": "globex", "acme": "acme"}


async def test_a_subscriber_cannot_change_the_currency(database: Database) -> None:
    await upsert_customer(database, new_customer("acme", currency="EUR", now_us=0))
    await publish_plan(database, ManualClock(), PlanSpec(key="pro", currency="EUR", charges=()))
    await subscribe(database, ManualClock(), SubscribeSpec(customer="acme", plan="pro"))
    with pytest.raises(Conflict, match="which is in EUR"):
        await upsert_customer(database, new_customer("acme", currency="USD", now_us=0))


async def test_every_change_is_a_new_version_of_the_configuration(database: Database) -> None:
    async with database.read() as conn:
        before = (await state.get(conn)).config_version
    await upsert_customer(database, new_customer("acme", now_us=0))
    async with database.read() as conn:
        assert (await state.get(conn)).config_version == before + 1


@pytest.mark.parametrize(
    ("search", "found"),
    [("ACME", ["acme", "zeta"]), ("zet", ["zeta"]), ("%", ["100%"]), ("_", []), ("", ["100%", "acme", "zeta"])],
)
async def test_search_finds_a_part_of_key_or_name_in_any_case(
    database: Database, search: str, found: list[str]
) -> None:
    await upsert_customer(database, new_customer("acme", now_us=0))
    await upsert_customer(database, new_customer("zeta", name="Formerly Acme", now_us=0))
    await upsert_customer(database, new_customer("100%", now_us=0))
    assert await names(database, search) == found


async def test_a_page_begins_after_a_key(database: Database) -> None:
    for key in "abc":
        await upsert_customer(database, new_customer(key, now_us=0))
    assert await names(database, after="a", limit=1) == ["b"]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("key", {"key": ""}),
        ("key", {"key": "x" * 257}),
        ("key", {"key": " padded"}),
        ("name", {"name": ""}),
        ("currency", {"currency": "EURO"}),
        ("currency", {"currency": "eur"}),
        ("timeZone", {"time_zone": "Berlin"}),
        ("timeZone", {"time_zone": "../../etc/passwd"}),
        ("timeZone", {"time_zone": ""}),
        ("subjects", {"subjects": [str(n) for n in range(MAX_SUBJECTS + 1)]}),
        ("subjects[1]", {"subjects": ["any subject\n", "x" * 257]}),
        ("subjects[0]", {"subjects": ["\0"]}),
        ("metadata", {"metadata": "x" * (MAX_METADATA_BYTES + 1)}),
    ],
)
def test_a_wrong_customer_is_refused_by_field(field: str, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        new_customer(**{"key": "acme", "now_us": 0, **wrong})
    assert refused.value.field == field
