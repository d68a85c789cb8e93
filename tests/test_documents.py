"""What the documents say is run: every docstring example, and the README's commands and example."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sidemeter
import sidemeter_control

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    found = [
        info.name
        for package in (sidemeter, sidemeter_control)
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        if ".migrations" not in info.name
    ]
    return sorted(found)


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", modules())
def test_every_public_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    for each in getattr(module, "__all__", []):
        assert hasattr(module, each), f"{name} has no {each}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_and_file_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", text)) <= targets
    for path in re.findall(r"`((?:agent|control_plane|deploy|tests|examples)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
