"""What `pip install sidemeter` brings: the wheel, and the packages it needs without any extra."""

import asyncio
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .harness import Bench, Figure, at_most

__all__ = ["install"]

ROOT = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"[A-Za-z0-9._-]+")


async def install(bench: Bench) -> list[Figure]:
    """The wheel is built here; of its dependencies the files are added up that are installed on this machine."""
    wheel = await _wheel(bench)
    needed = sorted(set(_needed("sidemeter")) - {"sidemeter"})
    sizes = {name: _bytes(name) for name in needed}
    bench.prove("packages without a file", found=[name for name, size in sizes.items() if not size], expected=[])
    installed = sum(sizes.values()) + _unpacked(ROOT / "agent") + _unpacked(ROOT / "control_plane")
    bench.told += [f"{name:<20} {size / 1e6:6.2f} MB" for name, size in sizes.items()]
    return [
        Figure(name="install: the wheel", value=wheel.stat().st_size / 1e6, unit="MB"),
        Figure(name="install: packages that it needs", value=len(needed), unit="packages", reach=at_most(16)),
        Figure(name="install: all of it, unpacked", value=installed / 1e6, unit="MB", reach=at_most(16)),
    ]


async def _wheel(bench: Bench) -> Path:
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", str(ROOT)]
    built = await asyncio.create_subprocess_exec(sys.executable, *command, "--wheel-dir", str(bench.directory))
    bench.prove("exit code", found=await built.wait(), expected=0)
    [wheel] = bench.directory.glob("*.whl")
    return wheel


def _needed(name: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """That package, and all that it needs here and without extras."""
    if name in seen:
        return
    yield name
    for line in importlib.metadata.requires(name) or ():
        requirement, _, condition = line.partition(";")
        found = _NAME.match(requirement)
        if found and "extra ==" not in condition and _is_here(found[0]):
            yield from _needed(found[0].lower().replace("_", "-"), seen | {name})


def _is_here(name: str) -> bool:
    """What a condition leaves out on this machine is not installed, unless something else brings it."""
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def _bytes(name: str) -> int:
    """Of its files, without what Python compiles of them."""
    files = importlib.metadata.files(name) or ()
    paths = [Path(str(each.locate())) for each in files if each.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _unpacked(directory: Path) -> int:
    return sum(each.stat().st_size for each in directory.rglob("*") if each.is_file() and each.suffix != ".pyc")
