"""What commands have in common that are set up as the control plane is: options from settings, errors as exit codes."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar

import click

from sidemeter_control.errors import ControlError, SettingsError
from sidemeter_control.settings import ENVIRON_PREFIX, Settings

__all__ = ["FAILED", "WARNED", "WRONG_USE", "fail", "reported", "settings_of", "settings_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

FAILED: Final = 1
WRONG_USE: Final = 2
WARNED: Final = 3
_NOT_OPTIONS = frozenset({"admin_key"})  # everybody on the host can read a command line


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Options for the settings of those names; without names for all of them."""

    def decorate(command: Command) -> Command:
        for each in reversed(dataclasses.fields(Settings)):
            if each.name not in _NOT_OPTIONS and (not names or each.name in names):
                text = f"{each.metadata['help']} [{ENVIRON_PREFIX}{each.name.upper()}; default {_shown_default(each.default)}]"
                command = click.option("--" + each.name.replace("_", "-"), each.name, metavar="VALUE", help=text)(
                    command
                )
        return command

    return decorate


def _shown_default(value: object) -> object:
    """As it would be written."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in {None, ()} else value


def settings_of(options: dict[str, str | None]) -> Settings:
    """The settings, or the end of the command with the rule that one of them breaks."""
    try:
        return Settings.from_environ(os.environ, **options)
    except SettingsError as exc:
        name = "--" + exc.field.replace("_", "-") if exc.field in options else exc.field
        fail(f"{name}: {exc.rule}", WRONG_USE)


@contextlib.contextmanager
def reported() -> Iterator[Callable[[str, int, int], None]]:
    """What takes the steps of a long command and shows them on a terminal; at the end of a failed one, its error."""
    from sidemeter_control import progress  # noqa: PLC0415 -- help does not need it

    try:
        with progress.shown() as report:
            yield report
    except SettingsError as exc:
        fail(f"--{exc.field}: {exc.rule}", WRONG_USE)
    except (ControlError, OSError) as exc:
        fail(str(exc), FAILED)


def fail(message: str, code: int) -> NoReturn:
    """End the command with one line on stderr."""
    click.echo(f"sidemeter-control: {message}", err=True)
    sys.exit(code)
