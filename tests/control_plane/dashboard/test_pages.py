"""The pages' files: served whole from the package, small, and able to run nothing but themselves."""

import gzip
import json
import re

import httpx
import pytest
from starlette.applications import Starlette

from sidemeter_control.api.headers import Headers
from sidemeter_control.dashboard.files import DIGEST, FILES, imported
from sidemeter_control.dashboard.pages import routes

TEXT = r'"((?:[^"\\]|\\.)*)"'
WORDS = ("ground/de.js", "ground/de_operator.js")


@pytest.fixture
async def browser():
    transport = httpx.ASGITransport(Headers(Starlette(routes=routes()), tls=False))
    async with httpx.AsyncClient(transport=transport, base_url="http://control.test") as client:
        yield client


def modules() -> dict[str, str]:
    """The text of each module of ours."""
    return {
        name: file.content.decode() for name, file in FILES.items() if name.endswith(".js") and "vendor" not in name
    }


@pytest.mark.parametrize(
    "path", ["/", "/customers", "/customers/a%2Fb/c", "/plans/pro", "/keys", "/portal/", "/portal"]
)
async def test_a_page_names_only_files_the_control_plane_serves(browser: httpx.AsyncClient, path: str) -> None:
    page = await browser.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
    named = re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", page.text)
    assert len(named) > 10
    for each in named:
        answer = await browser.get(each)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


async def test_each_file_has_its_media_type_and_is_packed_for_who_takes_that(browser: httpx.AsyncClient) -> None:
    for name, kind in (("operator.js", "text/javascript"), ("pages.css", "text/css")):
        for encoding in ("gzip", "identity"):
            answer = await browser.get(f"/static/{DIGEST}/{name}", headers={"Accept-Encoding": encoding})
            assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
            assert answer.headers.get("content-encoding") == (encoding if encoding == "gzip" else None)
            assert answer.headers["vary"] == "Accept-Encoding"
            assert answer.content == FILES[name].content == gzip.decompress(FILES[name].packed)


def test_nothing_in_a_page_is_inline() -> None:
    for name in ("operator.html", "portal.html"):
        assert not re.search(rb"<script(?![^>]*src=)|\son\w+=|style=", FILES[name].content)


async def test_no_inline_script_and_no_frame_may_run(browser: httpx.AsyncClient) -> None:
    policy = (await browser.get("/")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("name", ["operator.js~", "..%2fpages.py", "%2e%2e/pages.py", "nothing.js", "css/shell.css"])
async def test_nothing_else_is_served(browser: httpx.AsyncClient, name: str) -> None:
    assert (await browser.get(f"/static/{DIGEST}/{name}")).status_code == 404
    assert (await browser.get(f"/static/000000000000/{name}")).status_code == 404


def test_every_module_is_there_and_used() -> None:
    contents = {name: file.content for name, file in FILES.items()}
    used = set(imported("operator.js", contents)) | set(imported("portal.js", contents)) | {"first.js"}
    views = re.findall(r'import\("\./([^"]+)"\)', contents["operator.js"].decode())
    for view in views:
        used |= set(imported(view, contents))
    assert used == {name for name in FILES if name.endswith(".js")}


def said(text: str) -> set[str]:
    """Every text that a module has translated; of a pair the one for several."""
    return set(re.findall(rf"\bt\({TEXT}", text)) | {
        several for _, several in re.findall(rf"\btn\({TEXT},\s*{TEXT}", text)
    }


def test_every_text_is_there_in_german_and_none_is_left_over() -> None:
    texts = set().union(*(said(text) for name, text in modules().items() if name not in WORDS))
    german: dict[str, object] = {}
    for name in WORDS:
        lines = re.findall(rf"^  ({TEXT}): (.+),$", modules()[name], re.MULTILINE)
        german |= {json.loads(key): json.loads(words) for key, _, words in lines}
    assert german.keys() == {json.loads(f'"{text}"') for text in texts}
    for text, words in german.items():
        for each in words if isinstance(words, list) else [words]:
            assert set(re.findall(r"\{\w+\}", each)) == set(re.findall(r"\{\w+\}", text)), text


def test_what_a_customer_is_told_does_not_need_the_words_for_operators() -> None:
    contents = {name: file.content for name, file in FILES.items()}
    theirs = imported("portal.js", contents)
    assert "ground/de_operator.js" not in theirs
    texts = set().union(*(said(contents[name].decode()) for name in theirs if name not in WORDS))
    german = {key for key, _ in re.findall(rf"^  {TEXT}: (.+),$", modules()["ground/de.js"], re.MULTILINE)}
    assert texts <= german


def test_no_amount_becomes_a_number_before_it_is_shown() -> None:
    """Only `drawn` makes one of a decimal, for the place of a line."""
    for name, text in modules().items():
        assert "parseFloat" not in text, name
        assert not re.search(r"\bmoney\([^)]*(?:Number|drawn)\(", text), name
