"""The commands `sidemeter-control plan …`: plans in files beside the code, compared and published as the code is."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidemeter_control.errors import ControlError, InvalidInput

if TYPE_CHECKING:  # each command imports what it needs: help needs none of it
    from sidemeter_control.plans_as_code import Comparison
    from sidemeter_control.pricing.drafts import Simulation, SimulationRow
    from sidemeter_control.pricing.plan_diff import Change
    from sidemeter_control.remote import Remote

__all__ = ["plan"]

DIFFERENT = 3
"""What `plan diff` ends with when there is something to apply; 1 and 2 are taken, as with every command."""
SHOWN = 10


class _Failed(click.ClickException):
    """Ends the command with 1 and one line on stderr."""

    def show(self, file: Any = None) -> None:  # noqa: ARG002
        """As every command says it."""
        click.echo(f"sidemeter-control: {self.message}", err=True)


@click.group()
def plan() -> None:
    """Plans as code: export a plan to a file, see what an edited file would change and cost whom, and publish it.

    All but `schema` ask a control plane that runs, at --url, with a key in SIDEMETER_API_KEY or in --key-file: READ for
    export and diff, WRITE for apply.
    """


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which control plane the command asks; it gets that as `remote`, and its errors are shown."""

    key_file = click.option(
        "--key-file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Read the key from this file instead of SIDEMETER_API_KEY.",
    )
    url = click.option("--url", default="http://127.0.0.1:8780", show_default=True, help="The control plane to ask.")

    @functools.wraps(command)
    def asking(*args: Any, url: str, key_file: Path | None, **options: Any) -> None:
        with _reported(), _remote(url, key_file) as remote:
            command(*args, remote=remote, **options)

    return url(key_file(asking))


_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))


