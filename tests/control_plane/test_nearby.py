"""`ready`: whether the control plane of this host takes requests, told by an exit code, over TLS as well."""

import asyncio
import re
import sys
from pathlib import Path

import httpx
import pytest
from certificates import OPENSSL, certificate
from processes import ADMIN_KEY, Program, control_plane, run

from sidemeter_control.errors import StoreUnavailable
from sidemeter_control.nearby import check_ready, url_of
from sidemeter_control.settings import Settings

COMMAND = ["-m", "sidemeter_control.cli"]
TLS_URL = re.compile(r"https://[\d.]+:(\d+)")


async def ready(*arguments: str, exit_code: int = 0, **environ: str) -> str:
    command = [sys.executable, *COMMAND, "ready", *arguments]
    return await asyncio.to_thread(lambda: run(*command, exit_code=exit_code, **environ))


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8780", "http://127.0.0.1:8780"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("10.1.2.3:80", "http://10.1.2.3:80"),
    ],
)
def test_one_that_listens_everywhere_is_asked_on_loopback(listen: str, url: str) -> None:
    assert url_of(Settings(listen=listen)) == url
    assert url_of(Settings(listen=listen, tls_cert="c", tls_key="k")) == url.replace("http:", "https:")


@pytest.mark.parametrize(("alive", "path"), [(False, "/readyz"), (True, "/healthz")])
def test_what_it_answers_is_named(alive: bool, path: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if request.url.path == path else 200, text="the disk is full")

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(StoreUnavailable, match="http://x: answered 503: the disk is full"):
            check_ready(http, "http://x", alive=alive)
        check_ready(http, "http://x", alive=not alive)


async def test_the_command_tells_by_its_exit_code(tmp_path: Path) -> None:
    async with control_plane(tmp_path, host="0.0.0.0") as plane:
        listen = f"0.0.0.0:{plane.port}"
        assert await ready(SIDEMETER_LISTEN=listen, HTTP_PROXY="http://127.0.0.1:1") == ""
        assert await ready("--alive", "--listen", listen) == ""
        assert await ready("--url", plane.url.replace("0.0.0.0", "127.0.0.1")) == ""
        plane.kill()
        assert f"http://127.0.0.1:{plane.port}: ConnectError" in await ready("--listen", listen, exit_code=1)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
async def test_its_own_certificate_is_enough_whatever_name_it_is_for(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    database = f"sqlite:///{tmp_path / 'control.db'}"
    tls = {"SIDEMETER_TLS_CERT": str(cert), "SIDEMETER_TLS_KEY": str(key)}
    arguments = ["serve", "--database", database, "--listen", "127.0.0.2:0"]
    with Program([*COMMAND, *arguments], tmp_path / "log", SIDEMETER_ADMIN_KEY=ADMIN_KEY, **tls) as program:
        program.spawn()
        port = (await program.says(TLS_URL))[1]
        assert await ready("--listen", f"127.0.0.2:{port}", **tls) == ""
        assert "CERTIFICATE_VERIFY_FAILED" in await ready("--url", f"https://127.0.0.2:{port}", exit_code=1)
        with Program(
            [*COMMAND, "doctor", "--database", database, "--listen", f"127.0.0.2:{port}"],
            tmp_path / "doctor",
            SIDEMETER_ADMIN_KEY=ADMIN_KEY,
            **tls,
        ) as doctor:
            doctor.spawn()
            assert await doctor.exit_code() in {0, 3}  # a slow disk is a warning
            told = doctor.log.read_text()
        assert "readiness: it takes events" in told
        assert await program.stop() == 0
        gone = tls | {"SIDEMETER_TLS_CERT": str(tmp_path / "none")}
        assert str(tmp_path / "none") in await ready("--listen", f"127.0.0.2:{port}", exit_code=1, **gone)
