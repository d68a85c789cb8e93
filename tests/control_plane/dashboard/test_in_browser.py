"""The pages in a real browser, on a real control plane: what they show, how they move, and who can use them."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import showcase
from axe_playwright_python.base import AXE_SCRIPT
from browsers import WITHIN_MS, Visit, chromium, needs_chromium, visit
from playwright.async_api import Browser, expect
from processes import ADMIN_KEY, ControlPlane, control_plane

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="module")]

expect.set_options(timeout=WITHIN_MS)
MOST_BYTES = 250_000
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OF_COLOUR = ["color-contrast", "link-in-text-block"]  # what another theme may break

PAGES = {
    "/": "Donaudampfschiff",
    "/customers": "Globex Corporation",
    "/customers/acme": "Where it is going",
    "/meters": "the sum of",
    "/meters/tokens": "of the newest",
    "/meters/+new": "Definition",
    "/plans": "Starter",
    "/plans/pro": "What it comes to at each quantity",
    "/plans/+new": "Add a fee",
    "/events": "completion",
    "/dead-letters": "must be a number",
    "/agents": "No agent has called yet",
    "/webhooks": "What was sent",
    "/audit": "subscribe",
    "/keys": "SIDEMETER_ADMIN_KEY",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path_factory.mktemp("pages")) as running:
        await showcase.stock(running)
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser, plane: ControlPlane) -> AsyncIterator[Visit]:
    """An operator's tab, signed in."""
    async with visit(browser, plane.url, ADMIN_KEY) as opened:
        yield opened


async def violations(tab: Visit, rules: list[str] = RULES) -> list[str]:
    """What axe-core finds, each with the element."""
    if not await tab.page.evaluate("'axe' in window"):
        await tab.page.evaluate(AXE_SCRIPT)
    found = await tab.page.evaluate(
        "runOnly => axe.run(document, { runOnly, resultTypes: ['violations'], selectors: false })", rules
    )
    return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]


async def call(plane: ControlPlane, subject: str, **data: Any) -> None:
    event = {"type": "completion", "subject": subject, "data": {"tokens": 1000, "model": "gpt-large"} | data}
    await showcase.send(plane, [event])


async def test_every_page_shows_what_is_stored_to_everybody_in_both_themes(tab: Visit) -> None:
    found = {}
    for path, text in PAGES.items():
        await tab.go(path)
        await tab.see(text)
        found[path, "light"] = await violations(tab)
        await tab.page.emulate_media(color_scheme="dark")
        found[path, "dark"] = await violations(tab, OF_COLOUR)
        await tab.page.emulate_media(color_scheme="light")
        assert await tab.overflow() <= 0, path
    assert {where: each for where, each in found.items() if each} == {}
    files = {path: size for path, size in (await tab.sent()).items() if path == "/" or path.startswith("/static/")}
    assert len(files) > 30
    assert sum(files.values()) < MOST_BYTES  # of every page together; the first needs half of it


async def test_every_page_fits_a_phone_in_the_language_that_is_longer(browser: Browser, plane: ControlPlane) -> None:
    phone = {"width": 390, "height": 844}
    async with visit(browser, plane.url, ADMIN_KEY, viewport=phone, locale="de-DE") as tab:
        for path in PAGES:
            await tab.go(path)
            await tab.page.locator(".card").first.wait_for()
            await tab.page.wait_for_load_state("networkidle")  # all that it shows is there
            assert await tab.overflow() <= 0, path


async def test_cost_moves_by_itself_when_an_event_comes_in(tab: Visit, plane: ControlPlane) -> None:
    await tab.go("/customers/globex")
    owed = tab.page.locator("dd.value.large")
    before = await owed.text_content()
    await call(plane, "globex", tokens=900_000)
    await expect(owed).not_to_have_text(before or "")
    answer = await plane.ask('{ customer(key: "globex") { cost { total { rounded } } } }')
    await expect(owed).to_have_text(f"€{answer['customer']['cost']['total']['rounded']}")


async def test_the_overview_says_how_much_comes_in_and_what_is_wrong(tab: Visit, plane: ControlPlane) -> None:
    await tab.go("/")
    figures = tab.page.locator("dl.stats .stat")
    rate = figures.filter(has_text="Events per second").locator("dd.value")
    await expect(rate).to_have_text("0")
    while await rate.text_content() == "0":
        await call(plane, "customer-000")
    await expect(rate).to_have_text("0")  # some seconds later
    await expect(figures.filter(has_text="Dead letters")).to_contain_text("could not be counted")
    await expect(figures.filter(has_text="All customers")).to_contain_text("34 customers")


