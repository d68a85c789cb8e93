"""The page at `/`: served whole from the package, and able to run nothing but its own files."""

import re

import httpx
import pytest
from starlette.applications import Starlette

from sidemeter_control.api.headers import Headers
from sidemeter_control.dashboard.pages import routes


@pytest.fixture
async def browser():
    transport = httpx.ASGITransport(Headers(Starlette(routes=routes()), tls=False))
    async with httpx.AsyncClient(transport=transport, base_url="http://control.test") as client:
        yield client


async def test_the_page_names_only_files_the_control_plane_serves(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
    named = re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", page.text)
    assert len(named) == 2
    for path in named:
        assert (await browser.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/static/overview.js", "text/javascript; charset=utf-8"), ("/static/overview.css", "text/css; charset=utf-8")],
)
async def test_each_file_has_its_media_type(browser: httpx.AsyncClient, path: str, media_type: str) -> None:
    assert (await browser.get(path)).headers["content-type"] == media_type


async def test_no_inline_script_and_no_frame_may_run(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text)


@pytest.mark.parametrize("name", ["overview.html~", "..%2fpages.py", "%2e%2e/pages.py", "nothing.js"])
async def test_nothing_else_is_served(browser: httpx.AsyncClient, name: str) -> None:
    assert (await browser.get(f"/static/{name}")).status_code == 404
