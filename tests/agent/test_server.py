"""Doors: who may open the socket, what is found in its place, and what is left behind."""

import socket
import stat
from pathlib import Path

import pytest

from sidemeter.server import Doors


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def test_only_the_owner_may_use_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    with Doors(path, None) as doors:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert doors.names == [f"unix:{path}"]
        assert connects(path)
    assert not path.exists()


def test_the_socket_of_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert not connects(path)
    with Doors(path, None):
        assert connects(path)


def test_the_socket_of_a_live_agent_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with Doors(path, None):
        with pytest.raises(OSError, match="another process answers on it"):
            Doors(path, None)
        assert connects(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="is not a socket"):
        Doors(path, None)
    assert path.read_text() == "precious"


def test_a_successors_socket_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    first = Doors(path, None)
    path.unlink()
    with Doors(path, None):
        first.close()
        assert connects(path)


@pytest.mark.parametrize(
    ("listen", "name"), [("127.0.0.1:0", "http://127.0.0.1:"), ("localhost:0", "http://127.0.0.1:")]
)
def test_port_zero_takes_a_free_port_and_tells_it(listen: str, name: str) -> None:
    with Doors(None, listen) as doors:
        port = doors.sockets[0].getsockname()[1]
        assert port > 0
        assert doors.names == [f"{name}{port}"]


def test_a_taken_port_is_named_and_no_socket_is_left(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with Doors(None, "127.0.0.1:0") as doors:
        listen = doors.names[0].removeprefix("http://")
        with pytest.raises(OSError, match=listen):
            Doors(path, listen)
    assert not path.exists()