async def test_the_audit_log_is_checked(tab: Visit) -> None:
    await tab.go("/audit")
    await tab.page.get_by_role("button", name="Check the log").click()
    await tab.see("Every entry is as it was written.")


async def test_a_newcomer_finds_what_is_owed_why_and_what_happens_at_the_limit(
    browser: Browser, plane: ControlPlane
) -> None:
    async with visit(browser, plane.url) as tab:
        await tab.go(f"/#key={ADMIN_KEY}")
        await newcomer(tab)
        assert ADMIN_KEY not in tab.page.url


async def newcomer(tab: Visit) -> None:
    await tab.page.get_by_role("link", name="Acme <b>& Sons</b>").first.click()
    figures = tab.page.locator("dl.stats").first
    await expect(figures).to_contain_text("Owes now")
    await expect(figures).to_contain_text("Likely at the end of the period")
    await expect(figures).to_contain_text("At the limit every further use is refused.")
    line = tab.page.get_by_role("button", name="Tokens", exact=True)
    await line.click()
    await tab.see("First 100,000")
    await tab.page.get_by_role("button", name="The events behind it").click()
    await expect(tab.page.get_by_role("group", name="The events behind it")).to_contain_text("gpt-large")


async def link_for(plane: ControlPlane, customer: str) -> str:
    """The path of a customer's own page, with what opens it."""
    asked = "mutation($customer: ID!) { createPortalLink(customer: $customer) }"
    return (await plane.ask(asked, customer=customer))["createPortalLink"]


async def test_a_customer_opens_its_own_page_and_sets_a_budget(browser: Browser, plane: ControlPlane) -> None:
    async with visit(browser, plane.url) as tab:
        await tab.go(await link_for(plane, "acme"))
        await tab.see("You owe now")
        assert tab.page.url == f"{plane.url}/portal/"
        await tab.see("Where it is going")
        assert await violations(tab) == []
        await tab.page.get_by_role("button", name="Set a budget").click()
        dialog = tab.page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("our-own")
        await dialog.get_by_label("At most, in EUR").fill("99.50")
        await dialog.get_by_label("When it is reached").select_option("SOFT")
        where = dialog.get_by_label("Only where")
        await where.fill("opus")
        await expect(dialog.get_by_text("A dimension, a colon and its value: team: a")).to_be_visible()
        await where.fill("model: gpt-large")
        await dialog.get_by_role("button", name="Save").click()
        await tab.see("of €99.50")
        await tab.see("our-own · model: gpt-large")
        await expect(tab.page.get_by_role("button", name="Change the budget our-own")).to_be_visible()
        await expect(tab.page.get_by_role("button", name="Change the budget acme-monthly")).to_have_count(0)
        answer = await plane.ask('{ customer(key: "acme") { budgets { key amount byCustomer slice } } }')
        assert {"key": "our-own", "amount": "99.5", "byCustomer": True, "slice": {"model": "gpt-large"}} in answer[
            "customer"
        ]["budgets"]
        cost = tab.page.locator("dd.value.large")
        before = await cost.text_content()
        await call(plane, "acme", tokens=500_000)
        await expect(cost).not_to_have_text(before or "")
        await tab.page.reload()
        await tab.see("You owe now")
        await tab.page.get_by_role("button", name="Sign out").click()
        await tab.see("This page opens by a link")


async def test_a_customers_page_is_in_its_language_and_fits_a_phone(browser: Browser, plane: ControlPlane) -> None:
    phone = {"width": 390, "height": 844}
    async with visit(browser, plane.url, viewport=phone, color_scheme="dark") as tab:
        await tab.go(await link_for(plane, "donau"))
        await tab.see("Was geschuldet wird, und warum")
        assert await tab.overflow() <= 0
        assert await violations(tab) == []


async def test_a_link_that_is_not_whole_says_what_to_do(browser: Browser, plane: ControlPlane) -> None:
    async with visit(browser, plane.url) as tab:
        await tab.go((await link_for(plane, "acme"))[:-5])
        await tab.see("Ask for a new one where you got it.")
        assert await violations(tab) == []


async def test_an_operator_makes_a_link_for_a_customer(tab: Visit, browser: Browser, plane: ControlPlane) -> None:
    await tab.go("/customers/initech")
    await tab.page.get_by_role("button", name="Link for the customer").click()
    dialog = tab.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Make the link").click()
    link = await dialog.get_by_label("Link", exact=True).text_content()
    async with visit(browser, plane.url) as theirs:
        await theirs.go((link or "").removeprefix(plane.url))
        await expect(theirs.page.get_by_role("heading", level=1)).to_have_text("initech")


