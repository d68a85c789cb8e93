"""What files for deployment say, held against the programs: variables, commands, paths and ports that are really there."""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

import sidemeter.cli
import sidemeter_control.cli
from sidemeter.settings import Settings as AgentSettings
from sidemeter_control.api.health import health_routes
from sidemeter_control.settings import Settings as ControlSettings

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NOBODY = 65532
COMMANDS: Mapping[str, click.Group] = {"sidemeter": sidemeter.cli.main, "sidemeter-control": sidemeter_control.cli.main}
SETTINGS = {"sidemeter": AgentSettings, "sidemeter-control": ControlSettings}

SECRETS = {
    "SIDEMETER_API_KEY": "smk_agent",
    "SIDEMETER_ADMIN_KEY": "smk_of_the_administrator",
    "SIDEMETER_DATABASE": "postgresql://meter:secret@db.example:5432/sidemeter?sslmode=verify-full",
}
"""What a reference to a secret becomes."""


def settings_of(program: str, environ: Mapping[str, str]) -> AgentSettings | ControlSettings:
    """The settings that `program` starts with; a variable that it does not read, or a wrong value, fails the test."""
    kind = SETTINGS[program]
    ours = {name for name in environ if name.startswith("SIDEMETER_")}
    assert ours <= {f"SIDEMETER_{name.upper()}" for name in kind.__dataclass_fields__}
    return kind.from_environ(environ)


def check_command(command: str | Sequence[str]) -> None:
    """Fail unless the programs take that command, with those options and arguments."""
    program, *words = shlex.split(command) if isinstance(command, str) else command
    found: click.Command = COMMANDS[Path(program).name]
    context = click.Context(found)
    while isinstance(found, click.Group) and words:
        name, subcommand, words = found.resolve_command(context, words)
        assert subcommand is not None
        assert name is not None
        found, context = subcommand, click.Context(subcommand, parent=context, info_name=name)
    found.make_parser(context).parse_args(list(words))


def paths() -> set[str]:
    """Where the control plane answers without a body: health and figures."""
    nothing: object = None
    routes = health_routes(nothing, nothing, nothing, nothing, nothing, measured=nothing)
    return {each.path for each in routes}
