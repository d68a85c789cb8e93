"""The command `sidemeter`: run the agent as a sidecar, or ask one from a shell."""

import asyncio
import dataclasses
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click
import msgspec
from click.shell_completion import get_completion_class

from sidemeter.answers import DecisionAnswer, encode
from sidemeter.errors import InvalidInput, SettingsError, SidemeterError
from sidemeter.events import Receipt
from sidemeter.limits import Decision
from sidemeter.settings import ENVIRON_PREFIX, Settings

if TYPE_CHECKING:
    from sidemeter.client import Client
    from sidemeter.premises import Finding

__all__ = ["main"]

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
Ask = Callable[["Client"], Awaitable[T]]

FAILED, WRONG_USE, DENIED = 1, 2, 3
WARNED = 3
_ANSWERS_WITHIN_S: Final = 5.0
NOT_OPTIONS = frozenset({"api_key"})  # everybody on the host can read a command line


@click.group(help=__doc__)
@click.version_option(package_name="sidemeter", prog_name="sidemeter")
def main() -> None:
    """Every command exits 0 when done, 1 when it failed, 2 when it was called wrongly."""


def _settings_options(command: Command) -> Command:
    for each in reversed(dataclasses.fields(Settings)):
        if each.name not in NOT_OPTIONS:
            default = "" if each.default in (dataclasses.MISSING, None) else f"; default {each.default}"
            text = f"{each.metadata['help']} [{ENVIRON_PREFIX}{each.name.upper()}{default}]"
            command = click.option(_option_name(each.name), each.name, metavar="VALUE", help=text)(command)
    return command


def _option_name(setting: str) -> str:
    return "--" + setting.replace("_", "-")


@main.command()
@_settings_options
def agent(**options: str | None) -> None:
    """Run the agent beside a service until SIGTERM or SIGINT, then drain.

    Prints one line once its doors are open; logs to stderr. Each option is also an environment variable; the key for
    the control plane is only SIDEMETER_API_KEY.
    """
    settings = _settings(options)
    from sidemeter import logs, server, traces  # noqa: PLC0415 -- brings the web server, which help does not need

    try:
        with traces.exported(settings) as ids:
            logs.configure(settings.log_format, settings.log_level, secrets=_secrets(settings), ids=ids)
            server.run(settings, click.echo)
    except SettingsError as exc:
        _fail(f"{_option_name(exc.field)}: {exc.rule}", WRONG_USE)
    except (SidemeterError, OSError) as exc:
        _fail(str(exc), FAILED)


def _settings(options: dict[str, str | None]) -> Settings:
    try:
        return Settings.from_environ(os.environ, **options)
    except SettingsError as exc:
        name = _option_name(exc.field) if exc.field in options else exc.field
        _fail(f"{name}: {exc.rule}", WRONG_USE)


def _secrets(settings: Settings) -> list[str]:
    return [settings.api_key] if settings.api_key else []


def _agent_options(command: Command) -> Command:
    """Where the agent is that a command asks."""
    socket = click.option(
        "--socket", type=click.Path(path_type=Path), help="Unix socket of the agent. [SIDEMETER_SOCKET]"
    )
    url = click.option("--url", help="http://HOST:PORT of the agent, instead of a socket.")
    return socket(url(command))


@main.command()
@click.argument("type", metavar="TYPE")
@click.argument("subject")
@click.argument("data", required=False)
@click.option("--id", help="Idempotency key: the same one again is counted once.")
@click.option("--time", help="When it happened, RFC 3339 with offset; default now.")
@click.option("--source", help="Default: the agent's service.")
@_agent_options
def record(socket: Path | None, url: str | None, data: str | None, **event: Any) -> None:
    """Record one event and print its receipt once it is on disk; DATA is a JSON object.

    sidemeter record llm.completion acme '{"input_tokens": 812}'
    """

    async def ask(client: "Client") -> Receipt:
        return await client.record(data=_object(data), **event)

    click.echo(encode(_asked(ask, socket, url)))


_parse_object: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def _object(text: str | None) -> Any:
    try:
        return None if text is None else _parse_object(text)
    except msgspec.DecodeError as exc:
        raise InvalidInput("data", f"must be a JSON object: {exc}") from exc


@main.command()
@click.argument("subject")
@click.argument("feature")
@click.argument("quantity", default="1")
@_agent_options
def check(socket: Path | None, url: str | None, subject: str, feature: str, quantity: str) -> None:
    """Print whether SUBJECT may use FEATURE now, QUANTITY of it; exits 0 for yes, 3 for no."""

    async def ask(client: "Client") -> Decision:
        return await client.check(subject, feature, quantity)

    decision = _asked(ask, socket, url)
    click.echo(encode(DecisionAnswer.of(decision)))
    if not decision.allowed:
        sys.exit(DENIED)