async def test_usage_is_drawn_by_any_dimension_and_stands_in_a_table(tab: Visit) -> None:
    await tab.go("/customers/acme")
    await tab.page.get_by_role("button", name="31 days").click()
    await tab.page.get_by_label("Split by").select_option("model")
    chart = tab.page.locator("figure.chart")
    await expect(chart.locator(".key")).to_contain_text("gpt-small")
    await chart.get_by_text("As a table").click()
    assert await chart.locator("tbody tr").count() >= 31


async def test_customers_are_found_ordered_and_paged(tab: Visit) -> None:
    await tab.go("/customers")
    await tab.see("34 customers")
    rows = tab.page.locator("tbody tr")
    await expect(rows).to_have_count(25)
    await tab.page.get_by_role("button", name="Next page").click()
    await expect(rows).to_have_count(9)
    await tab.page.get_by_role("button", name="Customer", exact=True).click()
    await expect(rows.first).to_contain_text("Acme")
    await tab.page.get_by_label("Search by key or name").fill("globe")
    await expect(rows).to_have_count(1)
    assert tab.page.url.endswith("/customers?sort=name&search=globe")


async def test_a_customer_is_added_with_a_plan(tab: Visit, plane: ControlPlane) -> None:
    await tab.go("/customers")
    await tab.page.get_by_role("button", name="Add a customer").click()
    dialog = tab.page.get_by_role("dialog")
    await dialog.get_by_label("Key").fill("umbrella")
    await dialog.get_by_label("Plan").select_option("scale")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text("umbrella")
    answer = await plane.ask('{ customer(key: "umbrella") { subscriptions { plan { key } } } }')
    assert answer["customer"]["subscriptions"] == [{"plan": {"key": "scale"}}]


async def test_a_name_with_a_script_in_it_stays_a_text(tab: Visit, plane: ControlPlane) -> None:
    name = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"
    await plane.make("upsertCustomer", "CustomerInput", key="mallory", name=name)
    await tab.go("/customers/mallory")
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text(name)
    assert await tab.page.locator("main img").count() == await tab.page.locator("main script").count() == 0
    assert await tab.page.evaluate("document.title") != "taken"


async def test_other_plans_are_compared_for_a_customer(tab: Visit) -> None:
    await tab.go("/customers/globex")
    await tab.page.get_by_role("button", name="Compare").click()
    table = tab.page.get_by_role("group", name="What other plans would have cost")
    await expect(table.locator("tbody tr")).to_have_count(2)
    await expect(table).to_contain_text("Scale")


async def test_a_plan_is_drafted_previewed_compared_simulated_and_published(tab: Visit, plane: ControlPlane) -> None:
    await tab.go("/plans/pro")
    publish = tab.page.get_by_role("button", name="Publish …")
    await expect(publish).to_be_disabled()
    await tab.page.locator("summary", has_text="Tokens").first.click()
    await tab.page.get_by_label("Tier 1: Unit price").fill("0.00005")
    await expect(tab.page.locator(".chart .key")).to_contain_text("as published")  # both are drawn
    changes = tab.page.get_by_label("What it would change")
    await expect(changes).to_contain_text("0.00005")
    await tab.page.get_by_role("button", name="this month").click()
    await tab.page.get_by_role("button", name="Simulate").click()
    effect = tab.page.get_by_label("What it would have come to")
    await expect(effect).to_contain_text("Would pay more")
    await publish.click()
    await expect(tab.page.get_by_role("dialog")).to_contain_text("Publish version 2 of Pro?")
    await tab.page.get_by_role("dialog").get_by_role("button", name="Publish").click()
    await expect(tab.page.locator("dl.stats").first).to_contain_text("version 2")
    answer = await plane.ask('{ plan(key: "pro") { version definition } }')
    assert answer["plan"]["version"] == 2
    assert answer["plan"]["definition"]["charges"][1]["tiers"][0]["unitPrice"] == "0.00005"
    await tab.page.get_by_role("button", name="Move them to version 2").click()
    dialog = tab.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("3 subscribers can be moved.")
    await expect(dialog.locator("tbody tr")).to_have_count(3)
    assert await violations(tab) == []
    await dialog.get_by_label("From when on").select_option("NOW")
    await dialog.get_by_role("button", name="Move").click()
    await expect(dialog).to_have_count(0)
    answer = await plane.ask(
        '{ old: plan(key: "pro", version: 1) { subscribers } new: plan(key: "pro") { subscribers } }'
    )
    assert answer == {"old": {"subscribers": 0}, "new": {"subscribers": 3}}


