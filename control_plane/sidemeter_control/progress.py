"""How far a long command is, on a terminal: bars on stderr that are gone when it ends. Where nobody looks, nothing."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["Report", "shown"]

Report = Callable[[str, int, int], None]
"""Takes the step under way, how much of it is done, and of how much; 0 of 0 while nobody can tell."""


@contextlib.contextmanager
def shown(console: Console | None = None) -> Iterator[Report]:
    """What takes the steps of a command and shows them while the block lasts, on stderr unless elsewhere."""
    console = console or Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total or None)
            progress.update(tasks[step], completed=done, total=total or None)

        yield report
