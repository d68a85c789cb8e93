"""The programs with little of something: memory, or file descriptors."""

import sys
from collections.abc import Callable
from pathlib import Path

from processes import Process, spawned

__all__ = ["with_only"]


def with_only(**limits: int) -> Callable[[list[str], dict[str, str], Path], Process]:
    """What launches a program that may have no more than that: `NOFILE`, or `AS` in bytes."""
    lines = [f"resource.setrlimit(resource.RLIMIT_{name}, ({most}, {most}))" for name, most in limits.items()]

    def launch(arguments: list[str], environ: dict[str, str], log: Path) -> Process:
        python, option, module, *rest = arguments
        assert (python, option) == (sys.executable, "-m"), arguments
        run = f"sys.argv[0] = {module!r}; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
        code = "; ".join(["import resource, runpy, sys", *lines, run])
        return spawned([python, "-c", code, *rest], environ, log)

    return launch
