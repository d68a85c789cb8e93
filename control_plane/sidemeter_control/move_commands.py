"""The command `sidemeter-control move`: from a file to a PostgreSQL server, with the proof that nothing was lost on the way."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidemeter_control.options import FAILED, fail, reported, settings_of, settings_options

if TYPE_CHECKING:
    from sidemeter_control.moving import Line
    from sidemeter_control.settings import Settings

__all__ = ["move"]


@click.command()
@click.option(
    "--to",
    "to",
    metavar="URL",
    required=True,
    help="The empty database: postgresql://USER:PASSWORD@HOST:PORT/NAME, whose password may stand in PGPASSWORD or ~/.pgpass"
    " instead.",
)
@click.option("--replace", is_flag=True, help="Empty the database first of a move that did not end.")
@settings_options("database", "witness", "archive_directory")
def move(to: str, replace: bool, **options: str | None) -> None:
    """Move all that the control plane holds from its file to an empty PostgreSQL database, and prove that it is the same.

    While a control plane serves from the file, its events are copied beside it; then the command waits until it is stopped,
    copies the rest, reads everything back and compares it: rows, totals of each meter, credits, the audit log. Start it
    again with SIDEMETER_DATABASE set to the new one: nothing is missing, and agents go on by themselves. Until the proof is
    complete nothing starts on the new database, and the file stays as it was.
    """
    from sidemeter_control import moving  # noqa: PLC0415 -- brings a driver, which help does not need
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415
    from sidemeter_control.settings import without_password  # noqa: PLC0415
    from sidemeter_control.store.postgres import witness_of  # noqa: PLC0415

    settings = settings_of(options)
    try:
        with reported() as report:
            lines = asyncio.run(
                moving.move(
                    settings.database, to, SystemClock(), report, click.echo, witness=settings.witness, replace=replace
                )
            )
    except moving.Unequal as exc:
        _show(exc.lines)
        fail(f"{exc}: nothing starts on it; run the move again, with --replace", FAILED)
    except KeyboardInterrupt:
        fail("the move was interrupted: nothing starts on what there is of it; run it again, with --replace", FAILED)
    _show(lines)
    witness = Path(settings.witness or witness_of(to)).resolve()
    click.echo(
        f"all of it is equal: start the control plane with SIDEMETER_DATABASE={without_password(to)}, its password, and"
        f" SIDEMETER_WITNESS={witness}"
    )
    for line in _archive(settings, to):
        click.echo(line)
    click.echo(
        f"{settings.database} stays. Whoever starts it again starts a copy, as after a restore: with what was counted until"
        " now, and nothing to grant of hard limits"
    )


def _archive(settings: "Settings", to: str) -> list[str]:
    """What becomes of the files of archived events, which are none of the database, and whether they are found."""
    from sidemeter_control.store import files  # noqa: PLC0415 -- as above
    from sidemeter_control.store.archive import Archive  # noqa: PLC0415
    from sidemeter_control.store.postgres import archive_of  # noqa: PLC0415
    from sidemeter_control.store.sqlite import archive_beside, sqlite_path  # noqa: PLC0415

    path = sqlite_path(settings.database)
    known = files.archive(path, running=True)
    if not known:
        return []
    archive = Archive(Path(settings.archive_directory) if settings.archive_directory else archive_beside(path))
    stay = f"{len(known)} files of archived events are not moved: set SIDEMETER_ARCHIVE_DIRECTORY={archive.directory}"
    there = f"{stay}, or to where you copy them; new ones would go to {archive_of(to).resolve()}"
    return [there, *(f"not found: {each}" for each in archive.lost(known))]


def _show(lines: "list[Line]") -> None:
    """One line for each thing that was compared; both, where they are not equal."""
    width = max(len(line.what) for line in lines)
    for line in lines:
        said = f"{line.source}  equal" if line.is_equal else f"{line.source} in the file, {line.target} in the copy"
        click.echo(f"{line.what:<{width}}  {said}")
