"""The command `sidemeter-control`: run the control plane, and look after its database and keys."""

import asyncio
import importlib.metadata
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class

from sidemeter_control.archive_commands import archive
from sidemeter_control.errors import ControlError, SettingsError
from sidemeter_control.move_commands import move
from sidemeter_control.options import FAILED, WARNED, WRONG_USE, fail, reported, settings_of, settings_options
from sidemeter_control.plan_commands import plan
from sidemeter_control.settings import ENVIRON_PREFIX, Settings, is_postgres, passwords_of

if TYPE_CHECKING:
    import httpx

    from sidemeter_control.premises import Finding

__all__ = ["main"]

SCOPES = ("AGENT", "READ", "WRITE", "ADMIN")


class _Commands(click.Group):
    """Commands that say what is not installed, where only the agent is."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as exc:
            extra = {"asyncpg": "postgres", "pyarrow": "archive"}.get(exc.name or "", "control-plane")
            fail(f"{exc.name} is not installed: pip install 'sidemeter[{extra}]'", FAILED)


@click.group(cls=_Commands, help=__doc__)
@click.version_option(importlib.metadata.version("sidemeter"), prog_name="sidemeter-control")
def main() -> None:
    """Every command exits 0 when done, 1 when it failed, 2 when it was called wrongly."""


main.add_command(plan)
main.add_command(move)
main.add_command(archive)


@main.command()
@settings_options()
def serve(**options: str | None) -> None:
    """Serve GraphQL, agents and pages until SIGTERM or SIGINT.

    Makes and migrates the database. The first start prints an admin key, once, unless SIDEMETER_ADMIN_KEY gives it.
    Prints one line once requests are taken; logs to stderr.
    """
    settings = settings_of(options)
    from sidemeter_control import logs, server, traces  # noqa: PLC0415 -- brings the web server, which help does not need

    secrets = [each for each in (settings.admin_key, *passwords_of(settings.database)) if each]
    try:
        with traces.exported(settings.traces) as ids:
            logs.configure(settings.log_format, settings.log_level, secrets=secrets, ids=ids)
            server.run(settings, click.echo)
    except SettingsError as exc:
        fail(f"--{exc.field}: {exc.rule}", WRONG_USE)
    except (ControlError, OSError) as exc:
        fail(str(exc), FAILED)


@main.command()
@click.option(
    "--distribute", is_flag=True, help="Spread its tables over the nodes of a Citus cluster, too; said again, no more."
)
@settings_options("database")
def migrate(distribute: bool, **options: str | None) -> None:
    """Make the database, or bring it to this version's schema; `serve` does so too."""
    settings = settings_of(options)
    if distribute and not is_postgres(settings.database):
        from sidemeter_control.store.database import ONE_FILE  # noqa: PLC0415 -- help does not need it

        fail(f"--distribute: {ONE_FILE}", WRONG_USE)
    with reported() as report:
        spread = _with_database(
            settings, (lambda database: database.distribute(report)) if distribute else _nothing_more, report
        )
    click.echo(
        "the database is up to date" + (f", and {spread} tables more are spread by subject" if distribute else "")
    )


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--url", metavar="URL", help="Ask the control plane that runs there, with the ADMIN key in SIDEMETER_ADMIN_KEY."
)
@click.option("--replace", is_flag=True, help="Take the place of FILE if it is there.")
@settings_options("database")
def backup(file: Path, url: str | None, replace: bool, **options: str | None) -> None:
    """Write all that the control plane holds to FILE, checked and durable when this ends.

    With --url from one that runs and goes on counting; without, from the database of one that is stopped. A PostgreSQL
    database is backed up by its own tools instead.
    """
    from sidemeter_control import backups  # noqa: PLC0415

    settings = settings_of(options)
    with reported() as report:
        if url is None:
            contents = asyncio.run(backups.take(settings.database, file, report, replace=replace))
        elif settings.admin_key is None:
            fail(f"{ENVIRON_PREFIX}ADMIN_KEY: must be set: a backup holds everything", WRONG_USE)
        else:
            contents = backups.fetch(url.rstrip("/"), settings.admin_key, file, report, replace=replace)
    click.echo(f"{file}: {_shown(contents)}")


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@settings_options("database", "archive_directory")
def restore(file: Path, **options: str | None) -> None:
    """Make the backup FILE the database of a control plane that is stopped. What is there is moved aside, not deleted."""
    from sidemeter_control import backups  # noqa: PLC0415
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415

    settings = settings_of(options)
    with reported() as report:
        restored = backups.restore(settings.database, file, SystemClock(), report)
        lost = backups.lost(settings.database, settings.archive_directory, restored.contents)
    click.echo(f"{settings.database} holds {file}: {_shown(restored.contents)}")
    if restored.aside is not None:
        click.echo(f"what was there before is {restored.aside}")
    for each in lost:
        click.echo(f"what needs events of this file is refused until it is there: {each}")
    click.echo(
        f"start the control plane: agents see the new generation {restored.generation}, and send again what it is missing"
        " as far as they keep it (keep_sent_s and keep_sent_bytes; a day, if nothing else is set)"
    )
    click.echo("definitions and keys are as they were when the backup was made: make and revoke again what was since")
    click.echo(
        "nothing more is granted of hard limits that agents lease until each has told what it holds; endRecovery, in"
        " GraphQL, ends that where one is gone for good"
    )