async def test_a_draft_that_is_wrong_says_where(tab: Visit) -> None:
    await tab.go("/plans/starter")
    await tab.page.get_by_label("Days of trial").fill("100000")
    alert = tab.page.get_by_role("alert")
    await expect(alert).to_contain_text("trialDays")
    await expect(alert).to_contain_text("Mend this field")
    await expect(tab.page.get_by_label("Days of trial")).to_have_attribute("aria-invalid", "true")
    await tab.page.get_by_role("button", name="Drop the draft").click()
    await expect(alert).to_have_count(0)
    await tab.page.get_by_role("button", name="Add a price of usage").click()
    model = tab.page.get_by_label("How it is priced").last
    kept = "JSON.parse(sessionStorage['sidemeter-draft-starter']).charges.at(-1)"
    await model.select_option("MATRIX")
    await tab.page.get_by_role("button", name="Add a rate").click()
    await tab.page.get_by_label("Rate 1: model").fill("gpt-large, gpt-small")
    await expect(tab.page.get_by_label("Price of all else")).to_have_attribute("aria-invalid", "true")
    await tab.page.get_by_label("Price of all else").fill("0.01")
    await tab.page.get_by_label("Rate 1: Unit price").fill("-1")
    await expect(tab.page.locator("details .wrong")).to_contain_text("unitPrice")
    await tab.page.get_by_label("Rate 1: Unit price").fill("0.02")
    await expect(alert).to_have_count(0)
    match = {"model": ["gpt-large", "gpt-small"]}
    assert (await tab.page.evaluate(kept))["rates"] == [{"match": match, "unitPrice": "0.02"}]
    assert await violations(tab) == []
    await model.select_option("TIME_OF_DAY")
    await tab.page.get_by_role("button", name="Add a band").click()
    await tab.page.get_by_role("button", name="Sun").click()
    await tab.page.get_by_label("Band 1: To").fill("17:30")
    band = {"from": "08:00", "to": "17:30", "unitPrice": "0", "days": [1, 2, 3, 4, 5, 6]}
    assert (await tab.page.evaluate(kept))["bands"] == [band]
    assert await violations(tab) == []
    await model.select_option("OUTCOME")
    await tab.page.get_by_label("Type of the event that confirms").fill("solved")
    await tab.page.get_by_label("Type of the event that takes it back").fill("reopened")
    outcome = {"confirmType": "solved", "reverseType": "reopened", "windowHours": 72, "property": "id"}
    assert (await tab.page.evaluate(kept))["outcome"] == outcome
    await tab.page.get_by_role("button", name="Add a feature").click()
    await tab.page.get_by_role("dialog").get_by_label("Key").fill("exports")
    await tab.page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    await expect(tab.page.get_by_role("dialog")).to_have_count(0)
    await tab.page.get_by_role("button", name="Allow a feature").click()
    allowed = "JSON.parse(sessionStorage['sidemeter-draft-starter']).entitlements.map(({ feature }) => feature)"
    assert set(await tab.page.evaluate(allowed)) > {"chat", "tokens"}
    await tab.page.get_by_role("button", name="Drop the draft").click()


async def test_a_webhook_is_added_its_secret_replaced_and_a_message_sent_once_more(
    tab: Visit, plane: ControlPlane
) -> None:
    await tab.go("/webhooks")
    await tab.page.get_by_role("button", name="Add a webhook").click()
    dialog = tab.page.get_by_role("dialog")
    await dialog.get_by_label("Address").fill("http://127.0.0.1/")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Mend this field")
    await dialog.get_by_label("Address").fill("https://other.example.invalid/")
    await dialog.get_by_label("a lease is in doubt").uncheck()
    await dialog.get_by_role("button", name="Add", exact=True).click()
    secret = await dialog.get_by_label("Secret").text_content()
    assert (secret or "").startswith("whsec_")
    await dialog.get_by_role("button", name="Close").click()
    hooks = {each["url"]: each["events"] for each in (await plane.ask("{ webhooks { url events } }"))["webhooks"]}
    assert len(hooks["https://other.example.invalid/"]) == 5
    assert hooks["https://hooks.example.invalid/sidemeter"] is None
    await tab.page.get_by_role("button", name="Replace the secret of https://other.example.invalid/").click()
    await dialog.get_by_role("button", name="Replace").click()
    assert await dialog.get_by_label("Secret").text_content() != secret
    await dialog.get_by_role("button", name="Close").click()
    await tab.see("former secret ends")
    await tab.page.get_by_role("button", name="Remove the webhook https://other.example.invalid/").click()
    await dialog.get_by_role("button", name="Remove").click()
    await expect(tab.page.get_by_text("https://other.example.invalid/")).to_have_count(0)
    sent = tab.page.get_by_role("group", name="What was sent").locator("tbody tr")
    await sent.first.get_by_role("button", name="once more").click()
    await expect(tab.page.locator("#said")).to_have_text("It is sent once more.")
    await tab.page.get_by_role("button", name="delivered").click()
    await tab.see("Nothing of that kind")


