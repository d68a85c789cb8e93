"""The command, in processes of its own: its start, its refusals, its end."""

import json
import re
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest
from processes import URL, ControlPlane, Program, control_plane, run, spawned

COMMAND = ["-m", "sidemeter_control.cli"]
SHOWN = re.compile(r"admin key, shown only now: (smk_\S+)")


def serve(directory: Path, *arguments: str, **environ: str) -> Program:
    database = f"sqlite:///{directory}/control.db"
    command = [*COMMAND, "serve", "--database", database, "--listen", "127.0.0.1:0", *arguments]
    program = Program(command, directory / "control.log", **environ)
    program.launch = spawned  # here it is the start itself that is looked at
    return program


def control(*arguments: str, exit_code: int = 0, **environ: str) -> str:
    return run(sys.executable, *COMMAND, *arguments, exit_code=exit_code, **environ)


async def scopes_of(url: str, secret: str) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, json={"query": "{ __typename }"}, headers={"Authorization": f"Bearer {secret}"})
        return answer.status_code


async def test_the_first_start_prints_an_admin_key_that_works_and_the_second_prints_none(tmp_path: Path) -> None:
    with serve(tmp_path) as program:
        program.spawn()
        url = (await program.says(URL))[0] + "/graphql"
        secret = SHOWN.search(program.log.read_text())
        assert secret
        assert await scopes_of(url, secret[1]) == 200
        assert await scopes_of(url, secret[1] + "x") == 401
        assert await program.stop() == 0
        program.log.unlink()
        program.spawn()
        url = (await program.says(URL))[0] + "/graphql"
        assert await scopes_of(url, secret[1]) == 200
        assert not SHOWN.search(program.log.read_text())
        assert await program.stop() == 0


async def test_a_key_from_the_environment_is_never_printed(tmp_path: Path) -> None:
    with serve(tmp_path, SIDEMETER_ADMIN_KEY="given-by-the-operator") as program:
        program.spawn()
        url = (await program.says(URL))[0] + "/graphql"
        assert await scopes_of(url, "given-by-the-operator") == 200
        assert await program.stop() == 0
        assert "given-by-the-operator" not in program.log.read_text()
        assert not SHOWN.search(program.log.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_zero(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path) as program:
        program.spawn()
        await program.says(URL)
        assert program.process
        program.process.send_signal(number)
        assert await program.exit_code() == 0


async def test_the_database_file_is_its_owners_alone(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        assert plane.database.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["--listen", "nowhere"], {}, "--listen: must be HOST:PORT"),
        (["--database", "oracle://x"], {}, "--database: must be sqlite:///PATH"),
        (["--max-future-s", "soon"], {}, "--max-future-s: must be a whole number"),
        ([], {"SIDEMETER_LISTEN": "1:2:3"}, "SIDEMETER_LISTEN: must be HOST:PORT"),
        ([], {"SIDEMETER_ADMIN_KEY": "two words"}, "SIDEMETER_ADMIN_KEY: must be 1 to 256"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_rule(arguments: list[str], environ: dict[str, str], says: str) -> None:
    printed = control("serve", *arguments, exit_code=2, **environ)
    assert printed.startswith(f"sidemeter-control: {says}")
    assert len(printed.splitlines()) == 1


def test_a_taken_address_is_refused_with_its_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        printed = control("serve", "--database", f"sqlite:///{tmp_path}/c.db", "--listen", listen, exit_code=1)
    assert listen in printed


async def test_a_second_process_on_the_database_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        printed = control("migrate", "--database", f"sqlite:///{plane.database}", exit_code=1)
        assert "another process has the database open" in printed


async def test_keys_are_made_listed_and_revoked_by_command(tmp_path: Path) -> None:
    database = ["--database", f"sqlite:///{tmp_path}/control.db"]
    assert control("migrate", *database) == "the database is up to date\n"
    secret = control("keys", "create", "dashboard", "--scope", "READ", *database).strip()
    (listed,) = map(json.loads, control("keys", "list", *database).splitlines())
    assert (listed["name"], listed["scopes"], listed["state"]) == ("dashboard", ["READ"], "in force")
    assert secret not in json.dumps(listed)
    plane = ControlPlane(tmp_path)
    with plane:
        async with plane.http:
            await plane.start()
            assert await scopes_of(f"{plane.url}/graphql", secret) == 200
            assert await plane.stop() == 0
            control("keys", "revoke", listed["id"], *database)
            await plane.start()
            assert await scopes_of(f"{plane.url}/graphql", secret) == 401


def test_a_keys_secret_is_replaced_by_command_and_the_list_says_what_it_is_for(tmp_path: Path) -> None:
    database = ["--database", f"sqlite:///{tmp_path}/control.db"]
    made = control("keys", "create", "chat", "--scope", "AGENT", "--service", "chat", "--days", "30", *database).strip()
    (listed,) = map(json.loads, control("keys", "list", *database).splitlines())
    assert (listed["service"], listed["customer"], listed["prefix"]) == ("chat", None, made[:8])
    assert (listed["expires"] > "2020", listed["last_used"]) == (True, None)
    secret = control("keys", "rotate", listed["id"], "--overlap", "60", *database).strip()
    assert secret != made
    (again,) = map(json.loads, control("keys", "list", *database).splitlines())
    assert again == listed | {"prefix": secret[:8]}
    assert "there is no key in force" in control("keys", "rotate", "key_x", *database, exit_code=1)
    refused = control("keys", "create", "n", "--scope", "READ", "--customer", "nobody", *database, exit_code=1)
    assert "there is no customer 'nobody'" in refused


def test_an_unknown_key_cannot_be_revoked(tmp_path: Path) -> None:
    printed = control("keys", "revoke", "key_x", "--database", f"sqlite:///{tmp_path}/c.db", exit_code=1)
    assert "there is no key in force 'key_x'" in printed


@pytest.mark.parametrize(
    "command", [["--help"], ["serve", "--help"], ["keys", "create", "--help"], ["audit", "verify", "--help"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    assert "Usage:" in control(*command)


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    text = " ".join(control("serve", "--help").split())
    assert "[SIDEMETER_LISTEN; default 127.0.0.1:8780]" in text
    assert "[SIDEMETER_MAX_FUTURE_S; default 3600]" in text
