"""deploy/README.md: every command of ours in it is one, every file that it names is there, and nothing is left out."""

import re

import pytest
import yaml
from deployed import DEPLOY, check_command

GUIDE = (DEPLOY / "README.md").read_text()
OURS = re.compile(r"^ {4}(?!helm )(?:.*?\s)?((?:/opt/sidemeter/bin/)?sidemeter(?:-control)? [a-z].*)$", re.MULTILINE)
"""A command alone, or behind `sudo -u`, `docker compose exec` and `kubectl exec`."""


@pytest.mark.parametrize("command", OURS.findall(re.sub(r" \\\n +", " ", GUIDE)))
def test_a_command_is_one(command: str) -> None:
    check_command(command)


def test_the_services_own_command_is_one_for_compose() -> None:
    (arguments,) = re.findall(r"run --rm control-plane ([^)]+)\)", GUIDE)
    check_command(f"sidemeter-control {arguments}")


def test_every_link_and_path_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", GUIDE)
    paths = re.findall(r"\bdeploy/((?:systemd|helm|kubernetes)[\w./-]*)", GUIDE)
    assert links
    assert paths
    for each in (*links, *paths):
        assert (DEPLOY / each).exists(), each


def test_it_tells_what_compose_asks_for() -> None:
    for variable in set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text())):
        assert f"{variable}=" in GUIDE


def test_it_names_every_file_that_a_unit_reads_and_where_the_programs_are() -> None:
    for unit in (DEPLOY / "systemd").iterdir():
        assert unit.name in GUIDE
        text = unit.read_text()
        for file in re.findall(r"^EnvironmentFile=-(\S+)$", text, flags=re.MULTILINE):
            assert file.replace("%i", "chat") in GUIDE
        (program,) = re.findall(r"^ExecStart=(\S+)/bin/\S+", text, flags=re.MULTILINE)
        assert f"python3 -m venv {program}" in GUIDE


def test_it_tells_what_the_chart_takes_beside_the_defaults() -> None:
    values = yaml.safe_load((DEPLOY / "helm" / "sidemeter-control" / "values.yaml").read_text())
    for name, value in values.items():
        if isinstance(value, dict) and value.get("enabled") is False:
            assert f"`{name}`" in GUIDE