def _shown(contents: Any) -> str:
    latest = "no event yet" if contents.received_at_us is None else f"the last of {_instant(contents.received_at_us)}"
    held = f"{contents.events} events, {latest}; {contents.size} bytes, schema {contents.revision}, checked"
    if not contents.archive:
        return held
    size = sum(each.size_bytes for each in contents.archive)
    return f"{held}; {len(contents.archive)} files of archived events, {size} bytes, are no part of it: keep {_kept_in(contents)}"


def _kept_in(contents: Any) -> str:
    """The directories that a backup needs beside it."""
    return ", ".join(sorted({each.directory for each in contents.archive}))


@main.command()
@click.option("--url", metavar="URL", help="Ask the control plane there, and look at nothing of this host.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@settings_options()
def doctor(url: str | None, as_json: bool, **options: str | None) -> None:
    """Look at everything that a control plane with these settings needs, and say what to do.

    Configuration, database file, disk, address, and of one that runs its readiness, version, clock and figures, with the
    key in SIDEMETER_ADMIN_KEY or SIDEMETER_API_KEY. It changes nothing. Exits 0 when all is ok, 3 when there is something
    to warn of, 1 when something fails.
    """
    import msgspec  # noqa: PLC0415

    from sidemeter_control import doctor as examining  # noqa: PLC0415
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415
    from sidemeter_control.premises import Finding  # noqa: PLC0415

    findings: list[Finding]
    try:
        settings = Settings.from_environ(os.environ, **options)
    except SettingsError as exc:
        name = "--" + exc.field.replace("_", "-") if exc.field in options else exc.field
        advice = "sidemeter-control serve --help has every rule"
        findings = [Finding("configuration", "fail", f"{name}: {exc.rule}", advice), *examining.misspelled(os.environ)]
    else:
        with _asking(settings, url) as http:
            version = importlib.metadata.version("sidemeter")
            where = url and url.rstrip("/")
            found = examining.examine(settings, os.environ, SystemClock(), http, url=where, version=version)
            findings = list(found)
    statuses = {each.status for each in findings}
    worst = next(status for status in ("fail", "warn", "ok") if status in statuses)
    if as_json:
        click.echo(msgspec.json.encode({"status": worst, "findings": findings}))
    else:
        _show(findings)
    sys.exit({"ok": 0, "warn": WARNED, "fail": FAILED}[worst])


def _asking(settings: Settings, url: str | None) -> "httpx.Client":
    """With the key there is, for the control plane at `url`, or the one beside this command."""
    import httpx  # noqa: PLC0415

    from sidemeter_control import nearby  # noqa: PLC0415

    key = settings.admin_key or os.environ.get("SIDEMETER_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        verify = nearby.trust(settings) if url is None else True
    except OSError as exc:
        fail(f"{settings.tls_cert}: {exc}", FAILED)
    return httpx.Client(headers=headers, timeout=nearby.ANSWERS_WITHIN_S, verify=verify, trust_env=url is not None)


def _show(findings: "Sequence[Finding]") -> None:
    """One line for each, and what to do below it; coloured on a terminal."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for each in findings:
        click.echo(f"{click.style(f'{each.status:<5}', fg=colours[each.status])}{each.check}: {each.found}")
        if each.advice:
            click.echo(f"     → {each.advice}")


@main.command()
@click.option(
    "--url", metavar="URL", help="The control plane to ask; by default the one with these settings on this host."
)
@click.option("--alive", is_flag=True, help="Ask only whether it answers, not whether it can write.")
@settings_options("listen", "tls_cert", "tls_key")
def ready(url: str | None, alive: bool, **options: str | None) -> None:
    """Exit 0 if the control plane takes requests, 1 if not: a health check where there is no curl. It asks without a key."""
    from sidemeter_control import nearby  # noqa: PLC0415

    settings = settings_of(options)
    try:
        with _asking(settings, url) as http:
            nearby.check_ready(http, url.rstrip("/") if url else nearby.url_of(settings), alive=alive)
    except ControlError as exc:
        fail(str(exc), FAILED)


@main.command()
@click.option("--url", default="http://127.0.0.1:8780", show_default=True, help="The control plane to ask.")
@click.option("--every", "every_s", type=click.FloatRange(0.1, 3600), default=1.0, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="One screen, of the rates between two looks.")
def top(url: str, every_s: float, once: bool) -> None:
    """Show what a control plane does, live: rates, backlog, agents, and meters being filled. Ctrl-C ends it.

    Asks with the key in SIDEMETER_API_KEY, which needs READ. One screen where it does not write to a terminal.
    """
    from sidemeter_control import top as watching  # noqa: PLC0415
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415
    from sidemeter_control.remote import Remote  # noqa: PLC0415

    key = os.environ.get("SIDEMETER_API_KEY") or os.environ.get("SIDEMETER_ADMIN_KEY")
    if not key:
        fail("SIDEMETER_API_KEY: must be set, to a key with the scope READ", WRONG_USE)
    try:
        with Remote(url, key) as remote:
            watching.watch(remote, url, SystemClock(), every_s=every_s, once=once)
    except ControlError as exc:
        fail(str(exc), FAILED)
    except KeyboardInterrupt:
        sys.exit(0)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what lets a SHELL complete this command's words.

    \b
    bash:  echo 'eval "$(sidemeter-control completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(sidemeter-control completion zsh)"' >> ~/.zshrc
    fish:  sidemeter-control completion fish > ~/.config/fish/completions/sidemeter-control.fish
    """
    made = get_completion_class(shell)
    if made is None:
        fail(f"{shell} is not known", WRONG_USE)
    click.echo(made(ctx.find_root().command, {}, "sidemeter-control", "_SIDEMETER_CONTROL_COMPLETE").source())


def _instant(value_us: int) -> str:
    return datetime.fromtimestamp(value_us / 1e6, UTC).isoformat(timespec="seconds")


@main.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys while the control plane is stopped; GraphQL does it while it runs."""


@keys.command("create")
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="May be repeated.")
@click.option("--customer", metavar="KEY", help="The only customer that it is for.")
@click.option("--service", metavar="NAME", help="The only service that it is for.")
@click.option(
    "--days", type=click.IntRange(1, 36_500), metavar="N", help="It ends after so many days; by default never."
)
@settings_options("database")
def create_key(
    name: str,
    scopes: tuple[str, ...],
    customer: str | None,
    service: str | None,
    days: int | None,
    **options: str | None,
) -> None:
    """Make a key called NAME and print its secret, which is never shown again."""
    from sidemeter_control.access.keyring import Keyring  # noqa: PLC0415
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415
    from sidemeter_control.store.keys import Scope  # noqa: PLC0415

    clock = SystemClock()
    until_us = None if days is None else clock.now_us() + days * 86_400_000_000

    async def make(database: Any) -> str:
        held = frozenset(map(Scope, scopes))
        _, secret = await Keyring(database, clock).make(name, held, until_us, customer=customer, service=service)
        return secret

    click.echo(_with_database(settings_of(options), make))


@keys.command("list")
@settings_options("database")
def list_keys(**options: str | None) -> None:
    """Print every key, one JSON object a line, without secrets."""
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415
    from sidemeter_control.store import keys as stored  # noqa: PLC0415

    async def read(database: Any) -> list[Any]:
        async with database.read() as conn:
            return await stored.every(conn)

    now_us = SystemClock().now_us()
    for key in _with_database(settings_of(options), read):
        click.echo(json.dumps(_shown_key(key, now_us)))


def _shown_key(key: Any, now_us: int) -> dict[str, object]:
    state = "in force" if key.valid_at(now_us) else "expired" if key.revoked_at_us is None else "revoked"
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(scope.value for scope in key.scopes),
        "customer": key.customer,
        "service": key.service,
        "state": state,
        "last_used": None if key.last_used_at_us is None else _instant(key.last_used_at_us),
        "expires": None if key.expires_at_us is None else _instant(key.expires_at_us),
    }


@keys.command("rotate")
@click.argument("key_id")
@click.option(
    "--overlap",
    type=int,
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long the former secret is still taken.",
)
@settings_options("database")
def rotate_key(key_id: str, overlap: int, **options: str | None) -> None:
    """Give the key with the id KEY_ID another secret and print it; it is never shown again."""
    from sidemeter_control.access.keyring import Keyring  # noqa: PLC0415
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415

    async def rotate(database: Any) -> str:
        _, secret = await Keyring(database, SystemClock()).replace_secret(key_id, overlap)
        return secret

    click.echo(_with_database(settings_of(options), rotate))


@keys.command("revoke")
@click.argument("key_id")
@settings_options("database")
def revoke_key(key_id: str, **options: str | None) -> None:
    """End the key with the id KEY_ID for good."""
    from sidemeter_control.access.keyring import Keyring  # noqa: PLC0415
    from sidemeter_control.clock import SystemClock  # noqa: PLC0415

    _with_database(settings_of(options), lambda database: Keyring(database, SystemClock()).revoke(key_id))
    click.echo(f"{key_id} is revoked")


@main.group()
def audit() -> None:
    """Look after the log of who changed what."""


@audit.command("verify")
@click.option(
    "--url", metavar="URL", help="Ask the control plane that runs there, with the ADMIN key in SIDEMETER_ADMIN_KEY."
)
@click.option("--head", metavar="NUMBER:HASH", help="What an earlier check ended with: it must still be in the log.")
@settings_options("database")
def verify_audit(url: str | None, head: str | None, **options: str | None) -> None:
    """See that no entry of the audit log was changed or taken out, and say where one was.

    Ends with 1 if so. Note the head that it prints where nobody who can write to the database can write, and give it to the
    next check: it alone shows a log that was written anew from some entry on.
    """
    from sidemeter_control import audit_commands  # noqa: PLC0415

    settings = settings_of(options)
    with reported() as report:
        if url is None:
            found = _with_database(settings, lambda database: audit_commands.of_database(database, head, report))
        elif settings.admin_key is None:
            fail(f"{ENVIRON_PREFIX}ADMIN_KEY: must be set: the log is for administrators", WRONG_USE)
        else:
            found = audit_commands.of_server(url, settings.admin_key, head, report)
    if found.problem is not None:
        fail(f"the audit log is not as it was written: entry {found.broken_at} {found.problem}", FAILED)
    click.echo(f"{found.entries} entries, unbroken; head {found.head}")


def _with_database(
    settings: Settings, act: Callable[[Any], Awaitable[Any]], report: Callable[[str, int, int], None] | None = None
) -> Any:
    """What `act` returns of the open, migrated database, or the end of the command with its error."""
    from sidemeter_control.store.database import Database  # noqa: PLC0415 -- help does not need it

    async def acting() -> Any:
        database = await Database.open(settings.database, witness=settings.witness, archive=settings.archive_directory)
        try:
            await database.migrate(report)
            return await act(database)
        finally:
            await database.close()

    try:
        return asyncio.run(acting())
    except ControlError as exc:
        fail(str(exc), FAILED)


async def _nothing_more(_: object) -> None:
    """Opening and migrating was all."""


if __name__ == "__main__":
    main()
