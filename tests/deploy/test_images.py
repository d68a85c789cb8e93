"""The Dockerfile and the Compose file, read as what runs them reads them; and both programs run as the images run them."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml
from deployed import DEPLOY, NOBODY, ROOT, VERSION, check_command, settings_of
from processes import ADMIN_KEY, URL, Program, control_plane, run, spawned

from sidemeter.settings import Settings as AgentSettings
from sidemeter_control.settings import Settings as ControlSettings
from sidemeter_control.settings import host_and_port

DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS: Final = {"agent": "sidemeter", "control-plane": "sidemeter-control"}
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")

Stage = list[tuple[str, str]]


def stages() -> dict[str, Stage]:
    """Each stage's instructions with their arguments, those of the stages that it is made from first."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, Stage] = {}
    stage: Stage = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.split()
            stage = found[name] = [*found.get(base, [])]
        if word:
            stage.append((word, rest.strip()))
    return found


def last(stage: Stage, instruction: str) -> str:
    return [rest for word, rest in stage if word == instruction][-1]


def variables(stage: Stage) -> dict[str, str]:
    return dict(pair.split("=", 1) for word, rest in stage if word == "ENV" for pair in rest.split())


STAGES = stages()
IMAGES = ("agent", "sample-service", "control-plane")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_the_linter_has_nothing_to_say() -> None:
    assert HADOLINT
    done = subprocess.run([HADOLINT, "--no-color", DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_named_by_a_tag_that_says_what_it_is() -> None:
    arguments = dict(re.findall(r"^ARG (BUILD|RUNTIME)=(\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE))
    for base in arguments.values():
        assert re.fullmatch(r"[\w./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", base)
        assert not base.endswith(":latest")
    used = {rest.split()[0] for stage in STAGES.values() for word, rest in stage if word == "FROM"}
    assert used <= {"${BUILD}", "${RUNTIME}", *STAGES}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_without_root_and_without_what_its_base_lacks(image: str) -> None:
    stage = STAGES[image]
    assert last(stage, "USER") == f"{NOBODY}:{NOBODY}"
    words = [word for word, _ in stage]
    assert "ADD" not in words
    assert "RUN" not in words  # there is no shell
    for instruction in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(last(stage, instruction)), list)  # nor one to read a command line


def test_nothing_is_installed_that_is_not_pinned_with_a_hash() -> None:
    installs = [rest for stage in STAGES.values() for word, rest in stage if word == "RUN" and " install " in rest]
    pips = [each for rest in installs for each in rest.split("&&") if "/pip " in each and " install " in each]
    assert len(pips) >= 4
    assert all("--require-hashes" in each for each in pips)
    assert "ADD" not in {word for stage in STAGES.values() for word, _ in stage}
    assert "curl" not in DOCKERFILE.read_text()


@pytest.mark.parametrize("image", OURS)
def test_an_image_starts_its_program_and_asks_it_how_it_is(image: str) -> None:
    stage, program = STAGES[image], OURS[image]
    assert json.loads(last(stage, "ENTRYPOINT")) == [program]
    check_command([program, *json.loads(last(stage, "CMD"))])
    check_command(json.loads(last(stage, "HEALTHCHECK").partition(" CMD ")[2]))
    given = {name: value for name, value in variables(stage).items() if name.startswith("SIDEMETER_")}
    volumes = [Path(each) for word, rest in stage if word == "VOLUME" for each in json.loads(rest)]
    settings = settings_of(program, given | ({"SIDEMETER_SERVICE": "chat"} if image == "agent" else {}))
    if isinstance(settings, AgentSettings):
        assert settings.socket
        assert {settings.data_dir, settings.socket.parent} == set(volumes)
    if isinstance(settings, ControlSettings):
        assert Path(settings.database.removeprefix("sqlite:///")).parent in volumes
        assert last(stage, "EXPOSE") == str(host_and_port(settings.listen)[1])
    assert Path(last(stage, "WORKDIR")) in volumes  # what is written to by default


def test_what_is_copied_is_there_and_let_into_the_build() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = {
        word
        for stage in STAGES.values()
        for instruction, rest in stage
        if instruction == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    }
    assert copied == set(allowed)
    for each in copied:
        assert list(ROOT.glob(each)), each
    project = (ROOT / "pyproject.toml").read_text()
    for each in ("README.md", "LICENSE"):  # the wheel's own
        assert each in project
        assert each in copied


def test_the_extras_of_the_images_exist() -> None:
    given = dict(re.findall(r"^ARG (\w+_EXTRAS)=(\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE))
    assert given.keys() == {"AGENT_EXTRAS", "CONTROL_PLANE_EXTRAS"}
    declared = set(re.findall(r"^([a-z-]+) = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE))
    assert {extra for extras in given.values() for extra in extras.split(",")} <= declared


def test_compose_takes_the_file() -> None:
    found = find_spec("check_jsonschema")
    if found is None or found.origin is None:
        pytest.skip("check-jsonschema is not installed")
    schema = Path(found.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_service_has_more_rights_than_it_needs(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == f"{NOBODY}:{NOBODY}"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_made_of_what_there_is(name: str) -> None:
    service = COMPOSE["services"][name]
    if "build" in service:
        build = service["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE
        assert build["target"] in STAGES
        assert service["image"] == f"sidemeter-{name.replace('control-plane', 'control')}:{VERSION}"
    else:
        assert re.search(r":\d", service["image"])
    for source in (each.split(":")[0] for each in service["volumes"]):
        assert source in COMPOSE["volumes"] or (DEPLOY / source).exists()
    for other, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert last(STAGES[COMPOSE["services"][other]["build"]["target"]], "HEALTHCHECK") != "NONE"


@pytest.mark.parametrize(("name", "program"), [*OURS.items(), ("sample-service", "sidemeter")])
def test_a_service_takes_its_settings(name: str, program: str) -> None:
    service = COMPOSE["services"][name]
    filled = {"SIDEMETER_ADMIN_KEY": ADMIN_KEY, "SIDEMETER_API_KEY": "smk_agent"}
    given = {key: VARIABLE.sub(lambda each: filled[each[1]], value) for key, value in service["environment"].items()}
    settings_of(program, {k: v for k, v in (variables(STAGES[name]) | given).items() if k.startswith("SIDEMETER_")})
    mounts = [each.split(":")[1] for each in service["volumes"]]
    if program == "sidemeter":
        assert given["SIDEMETER_CELL_DIR"] in mounts
        assert variables(STAGES[name])["SIDEMETER_DATA_DIR"] in mounts
        server, port = "control-plane", host_and_port(variables(STAGES["control-plane"])["SIDEMETER_LISTEN"])[1]
        assert given["SIDEMETER_CONTROL_PLANE"] == f"http://{server}:{port}"


def confined(volume: Path) -> list[str]:
    """A command that runs what follows as the images do: as nobody, with no capability, on a root that nobody writes to."""
    prepare = (
        "findmnt --raw --noheadings --output TARGET,SOURCE | grep ' /dev/loop' | cut -d' ' -f1 | xargs --no-run-if-empty"
        " umount --lazy; "  # or what is unmounted meanwhile stays mounted here
        f'mount -t tmpfs -o mode=700,uid={NOBODY} tmpfs "$0" && mount -o remount,bind,ro / && cd "$0" && '
        f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --bounding-set=-all"
        ' --inh-caps=-all "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", prepare, str(volume)]


def unable() -> str | None:
    """Why programs cannot be confined here."""
    absent = [each for each in ("unshare", "setpriv", "mount") if shutil.which(each) is None]
    if absent:
        return f"{', '.join(absent)} is not installed"
    if os.geteuid() != 0:
        return "only root may mount"
    there = Path(sys.executable).absolute()
    needed = (*there.parents, *ROOT.parents, Path(tempfile.gettempdir()))
    closed = [each for each in needed if not each.stat().st_mode & 0o001]
    return f"{closed[0]} is closed to other users" if closed else None


@pytest.fixture
def volume() -> Iterator[Path]:
    """Where one can be mounted: pytest's own directories are closed to other users."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.skipif(unable() is not None, reason=unable() or "")
async def test_both_run_without_root_on_a_root_that_is_read_only(tmp_path: Path, volume: Path) -> None:
    closed = confined(volume)
    look = "import os; print(os.getuid(), os.statvfs('/').f_flag & os.ST_RDONLY)"
    assert await asyncio.to_thread(lambda: run(*closed, sys.executable, "-c", look)) == f"{NOBODY} {os.ST_RDONLY}\n"

    def launch(arguments: list[str], environ: dict[str, str], log: Path) -> Any:
        return spawned([*closed, *arguments], environ | {"TMPDIR": "/nowhere", "HOME": "/nowhere"}, log)

    given = variables(STAGES["control-plane"]) | {"SIDEMETER_LISTEN": "0.0.0.0:0"}
    given = {
        name: value.replace("/var/lib/sidemeter", str(volume))
        for name, value in given.items()
        if name.startswith("SIDEMETER_")
    }
    command = [sys.executable, "-m", "sidemeter_control.cli"]
    plane = Program([*command[1:], "serve"], tmp_path / "control.log", SIDEMETER_ADMIN_KEY=ADMIN_KEY, **given)
    plane.launch = launch
    with plane:
        plane.spawn()
        listen = f"0.0.0.0:{(await plane.says(URL))[1]}"
        await asyncio.to_thread(lambda: run(*command, "ready", "--listen", listen))
        agent = ["-m", "sidemeter.cli", "agent", "--service", "chat", "--data-dir", f"{volume}/agent"]
        agent += ["--cell-dir", str(volume), "--listen", "127.0.0.1:0", "--socket", f"{volume}/agent.sock"]
        program = Program(agent, tmp_path / "agent.log")
        program.launch = launch
        with program:
            program.spawn()
            url = (await program.says(URL))[0]
            asked = [sys.executable, "-m", "sidemeter.cli", "record", "call", "acme", "--url", url]
            assert '"durability":"disk"' in await asyncio.to_thread(lambda: run(*asked))
            assert await program.stop() == 0
        assert await plane.stop() == 0


async def test_keys_are_made_on_the_volume_before_the_first_start(tmp_path: Path) -> None:
    """As the guide has it for Compose: `keys create`, then `up`."""
    database = f"sqlite:///{tmp_path / 'control.db'}"
    command = [sys.executable, "-m", "sidemeter_control.cli", "keys", "create", "agents", "--scope", "AGENT"]
    secret = await asyncio.to_thread(lambda: run(*command, "--database", database))
    async with control_plane(tmp_path) as plane:
        headers = {"Authorization": f"Bearer {secret.strip()}"}
        about = await plane.http.get(f"{plane.url}/v1/about", headers=headers)
        assert about.json()["scopes"] == ["AGENT"]