async def test_a_meter_is_tried_on_stored_events_while_it_is_defined(tab: Visit, plane: ControlPlane) -> None:
    await tab.go("/meters/+new")
    await tab.page.get_by_label("Key").fill("large")
    await tab.page.get_by_label("What is counted of them").select_option("SUM")
    await tab.page.get_by_label("Property in data").fill("model")
    await tab.see("must be a number")
    await tab.page.get_by_label("Property in data").fill("tokens")
    await expect(tab.page.locator("dl.stats")).to_contain_text("of the newest 20 events")
    await tab.page.get_by_role("button", name="Create the meter").click()
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text("Meters")
    assert (await plane.ask('{ meter(key: "large") { aggregation } }'))["meter"] == {"aggregation": "SUM"}


async def test_new_events_appear_and_one_is_voided(tab: Visit, plane: ControlPlane) -> None:
    await tab.go("/events?customer=initech")
    rows = tab.page.locator("tbody > tr:not(.inside)")
    await expect(rows).to_have_count(50)
    await call(plane, "initech", tokens=31_415)
    await expect(rows.first).to_contain_text("31415")
    await rows.first.get_by_role("button").click()
    await tab.page.get_by_role("button", name="Let it count nowhere").click()
    dialog = tab.page.get_by_role("dialog")
    await dialog.get_by_label("Why").fill("sent by mistake")
    await dialog.get_by_role("button", name="Let it count nowhere").click()
    await tab.see("Void: sent by mistake")


async def test_a_dead_letter_is_replayed_and_says_what_is_still_wrong(tab: Visit) -> None:
    await tab.go("/dead-letters")
    await tab.page.get_by_role("button", name="Choose all on this page").click()
    await tab.page.get_by_role("button", name=re.compile("Count . chosen letters? anew")).click()
    await tab.see("still cannot be: ")


async def test_a_key_is_made_shown_once_and_revoked(tab: Visit, plane: ControlPlane) -> None:
    await tab.go("/keys")
    await tab.page.get_by_role("button", name="Create a key").click()
    dialog = tab.page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("reports")
    await dialog.get_by_role("button", name="Create").click()
    secret = await dialog.get_by_label("Secret").text_content()
    assert re.fullmatch(r"smk_\S{40,}", secret or "")
    await dialog.get_by_role("button", name="Close").click()
    assert secret not in await tab.page.content()
    await tab.page.get_by_role("button", name="Replace the secret of reports").click()
    await dialog.get_by_role("button", name="Replace").click()
    assert await dialog.get_by_label("Secret").text_content() != secret
    await dialog.get_by_role("button", name="Close").click()
    await tab.page.get_by_role("button", name="Revoke the key reports").click()
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(tab.page.locator("tr", has_text="reports")).to_contain_text("revoked")


async def test_language_and_theme_are_chosen_and_kept(tab: Visit) -> None:
    await tab.go("/customers/acme")
    await tab.page.get_by_label("Language").select_option("de")
    await tab.see("Was geschuldet wird, und warum")
    await expect(tab.page.locator("dd.value.large")).to_have_text(re.compile(r"^\d+,\d\d\s€$"))
    await tab.page.get_by_label("Farben").select_option("dark")
    assert await tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 14, 16)"
    await tab.page.reload()
    await tab.see("Was geschuldet wird, und warum")
    assert await tab.page.evaluate("[document.documentElement.lang, document.documentElement.dataset.theme]") == [
        "de",
        "dark",
    ]


