"""The page at `/` in a real browser: what it shows is what GraphQL answers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from processes import ADMIN_KEY, ControlPlane, control_plane

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    BROWSER is None and not os.environ.get("CI"), reason="no Chromium: install Debian's package chromium"
)


def shown(url: str, profile: Path) -> str:
    """The page's elements, as they are once it has asked and drawn."""
    assert BROWSER, "CI must have Chromium"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--lang=en-US", "--virtual-time-budget=3000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


async def sell_and_use(plane: ControlPlane) -> None:
    await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
    await plane.make("createFeature", "FeatureInput", key="chat", name="Chat", meter="calls")
    charges = [
        {"key": "base", "model": "FLAT", "amount": "20"},
        {"key": "calls", "meter": "calls", "model": "PER_UNIT", "unitPrice": "0.15"},
    ]
    limits = [{"feature": "chat", "kind": "METERED", "limit": "2", "enforcement": "HARD"}]
    await plane.make("publishPlan", "PlanInput", key="pro", currency="USD", charges=charges, entitlements=limits)
    await plane.make("upsertCustomer", "CustomerInput", key="acme", name="Acme <b>& Sons</b>")
    await plane.make("subscribe", "SubscribeInput", customer="acme", plan="pro")
    events = [{"type": "call", "subject": "acme"}, {"type": "call", "subject": "acme"}]
    await plane.ask("mutation($events: [EventInput!]!) { ingest(events: $events) { accepted } }", events=events)


async def test_it_shows_cost_and_a_limit_that_is_reached(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await sell_and_use(plane)
        page = shown(f"{plane.url}/#key={ADMIN_KEY}", tmp_path / "profile")
        assert page.count("USD&nbsp;20.30") == 2  # of the customer, and of all
        assert "Chat: 2 of 2" in page
        assert "limit reached, refused" in page
        assert "Acme &lt;b&gt;&amp; Sons&lt;/b&gt;" in page
        assert "No agent has called yet" in page
        assert ADMIN_KEY not in page


async def test_a_wrong_key_is_asked_for_again(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        page = shown(f"{plane.url}/#key=smk_wrong", tmp_path / "profile")
        assert "This key is unknown, expired or revoked." in page
        assert "USD" not in page


async def test_without_anything_defined_it_says_what_to_do_next(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        page = shown(f"{plane.url}/#key={ADMIN_KEY}", tmp_path / "profile")
        assert "Create one with the upsertCustomer mutation" in page
