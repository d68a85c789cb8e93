"""A real browser for tests: pages of one server in it, whose requests to anywhere else and whose errors fail the test."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Request, Route, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WITHIN_MS = 60_000
# What browsers say of an answer that pages ask for: whether there is a session yet, and of what is not there.
EXPECTED = re.compile("status of 40[14]")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium: install Debian's package chromium"
)


@dataclass
class Visit:
    """One tab, and what it asked for."""

    page: Page
    url: str
    strangers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)

    async def go(self, path: str) -> None:
        """Load an address, and wait until its heading is there."""
        await self.page.goto(self.url + path)
        await self.page.locator("h1").first.wait_for()

    async def see(self, text: str) -> None:
        """Wait until something shows the text."""
        await self.page.get_by_text(text).first.wait_for()

    async def sent(self) -> dict[str, int]:
        """The bytes of each answer as they went over the wire, by path."""
        found = {urlsplit(request.url).path: await request.sizes() for request in self.finished}
        return {path: sizes["responseBodySize"] + sizes["responseHeadersSize"] for path, sizes in found.items()}

    async def overflow(self) -> int:
        """How many pixels of the page are beyond the right edge."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window. None is ever downloaded."""
    assert CHROMIUM, "CI must have Chromium"
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


@asynccontextmanager
async def visit(browser: Browser, url: str, key: str | None = None, **options: Any) -> AsyncIterator[Visit]:
    """A tab of its own, signed in with the key where one is given.

    Leaving it fails the test when it asked another server for anything, or when a script or the policy complained.
    """
    given = {"locale": "en-GB", "color_scheme": "light", "viewport": {"width": 1280, "height": 900}} | options
    context = await browser.new_context(**given)
    context.set_default_timeout(WITHIN_MS)
    tab = Visit(await context.new_page(), url)

    async def watch(route: Route) -> None:
        if urlsplit(route.request.url).netloc != urlsplit(url).netloc:
            tab.strangers.append(route.request.url)
            await route.abort()
        else:
            await route.continue_()

    def keep(request: Request) -> None:
        tab.finished.append(request)

    def strange(address: str) -> None:
        tab.strangers.append(address)

    await context.route("**/*", watch)
    tab.page.on("requestfinished", keep)
    tab.page.on("websocket", lambda opened: urlsplit(opened.url).netloc == urlsplit(url).netloc or strange(opened.url))
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.on("console", lambda said: tab.errors.append(said.text) if said.type == "error" else None)
    if key is not None:
        given = {"data": {"key": key}, "headers": {"Sidemeter-Page": "test"}}
        assert (await context.request.post(f"{url}/session", **given)).ok
    yield tab
    await context.close()
    assert tab.strangers == []
    unexpected = [each for each in tab.errors if not EXPECTED.search(each)]
    assert unexpected == [], unexpected