async def test_keys_alone_are_enough(browser: Browser, plane: ControlPlane) -> None:
    async with visit(browser, plane.url) as tab:
        await tab.go("/customers")
        keyboard = tab.page.keyboard
        await keyboard.press("Tab")
        await expect(tab.page.get_by_label("API key with the READ scope")).to_be_focused()
        await keyboard.type(ADMIN_KEY)
        await keyboard.press("Enter")
        await tab.see("Globex Corporation")
        await expect(tab.page.get_by_role("heading", level=1)).to_be_focused()
        await tab.page.reload()
        await tab.see("Globex Corporation")
        await keyboard.press("Tab")
        await expect(tab.page.get_by_text("Skip to the content")).to_be_focused()
        link = tab.page.get_by_role("link", name="Globex Corporation")
        await link.focus()
        await keyboard.press("Enter")
        await expect(tab.page.get_by_role("heading", name="Globex Corporation")).to_be_focused()
        await expect(tab.page.locator("#said")).to_contain_text("Globex Corporation")
        await tab.page.get_by_role("button", name="Set a budget").focus()
        await keyboard.press("Enter")
        await expect(tab.page.get_by_role("dialog")).to_be_visible()
        await keyboard.press("Escape")
        await expect(tab.page.get_by_role("button", name="Set a budget")).to_be_focused()


async def test_the_explorer_follows_a_subscription(tab: Visit, plane: ControlPlane) -> None:
    await tab.page.goto(f"{plane.url}/graphql")
    await tab.page.get_by_role("tab", name="CostChanged").click()
    await tab.page.get_by_role("button", name="Execute query").click()
    answer = tab.page.get_by_label("Result Window")
    await expect(answer).to_contain_text(re.compile("rounded|Unknown operation"))
    if "Unknown operation" in (
        await answer.text_content() or ""
    ):  # the editor had not read the text of the new tab yet
        await tab.page.get_by_role("button", name="Execute query").click()
    await expect(answer).to_contain_text("rounded")
    before = await answer.text_content()
    await call(plane, "acme", tokens=2_000_000)
    await expect(answer).not_to_have_text(before or "")


async def test_a_wrong_key_is_asked_for_again(browser: Browser, plane: ControlPlane) -> None:
    async with visit(browser, plane.url) as tab:
        await tab.go("/#key=smk_wrong")
        await expect(tab.page.get_by_role("alert")).to_contain_text("Sign in with another one.")
        assert "smk_wrong" not in tab.page.url
        assert await violations(tab) == []


async def test_what_is_not_there_says_where_to_go(tab: Visit) -> None:
    for path, text in (("/customers/nobody", "There is no customer nobody"), ("/plans/none", "There is no plan none")):
        await tab.go(path)
        await tab.see(text)


async def test_figures_are_exact_to_the_last_digit(tab: Visit) -> None:
    await tab.go("/")
    digest = re.search(r"/static/(\w+)/", await tab.page.content())
    assert digest
    await tab.page.evaluate(f"import('/static/{digest[1]}/ground/words.js').then((all) => window.words = all)")
    await tab.page.evaluate(f"import('/static/{digest[1]}/ground/decimal.js').then((all) => window.decimal = all)")
    amount = {"currency": "EUR", "rounded": "12345678901234567890.12", "amount": "0.1"}
    assert await tab.page.evaluate("each => words.money(each)", amount) == "€12,345,678,901,234,567,890.12"
    sums = "texts => decimal.sum(texts)"
    assert await tab.page.evaluate(sums, ["0.1", "0.2", "12345678901234567890.00"]) == "12345678901234567890.30"
    assert await tab.page.evaluate(sums, ["1", "-2.5"]) == "-1.5"
    assert await tab.page.evaluate("[decimal.percent('74.999', '100'), decimal.percent('0', '0')]") == [74, 100]
    assert await tab.page.evaluate("decimal.compare('10', '9.99999999999999999999')") == 1


async def test_an_empty_control_plane_says_what_to_do_first(browser: Browser, tmp_path: Path) -> None:
    async with control_plane(tmp_path) as empty, visit(browser, empty.url, ADMIN_KEY) as tab:
        await tab.go("/")
        await tab.see("First steps")
        await tab.see("No customer yet")
        for path, text in {
            "/customers": "Add the first one",
            "/meters": "Nothing is counted yet",
            "/plans": "No plan yet",
            "/events": "Send the first one:",
            "/dead-letters": "Everything was counted",
            "/agents": "sidemeter agent --control-plane",
        }.items():
            await tab.go(path)
            await tab.see(text)
            assert await violations(tab) == []
