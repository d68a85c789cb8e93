"""What an installation brings: the agent alone stays small and never needs the control plane's libraries."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTROL_PLANE_ONLY = (
    "strawberry",
    "graphql",
    "sqlalchemy",
    "alembic",
    "babel",
    "rich",
    "yaml",
    "asyncpg",
    "pyarrow",
    "opentelemetry",
    "sidemeter_control",
)


def run_without_control_plane(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process in which the control plane's libraries cannot be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({CONTROL_PLANE_ONLY!r}, None)); "
    return subprocess.run(
        [sys.executable, "-c", blocked + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_agent_imports_without_the_control_planes_libraries() -> None:
    done = run_without_control_plane("import sidemeter; print(sidemeter.Agent.__name__)")
    assert (done.returncode, done.stdout) == (0, "Agent\n"), done.stderr


def test_the_agents_command_helps_without_the_control_planes_libraries() -> None:
    done = run_without_control_plane("from sidemeter.cli import main; main(['agent', '--help'])")
    assert done.returncode == 0, done.stderr
    assert "--control-plane" in done.stdout


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("sidemeter", ["agent", "--service", "chat", "--traces", "true"]),
        ("sidemeter_control", ["serve", "--traces", "yes"]),
    ],
)
def test_traces_say_what_is_not_installed(tmp_path: Path, module: str, arguments: list[str]) -> None:
    blocked = "import sys; sys.modules['opentelemetry'] = None; "
    code = f"{blocked}from {module}.cli import main; main({arguments!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "--traces: needs OpenTelemetry, which is not installed: pip install 'sidemeter[otel]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_control_planes_command_says_what_is_not_installed() -> None:
    done = run_without_control_plane(
        "del sys.modules['sidemeter_control']; from sidemeter_control.cli import main; main(['serve'])"
    )
    assert done.returncode == 1
    assert "is not installed: pip install 'sidemeter[control-plane]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_control_plane_needs_no_parquet_until_it_archives() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; import sidemeter_control.server, sidemeter_control.doctor"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_agents_install_stays_within_sixteen_packages() -> None:
    seen: set[str] = set()
    waiting = [_name(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        required = importlib.metadata.requires(name) or []
        waiting += [
            _name(line)
            for line in required
            if "extra ==" not in line
            and "python_version <" not in line
            and "win32" not in line
            and "emscripten" not in line
        ]
    assert len(seen) <= 16, sorted(seen)


@pytest.mark.parametrize("name", ["constraints.txt", "Makefile", ".ci/run", "pyproject.toml"])
def test_no_registry_address_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?://|file:", text)


def test_every_pinned_package_carries_a_hash() -> None:
    text = (ROOT / "constraints.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+\s*", line), line


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return match.group().lower().replace("_", "-")