@plan.command("export")
@click.argument("key")
@click.option("--version", type=int, help="Another version than the newest.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.option("--replace", is_flag=True, help="Take the place of the file if it is there.")
@_asking
def export(key: str, version: int | None, output: Path | None, replace: bool, remote: "Remote") -> None:
    """Print the plan KEY as YAML, as it was published."""
    from sidemeter_control import plans_as_code  # noqa: PLC0415
    from sidemeter_control.pricing.plan_files import write_yaml  # noqa: PLC0415

    found = plans_as_code.published(remote, key, version)
    text = f"# {key}, version {found.version}, published {found.published_at}\n{write_yaml([found.definition])}"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _Failed(f"{output}: is there already; --replace takes its place") from None
    click.echo(f"{output}: {key}, version {found.version}")


@plan.command("schema")
def schema() -> None:
    """Print the JSON schema of a plan in a file, for editors and CI. Each document of a file is one plan."""
    from importlib.resources import files  # noqa: PLC0415

    click.echo((files("sidemeter_control.pricing") / "plan.schema.json").read_text(encoding="utf-8"), nl=False)


@plan.command("diff")
@_file
@click.pass_context
@_asking
def diff(ctx: click.Context, file: Path, remote: "Remote") -> None:
    """Show what publishing FILE would change, and what the plans' subscribers would have paid.

    That is what they owe for the last whole month (or whatever the plan's interval is, in UTC), as it is and under the
    file's plan; nothing is stored. Ends with 0 when nothing would change, 3 when something would, 1 when it failed.
    """
    compared = _compared(remote, file)
    ctx.exit(DIFFERENT if any(each.changes for each in compared) else 0)


@plan.command("apply")
@_file
@click.option("--yes", is_flag=True, help="Do not ask.")
@_asking
def apply(file: Path, yes: bool, remote: "Remote") -> None:
    """Show what `diff` shows, ask, and publish what differs as new versions.

    Subscribers stay on the version they have; the mutation changePlan moves a subscription to another.
    """
    from sidemeter_control import plans_as_code  # noqa: PLC0415

    different = [each for each in _compared(remote, file) if each.changes]
    if not different:
        return
    if not yes:
        click.confirm(f"Publish {', '.join(each.spec.key for each in different)}?", abort=True)
    for each in different:
        version = plans_as_code.publish(remote, each)
        click.echo(f"{each.spec.key}: version {version} is published{_staying(each)}")


def _staying(compared: "Comparison") -> str:
    if compared.now is None:
        return ""
    return (
        f"; who subscribed before stays on the version they have ({compared.now.subscribers} on version"
        f" {compared.now.version}) until the mutation changePlan moves them"
    )


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (ControlError, OSError, UnicodeDecodeError) as exc:
        raise _Failed(str(exc)) from exc


def _remote(url: str, key_file: Path | None) -> "Remote":
    from sidemeter_control.remote import Remote  # noqa: PLC0415

    key = os.environ.get("SIDEMETER_API_KEY", "") if key_file is None else key_file.read_text(encoding="utf-8").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise click.UsageError("the key must be in SIDEMETER_API_KEY, or in the file that --key-file names")
    return Remote(url, key)


def _compared(remote: "Remote", file: Path) -> "list[Comparison]":
    """Every plan of the file beside what is published, shown before anything is done."""
    from rich.console import Console  # noqa: PLC0415

    from sidemeter_control import plans_as_code, progress  # noqa: PLC0415
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415

    try:
        specs = plans_as_code.read_plans(file.read_text(encoding="utf-8"))
    except InvalidInput as exc:
        raise InvalidInput(f"{file}: {exc.field}", exc.rule) from exc
    compared = []
    with progress.shown() as report:
        for number, spec in enumerate(specs):
            report(f"pricing {spec.key} for its subscribers", 0, 0)
            compared.append(plans_as_code.compare(remote, spec, SystemClock().now_us()))
            report(f"pricing {spec.key} for its subscribers", 1, 1)
            report("plans", number + 1, len(specs))
    console = Console(soft_wrap=True, markup=False, highlight=False, emoji=False)
    for each in compared:
        for text, style in _lines(each):
            console.print(text, style=style)
    return compared


_Line = tuple[str, str]
"""What is said, and how it is coloured on a terminal."""


def _lines(compared: "Comparison") -> Iterator[_Line]:
    key, now = compared.spec.key, compared.now
    if now is None:
        yield f"{key}: a new plan", "bold"
    elif not compared.changes:
        yield f"{key}: no change from version {now.version}", ""
    else:
        yield f"{key}: changes from version {now.version}", "bold"
    yield from map(_change, compared.changes)
    if compared.effect is not None:
        yield from _effect(compared)


def _change(change: "Change") -> _Line:
    if change.old is None:
        return f"  + {change.path}: {_shown(change.new)}", "green"
    if change.new is None:
        return f"  - {change.path}: {_shown(change.old)}", "red"
    return f"  ~ {change.path}: {_shown(change.old)} → {_shown(change.new)}", "yellow"


def _shown(value: object) -> str:
    import msgspec  # noqa: PLC0415

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _effect(compared: "Comparison") -> Iterator[_Line]:
    from sidemeter_control.plans_as_code import instant_text  # noqa: PLC0415

    period, effect = compared.period, compared.effect
    span = f"{instant_text(period.start_us)} to {instant_text(period.end_us)}"
    if effect is None or isinstance(effect, InvalidInput):
        yield f"  what it costs whom cannot be told: {effect}", "red"
    elif not effect.rows:
        yield f"  nobody was on it in {span}", ""
    else:
        yield from _bills(effect, span)


def _bills(effect: "Simulation", span: str) -> Iterator[_Line]:
    more = [row for row in effect.rows if row.difference.amount > 0]
    less = [row for row in reversed(effect.rows) if row.difference.amount < 0]
    total, difference = effect.total, effect.difference
    now = total.rounded - difference.rounded
    same = len(effect.rows) - len(more) - len(less)
    yield (
        f"  effect on {span}, {len(effect.rows)} customers: {len(more)} pay more, {len(less)} less, {same} the same",
        "bold",
    )
    yield f"    total {now} → {total.rounded} {total.currency}, {difference.rounded:+}", ""
    yield from _most("more", more)
    yield from _most("less", less)


def _most(word: str, rows: "Sequence[SimulationRow]") -> Iterator[_Line]:
    if rows:
        yield f"    most {word}:", ""
    for row in rows[:SHOWN]:
        yield f"      {row.customer}: {row.current.rounded} → {row.simulated.rounded}, {row.difference.rounded:+}", ""
    if len(rows) > SHOWN:
        yield f"      and {len(rows) - SHOWN} others", ""
