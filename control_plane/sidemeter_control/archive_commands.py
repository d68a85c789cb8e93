"""The command `sidemeter-control archive`: what events of old months say goes into files, which it is read from ever after."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidemeter_control.options import WRONG_USE, fail, reported, settings_of, settings_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidemeter_control.metering.archiving import Archived
    from sidemeter_control.settings import Settings
    from sidemeter_control.store.database import Database
    from sidemeter_control.store.files import Report

__all__ = ["archive"]

_MILLION = 1_000_000


@click.command()
@click.option("--before", metavar="YYYY-MM", required=True, help="The first month (UTC) that is not archived.")
@click.option(
    "--to",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where new files go, if not to --archive-directory.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would come to, and write nothing: files are made in memory.")
@settings_options("database", "witness", "archive_directory")
def archive(before: str, directory: Path | None, dry_run: bool, **options: str | None) -> None:
    """Move what events of months before YYYY-MM say from the database into Parquet files.

    Rollups stay, and of each event what it is known, found and corrected by: it is never counted again, and everything that
    reads it reads the file. Each file is on the disk, read back and written down before anything leaves the database.
    Interrupted, run it again. The control plane must be stopped; one that runs does the same by itself where
    archive_after_days is set.
    """
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415
    from sidemeter_control.errors import InvalidInput  # noqa: PLC0415
    from sidemeter_control.metering import months  # noqa: PLC0415

    settings = settings_of(options)
    try:
        before_us = months.parse(before, SystemClock().now_us())
    except InvalidInput as exc:
        fail(f"--before: {exc.rule}", WRONG_USE)
    with reported() as report:
        done = asyncio.run(_archived(settings, before_us, directory, report, dry_run=dry_run))
    for line in _said(done, before, dry_run=dry_run):
        click.echo(line)


async def _archived(
    settings: "Settings", before_us: int, directory: Path | None, report: "Report", *, dry_run: bool
) -> "Archived":
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415 -- help does not need it
    from sidemeter_control.metering import archiving  # noqa: PLC0415
    from sidemeter_control.store import audit, parquet  # noqa: F401, PLC0415 -- what is not installed is said first

    done = archiving.Archived()
    async with _opened(settings) as database:
        await database.migrate()
        steps = (
            archiving.survey(database, before_us)
            if dry_run
            else archiving.archive(database, SystemClock(), before_us, audit.OPERATOR, directory=directory, counts=True)
        )
        async for done in steps:
            report("packing" if dry_run else "archiving", done.events, done.expected)
    return done


@contextlib.asynccontextmanager
async def _opened(settings: "Settings") -> "AsyncIterator[Database]":
    from sidemeter_control.store.database import Database  # noqa: PLC0415 -- as above

    database = await Database.open(settings.database, witness=settings.witness, archive=settings.archive_directory)
    try:
        yield database
    finally:
        await database.close()


def _said(done: "Archived", before: str, *, dry_run: bool) -> list[str]:
    if not done.events:
        return [f"every event before {before} is in a file already"]
    would, leave = ("would be", "would leave") if dry_run else ("are", "have left")
    moved = f"{done.events:,} events {would} in {done.files:,} files of {done.file_bytes:,} bytes"
    left = f"{done.data_bytes:,} bytes of data {leave} the database, {done.mark_bytes:,} stay in their place"
    before_, there, files = (_per_million(size, done) for size in (done.data_bytes, done.mark_bytes, done.file_bytes))
    each = f"per million events: {before_} MB in the database before; after, {there} MB there and {files} MB in files"
    return [f"{moved}; {left}", each, *(str(path) for path in done.names)]


def _per_million(size: int, done: "Archived") -> str:
    """In megabytes, with one place after the point.

    >>> from sidemeter_control.metering.archiving import Archived
    >>> _per_million(123_456, Archived(events=1_000))
    '123.5'
    """
    tenths = (size * _MILLION * 10 + done.events * _MILLION // 2) // (done.events * _MILLION)
    return f"{tenths // 10:,}.{tenths % 10}"
