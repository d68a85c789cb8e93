"""GraphiQL at /graphql: whole from the package, public, and without data or network of its own."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from planes import plane

ASSETS = {
    "react.production.min.js": "text/javascript; charset=utf-8",
    "react-dom.production.min.js": "text/javascript; charset=utf-8",
    "graphiql.min.js": "text/javascript; charset=utf-8",
    "graphiql.min.css": "text/css; charset=utf-8",
    "explorer.js": "text/javascript; charset=utf-8",
    "explorer.css": "text/css; charset=utf-8",
}


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with plane(tmp_path) as opened:
        del opened.http.headers["Authorization"]
        opened.http.headers["Accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"
        yield opened.http


async def test_the_page_names_only_files_of_this_server_and_all_of_them(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/graphql")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page.text)
    named = set(re.findall(r"(?:src|href)=\"graphql/assets/([^\"]+)\"", page.text))
    assert named == ASSETS.keys()


@pytest.mark.parametrize("name", ASSETS)
async def test_each_asset_has_its_media_type(browser: httpx.AsyncClient, name: str) -> None:
    asset = await browser.get(f"/graphql/assets/{name}")
    assert (asset.status_code, asset.headers["content-type"]) == (200, ASSETS[name])
    assert len(asset.content) > 50


@pytest.mark.parametrize("name", ["explorer.css", "graphiql.min.css"])
async def test_no_style_asks_another_server(browser: httpx.AsyncClient, name: str) -> None:
    asset = await browser.get(f"/graphql/assets/{name}")
    assert not re.search(r"@import|url\(\s*[\"']?(?!data:)", asset.text)


async def test_the_browser_is_told_to_run_nothing_else(browser: httpx.AsyncClient) -> None:
    policy = (await browser.get("/graphql")).headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; " in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "name", ["LICENSE.react", "explorer.html", "..%2fexplorer.py", "%2e%2e/explorer.py", "none.js"]
)
async def test_nothing_else_is_served(browser: httpx.AsyncClient, name: str) -> None:
    assert (await browser.get(f"/graphql/assets/{name}")).status_code == 404


async def test_a_query_in_the_address_is_a_query_and_needs_a_key(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/graphql", params={"query": "{ __typename }"})).status_code == 401


def test_every_vendored_package_comes_with_its_licence() -> None:
    folder = Path(__file__).parents[3] / "control_plane/sidemeter_control/api/graphiql"
    for name in ("LICENSE.react", "LICENSE.graphiql"):
        assert "MIT License" in (folder / name).read_text()
