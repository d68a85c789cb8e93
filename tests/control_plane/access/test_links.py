"""Portal links: signed, for a while, and nothing else is taken for one."""

import base64
import json

import pytest
from fakes import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.access.keyring import MAX_OVERLAP_S
from sidemeter_control.access.links import MAX_LINK_S, Link, LinkKey, key_id_of, read, signed
from sidemeter_control.access.portal import Portal
from sidemeter_control.errors import InvalidInput, NotFound
from sidemeter_control.pricing.customers import new_customer
from sidemeter_control.pricing.register import upsert_customer
from sidemeter_control.store.database import Database

KEY = LinkKey("lnk_1", "s" * 43, 0)
LINK = Link("link_1", "acme", 5_000_000)


@given(st.text(max_size=20), st.text(min_size=1, max_size=20), st.integers(0, 2**60))
def test_what_is_signed_is_read_as_it_was(link_id: str, customer: str, until_us: int) -> None:
    link = Link(link_id, customer, until_us)
    assert read(signed(link, KEY), KEY) == link


@given(st.data())
def test_a_token_with_another_character_anywhere_is_none(data: st.DataObject) -> None:
    token = signed(LINK, KEY)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("AZaz09-_.=").filter(lambda each: each != token[place]))
    assert read(token[:place] + other + token[place + 1 :], KEY) is None


@given(st.text())
def test_no_other_text_is_a_link(text: str) -> None:
    assert read(text, KEY) is None
    assert read("smp_" + text, KEY) is None
    assert key_id_of(text) is None


def test_another_customer_cannot_be_written_into_a_token() -> None:
    said, _, mac = signed(LINK, KEY).removeprefix("smp_").partition(".")
    told = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    assert told == ["lnk_1", "link_1", "acme", 5_000_000]
    forged = base64.urlsafe_b64encode(json.dumps([*told[:2], "globex", told[3]]).encode()).decode().rstrip("=")
    assert read(f"smp_{forged}.{mac}", KEY) is None
    assert read(signed(LINK, KEY), LinkKey("lnk_1", "t" * 43, 0)) is None
    assert read(signed(LINK, KEY), LinkKey("lnk_2", KEY.secret, 0)) is None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def portal(database: Database, clock: ManualClock) -> Portal:
    acme = new_customer(
        "acme", name=None, currency=None, time_zone="UTC", subjects=(), metadata=None, now_us=clock.now_us()
    )
    await upsert_customer(database, acme)
    return Portal(database, clock)


async def test_a_link_opens_its_customers_pages_until_it_ends(portal: Portal, clock: ManualClock) -> None:
    token = await portal.make("acme", 60)
    clock.advance(59)
    key = await portal.open(token)
    assert key is not None
    assert (key.customer, key.is_link) == ("acme", True)
    clock.advance(1)
    assert await portal.open(token) is None


async def test_links_outlive_the_process_that_made_them(portal: Portal, database: Database, clock: ManualClock) -> None:
    token = await portal.make("acme", 60)
    assert await Portal(database, clock).open(token)


async def test_all_links_end_at_once_or_after_an_overlap(portal: Portal, clock: ManualClock) -> None:
    first = await portal.make("acme", 3600)
    await portal.end_all(60)
    second = await portal.make("acme", 3600)
    assert await portal.open(first)
    clock.advance(60)
    assert await portal.open(first) is None
    assert await portal.open(second)
    await portal.end_all(0)
    assert await portal.open(second) is None
    assert await portal.open(await portal.make("acme", 1))


@pytest.mark.parametrize("lasts_s", [0, MAX_LINK_S + 1])
async def test_a_link_that_would_live_too_long_is_refused(portal: Portal, lasts_s: int) -> None:
    with pytest.raises(InvalidInput, match="expiresInSeconds"):
        await portal.make("acme", lasts_s)
    assert await portal.make("acme", MAX_LINK_S)


async def test_an_overlap_beyond_all_measure_is_refused(portal: Portal) -> None:
    with pytest.raises(InvalidInput, match="overlapSeconds"):
        await portal.end_all(MAX_OVERLAP_S + 1)


async def test_there_is_no_link_to_a_customer_that_there_is_not(portal: Portal) -> None:
    with pytest.raises(NotFound):
        await portal.make("globex", 60)
