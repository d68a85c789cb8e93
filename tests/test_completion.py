"""Completion of both commands: what they print for a shell works in it, and every shell's protocol is answered."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run, without_settings

PROGRAMS = {"sidemeter": "sidemeter.cli", "sidemeter-control": "sidemeter_control.cli"}
WORDS = {"sidemeter": ("do", "doctor"), "sidemeter-control": ("rest", "restore")}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def script(program: str, shell: str) -> str:
    return run(sys.executable, "-m", PROGRAMS[program], "completion", shell)


@pytest.fixture
def path(tmp_path: Path, program: str) -> str:
    """A PATH on which the command is, as an installation puts it there."""
    command = tmp_path / program
    command.write_text(f"#!{sys.executable}\nfrom {PROGRAMS[program]} import main\nmain(prog_name={program!r})\n")
    command.chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_and_options(program: str, path: str) -> None:
    function = f"_{program.replace('-', '_')}_completion"
    part, whole = WORDS[program]
    for words, expected in ((part, whole), (f"{whole} --dat", "--dat")):
        given = f"{program} {words}".split()
        asked = f"""COMP_WORDS=({" ".join(given)}); COMP_CWORD={len(given) - 1}; {function} {program}; echo "${{COMPREPLY[*]}}" """
        done = subprocess.run(
            ["bash", "--norc", "-c", script(program, "bash") + "\n" + asked],
            env=without_settings(PATH=path), capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert expected in done.stdout, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_theirs_and_are_answered(program: str, path: str, shell: str) -> None:
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    assert f"{variable}={shell}_complete" in script(program, shell)
    part, whole = WORDS[program]
    cword = part if shell == "fish" else "1"
    printed = run(
        str(Path(path.split(":", maxsplit=1)[0]) / program),
        **{variable: f"{shell}_complete", "COMP_WORDS": f"{program} {part}", "COMP_CWORD": cword},
    )
    assert whole in printed


def test_another_shell_is_wrong_use(program: str) -> None:
    assert "'bash', 'zsh', 'fish'" in run(sys.executable, "-m", PROGRAMS[program], "completion", "csh", exit_code=2)
