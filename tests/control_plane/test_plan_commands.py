"""Plans as code, by real processes: a file becomes a plan, and an edit of it is seen, priced and published."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from processes import ROOT, ControlPlane, control_plane, run

EXAMPLE = ROOT / "examples" / "plan.yaml"
NO_METER = "sidemeter-control: charges.tokens.meter: must be a meter: there is no 'nope'\n"
FLOAT = 'charges[0].amount: must be written as a string, "49.5": a bare number is a binary float to many'

STAYING = (
    "pro: version 2 is published; who subscribed before stays on the version they have (2 on version 1)"
    " until the mutation changePlan moves them"
)


class Shop:
    """A running control plane with what the example's plan refers to, and the command that asks it."""

    def __init__(self, plane: ControlPlane, secret: str, directory: Path) -> None:
        self.plane = plane
        self.secret = secret
        self.file = directory / "plan.yaml"
        self.file.write_text(EXAMPLE.read_text())

    def plan(self, *arguments: str, exit_code: int = 0, **environ: str) -> str:
        command = [sys.executable, "-m", "sidemeter_control.cli", "plan", *arguments, "--url", self.plane.url]
        return run(*command, exit_code=exit_code, **{"SIDEMETER_API_KEY": self.secret} | environ)

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with control_plane(tmp_path) as plane:
        meter = {"key": "tokens", "eventType": "llm", "aggregation": "SUM", "valueProperty": "n"}
        await plane.make("createMeter", "MeterInput", **meter)
        await plane.make("createFeature", "FeatureInput", key="tokens", meter="tokens")
        await plane.make("createFeature", "FeatureInput", key="regions")
        yield Shop(plane, await plane.new_key("READ", "WRITE"), tmp_path)


async def test_a_file_becomes_a_plan_and_an_edit_is_seen_priced_and_published(shop: Shop, tmp_path: Path) -> None:
    file = str(shop.file)
    assert shop.plan("diff", file, exit_code=3).startswith("pro: a new plan\n  + key: pro\n")
    assert shop.plan("apply", file, "--yes").endswith("pro: version 1 is published\n")
    assert shop.plan("diff", file) == "pro: no change from version 1\n"

    for key in ("acme", "globex"):
        await shop.plane.make("upsertCustomer", "CustomerInput", key=key)
        subscription = {"customer": key, "plan": "pro", "startAt": "2020-01-01T00:00:00Z"}
        await shop.plane.make("subscribe", "SubscribeInput", **subscription)
    shop.edit('amount: "49"', 'amount: "59.5"')
    shop.edit("value: [eu, us]", "value: [eu, us, asia]")
    printed = shop.plan("diff", file, exit_code=3).splitlines()
    assert printed[:3] == [
        "pro: changes from version 1",
        "  ~ charges.base.amount: 49 → 59.5",
        "  + entitlements.regions.value[2]: asia",
    ]
    assert printed[3].startswith("  effect on ")
    assert printed[3].endswith(", 2 customers: 2 pay more, 0 less, 0 the same")
    assert printed[4:] == [
        "    total 98.00 → 119.00 USD, +21.00",
        "    most more:",
        "      acme: 49.00 → 59.50, +10.50",
        "      globex: 49.00 → 59.50, +10.50",
    ]

    assert "Aborted!" in shop.plan("apply", file, exit_code=1)  # nobody is there to be asked
    assert shop.plan("diff", file, exit_code=3).splitlines() == printed
    assert shop.plan("apply", file, "--yes").splitlines() == [
        *printed,
        STAYING,
    ]

    exported = tmp_path / "exported.yaml"
    assert shop.plan("export", "pro", "-o", str(exported)) == f"{exported}: pro, version 2\n"
    assert shop.plan("apply", str(exported)) == "pro: no change from version 2\n"
    assert "is there already" in shop.plan("export", "pro", "-o", str(exported), exit_code=1)
    assert exported.read_text() == shop.plan("export", "pro")
    assert 'amount: "49"' in shop.plan("export", "pro", "--version", "1")
    assert "there is no plan 'pro version 3'" in shop.plan("export", "pro", "--version", "3", exit_code=1)


async def test_a_currency_that_subscribers_do_not_pay_in_is_said_and_the_rest_is_shown(shop: Shop) -> None:
    shop.plan("apply", str(shop.file), "--yes")
    await shop.plane.make("upsertCustomer", "CustomerInput", key="acme")
    await shop.plane.make("subscribe", "SubscribeInput", customer="acme", plan="pro", startAt="2020-01-01T00:00:00Z")
    shop.edit("currency: USD", "currency: EUR")
    assert shop.plan("diff", str(shop.file), exit_code=3).splitlines() == [
        "pro: changes from version 1",
        "  ~ currency: USD → EUR",
        "  what it costs whom cannot be told: customers: 'acme' pays in USD, and the draft is in EUR",
    ]


async def test_what_is_wrong_is_said_in_one_line_and_nothing_is_published(shop: Shop, tmp_path: Path) -> None:
    shop.edit('amount: "49"', "amount: 49.5")
    assert shop.plan("apply", str(shop.file), "--yes", exit_code=1) == f"sidemeter-control: {shop.file}: {FLOAT}\n"
    shop.edit("amount: 49.5", 'amount: "49.5"')
    shop.edit("meter: tokens", "meter: nope")
    assert shop.plan("diff", str(shop.file), exit_code=1) == NO_METER
    assert "answered 401" in shop.plan("export", "pro", exit_code=1, SIDEMETER_API_KEY="wrong")
    assert "the key must be in SIDEMETER_API_KEY" in shop.plan("export", "pro", exit_code=2, SIDEMETER_API_KEY="")
    key_file = tmp_path / "key"
    key_file.write_text(await shop.plane.new_key("READ") + "\n")
    shop.edit("meter: nope", "meter: tokens")
    arguments = "apply", str(shop.file), "--yes", "--key-file", str(key_file)
    assert "the key lacks the scope WRITE" in shop.plan(*arguments, exit_code=1, SIDEMETER_API_KEY="")
    assert await shop.plane.ask("{ plans { key } }") == {"plans": []}


def test_a_control_plane_that_does_not_run_is_named() -> None:
    command = [sys.executable, "-m", "sidemeter_control.cli", "plan", "export", "pro", "--url", "http://127.0.0.1:1"]
    assert run(*command, exit_code=1, SIDEMETER_API_KEY="k").startswith(
        "sidemeter-control: http://127.0.0.1:1: ConnectE"
    )


def test_the_schema_is_printed_and_an_editor_can_use_it() -> None:
    schema = json.loads(run(sys.executable, "-m", "sidemeter_control.cli", "plan", "schema"))
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("command", ["export", "schema", "diff", "apply"])
def test_every_command_explains_itself(command: str) -> None:
    assert "Usage:" in run(sys.executable, "-m", "sidemeter_control.cli", "plan", command, "--help")