@main.command()
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def doctor(as_json: bool, **options: str | None) -> None:
    """Look at everything that an agent with these settings needs, and say what to do.

    Configuration, data directory, disk, memory, a running agent, the control plane, key, versions and clocks; give it the
    environment and options of the agent. It changes nothing. Exits 0 when all is ok, 3 when there is something to warn
    of, 1 when something fails.
    """
    from sidemeter import doctor as examining  # noqa: PLC0415 -- brings the HTTP client, which help does not need
    from sidemeter.clock import SystemClock  # noqa: PLC0415
    from sidemeter.premises import Finding  # noqa: PLC0415
    from sidemeter.uplink import Link  # noqa: PLC0415

    async def examine(settings: Settings) -> "list[Finding]":
        url = f"http://{settings.listen}" if settings.listen and not settings.socket else None
        socket = None if url else settings.socket or settings.data_dir / "agent.sock"
        agent = Link(url=url, socket=socket, timeout_s=_ANSWERS_WITHIN_S)
        plane = Link(url=settings.control_plane, timeout_s=_ANSWERS_WITHIN_S) if settings.control_plane else None
        try:
            return await examining.examine(settings, os.environ, SystemClock(), agent=agent, plane=plane)
        finally:
            await agent.close()
            if plane is not None:
                await plane.close()

    try:
        findings = asyncio.run(examine(Settings.from_environ(os.environ, **options)))
    except SettingsError as exc:
        name = _option_name(exc.field) if options.get(exc.field) else exc.field
        wrong = Finding("configuration", "fail", f"{name}: {exc.rule}", "sidemeter agent --help has every rule")
        findings = [wrong, *examining.misspelled(os.environ)]
    statuses = {each.status for each in findings}
    worst = next(status for status in ("fail", "warn", "ok") if status in statuses)
    if as_json:
        click.echo(encode({"status": worst, "findings": findings}))
    else:
        _show(findings)
    sys.exit({"ok": 0, "warn": WARNED, "fail": FAILED}[worst])


def _show(findings: "Sequence[Finding]") -> None:
    """One line for each, and what to do below it; coloured on a terminal."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for each in findings:
        click.echo(f"{click.style(f'{each.status:<5}', fg=colours[each.status])}{each.check}: {each.found}")
        if each.advice:
            click.echo(f"     → {each.advice}")


@main.command()
@_agent_options
@click.option("--alive", is_flag=True, help="Ask only whether it answers, not whether it takes events.")
def ready(socket: Path | None, url: str | None, alive: bool) -> None:
    """Exit 0 if the agent takes events, 1 if not: a health check where there is no curl."""
    from sidemeter.uplink import Link  # noqa: PLC0415 -- brings the HTTP client, which help does not need

    path = None if url else socket or _default_socket()

    async def ask() -> None:
        link = Link(url=url, socket=path, timeout_s=_ANSWERS_WITHIN_S)
        try:
            answer = await link.request("GET", "/healthz" if alive else "/readyz")
        finally:
            await link.close()
        if answer.status != 200:
            _fail(f"{url or path}: answered {answer.status}: {answer.body[:200].decode(errors='replace')}", FAILED)

    try:
        asyncio.run(ask())
    except SidemeterError as exc:
        _fail(str(exc), FAILED)


@main.command()
@_agent_options
@click.option("--every", "every_s", type=click.FloatRange(0.1, 3600), default=1.0, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="One screen as plain text, of the rates between two looks.")
def top(socket: Path | None, url: str | None, every_s: float, once: bool) -> None:
    """Show what an agent does, live: rates, backlog, leases, and the limits that end soonest. Ctrl-C ends it.

    Where it does not write to a terminal, as with --once.
    """
    from sidemeter import top as watching  # noqa: PLC0415 -- brings the HTTP client, which help does not need
    from sidemeter.clock import SystemClock  # noqa: PLC0415
    from sidemeter.uplink import Link  # noqa: PLC0415

    path = None if url else socket or _default_socket()

    async def watch() -> None:
        link = Link(url=url, socket=path)
        try:
            await watching.watch(link, url or str(path), SystemClock(), every_s=every_s, once=once)
        finally:
            await link.close()

    try:
        asyncio.run(watch())
    except SidemeterError as exc:
        _fail(str(exc), FAILED)
    except KeyboardInterrupt:
        sys.exit(0)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what lets a SHELL complete this command's words.

    \b
    bash:  echo 'eval "$(sidemeter completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(sidemeter completion zsh)"' >> ~/.zshrc
    fish:  sidemeter completion fish > ~/.config/fish/completions/sidemeter.fish
    """
    made = get_completion_class(shell)
    if made is None:
        _fail(f"{shell} is not known", WRONG_USE)
    click.echo(made(ctx.find_root().command, {}, "sidemeter", "_SIDEMETER_COMPLETE").source())


def _asked(ask: "Ask[T]", socket: Path | None, url: str | None) -> T:
    """What the agent answers, or the end of the command with its error."""
    from sidemeter.client import Client  # noqa: PLC0415 -- brings the HTTP client, which help does not need

    async def asking() -> T:
        async with Client(socket=None if url else socket or _default_socket(), url=url) as client:
            return await ask(client)

    try:
        return asyncio.run(asking())
    except InvalidInput as exc:
        _fail(str(exc), WRONG_USE)
    except SidemeterError as exc:
        _fail(str(exc), FAILED)


def _default_socket() -> Path:
    """Where `sidemeter agent` opens its socket under the same environment."""
    socket = os.environ.get("SIDEMETER_SOCKET")
    return Path(socket) if socket else Path(os.environ.get("SIDEMETER_DATA_DIR") or "sidemeter-data") / "agent.sock"


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"sidemeter: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
