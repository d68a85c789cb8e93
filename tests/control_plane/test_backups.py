"""`sidemeter-control backup` and `restore`, as an operator runs them."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest
from planes import control
from processes import ADMIN_KEY, ControlPlane, control_plane

STORED = "{ events(first: 100) { edges { node { id } } } }"


async def online(plane: ControlPlane, file: Path, *arguments: str, exit_code: int = 0, key: str = ADMIN_KEY) -> str:
    return await asyncio.to_thread(
        control, "backup", str(file), "--url", plane.url, *arguments, exit_code=exit_code, SIDEMETER_ADMIN_KEY=key
    )


async def beside(plane: ControlPlane, *arguments: str) -> str:
    """What a command says that is refused because the control plane is running."""
    return await asyncio.to_thread(control, *arguments, "--database", f"sqlite:///{plane.database}", exit_code=1)


def names(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


async def ingest(plane: ControlPlane, *ids: str) -> None:
    events = [{"id": each, "type": "call", "subject": "acme"} for each in ids]
    answer = await plane.http.post(f"{plane.url}/v1/events", json=events)
    assert answer.json()["accepted"] == len(ids)


async def stored(plane: ControlPlane) -> set[str]:
    return {edge["node"]["id"] for edge in (await plane.ask(STORED))["events"]["edges"]}


async def test_a_backup_of_a_running_control_plane_comes_back_as_it_was_and_what_was_there_is_kept(
    tmp_path: Path,
) -> None:
    backup = tmp_path / "backup"
    async with control_plane(tmp_path) as plane:
        await ingest(plane, "a", "b")
        said = await online(plane, backup)
        assert re.fullmatch(rf"{backup}: 2 events, the last of \S+; \d+ bytes, schema \d+, checked\n", said)
        assert oct(backup.stat().st_mode & 0o777) == "0o600"
        await ingest(plane, "c")
        assert "another process has the database open" in await beside(plane, "restore", str(backup))
        assert await stored(plane) == {"a", "b", "c"}
        plane.kill()  # its log is then still there
        said = control("restore", str(backup), "--database", f"sqlite:///{plane.database}")
        aside = re.search(r"what was there before is (\S+)", said)
        assert aside
        assert "agents see the new generation gen_" in said
        await plane.start()
        assert await stored(plane) == {"a", "b"}
        await plane.stop()
        # Its log lies beside it, so that nothing is lost.
        for companion in ("", "-wal", "-shm"):
            shutil.move(f"{aside[1]}{companion}", f"{plane.database}{companion}")
        await plane.start()
        assert await stored(plane) == {"a", "b", "c"}


def test_each_restore_is_a_new_generation(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/control.db"
    control("migrate", "--database", database)
    control("backup", f"{tmp_path}/b", "--database", database)
    found = [re.search(r"gen_\w+", control("restore", f"{tmp_path}/b", "--database", database)) for _ in range(2)]
    assert all(found)
    assert len({each[0] for each in found if each}) == 2


def test_a_stopped_control_plane_is_backed_up_without_a_key_and_restored_into_an_empty_directory(
    tmp_path: Path,
) -> None:
    database = f"sqlite:///{tmp_path}/control.db"
    control("keys", "create", "k", "--scope", "READ", "--database", database)
    listed = control("keys", "list", "--database", database)
    control("backup", f"{tmp_path}/b", "--database", database)
    said = control("restore", f"{tmp_path}/b", "--database", f"sqlite:///{tmp_path}/empty/here/control.db")
    assert "before" not in said
    assert control("keys", "list", "--database", f"sqlite:///{tmp_path}/empty/here/control.db") == listed


async def test_a_backup_is_never_overwritten_unless_asked_for(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        backup = tmp_path / "backup"
        backup.write_text("precious")
        assert "is there already" in await online(plane, backup, exit_code=1)
        assert backup.read_text() == "precious"
        await online(plane, backup, "--replace")
        assert backup.stat().st_size > 4096
        assert names(tmp_path) == {
            "backup",
            "control.db",
            "control.db-wal",
            "control.db-shm",
            "control.db.holders",
            "control.db.lock",
            "control.log",
        }


async def test_what_cannot_be_backed_up_is_one_clear_line(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        agents_key = await plane.new_key("AGENT")
        file = tmp_path / "b"
        refusals = [
            await online(plane, file, exit_code=1, key=agents_key),
            await online(plane, file, exit_code=2, key=""),
            await online(plane, tmp_path / "no" / "b", exit_code=1),
            await beside(plane, "backup", str(file)),
        ]
        await plane.stop()
        refusals.append(await online(plane, file, exit_code=1))
        assert [len(each.splitlines()) for each in refusals] == [1] * 5, refusals
        assert "answered 403: the key lacks the scope ADMIN" in refusals[0]
        assert "SIDEMETER_ADMIN_KEY: must be set" in refusals[1]
        assert f"{tmp_path}/no/b: No such file or directory" in refusals[2]
        assert "another process has the database open" in refusals[3]
        assert f"{plane.url}: ConnectError" in refusals[4]
        assert not file.exists()


def test_a_damaged_backup_is_refused_by_name_and_changes_nothing(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/control.db"
    control("migrate", "--database", database)
    control("backup", f"{tmp_path}/b", "--database", database)
    whole = (tmp_path / "b").read_bytes()
    before = (tmp_path / "control.db").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"", os.urandom(5000)):
        (tmp_path / "b").write_bytes(damaged)
        said = control("restore", f"{tmp_path}/b", "--database", database, exit_code=1)
        assert re.match(rf"sidemeter-control: {tmp_path}/b: is (damaged|no database)", said), said
        assert len(said.splitlines()) == 1
    said = control("restore", f"{tmp_path}/control.db", "--database", database, exit_code=1)
    assert "FILE: must not be the database itself" in said
    assert (tmp_path / "control.db").read_bytes() == before
    assert names(tmp_path) == {"b", "control.db", "control.db.lock"}


@pytest.mark.parametrize("command", ["serve", "migrate", "keys"])
def test_a_start_on_a_damaged_database_names_the_file_and_the_way_out(tmp_path: Path, command: str) -> None:
    path = tmp_path / "control.db"
    path.write_bytes(b"this is no database" * 1000)
    arguments = [command, "list"] if command == "keys" else [command]
    said = control(*arguments, "--database", f"sqlite:///{path}", exit_code=1)
    assert (
        said
        == f"sidemeter-control: {path}: is no database; put a backup in its place: sidemeter-control restore FILE\n"
    )
