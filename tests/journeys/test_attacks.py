"""Each attack of control_plane/THREATS.md on a real process over real HTTP, and that it comes to nothing.

One control plane for all of them: an attack that broke it would be seen by the next one.
"""

import asyncio
import itertools
import json
import re
import socket
import sqlite3
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from certificates import OPENSSL, certificate
from processes import URL, Program, run

from sidemeter_control.access.attempts import FREE_GUESSES
from sidemeter_control.dashboard.files import DIGEST

COMMAND = ["-m", "sidemeter_control.cli"]
CHOSEN = "an-admin-key-that-somebody-chose"
NAMES = itertools.count(1)
COST = "query($c: ID!) { customer(key: $c) { key cost { total { amount } } } }"


@dataclass
class Plane:
    """A control plane that runs, and every secret that was ever given out by it or sent to it."""

    program: Program
    database: Path
    url: str
    secrets: list[str] = field(default_factory=lambda: [CHOSEN])
    open: ExitStack = field(default_factory=ExitStack)
    asker: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.asker = self.open.enter_context(httpx.Client(timeout=60))

    def ask(self, query: str, key: str | None = CHOSEN, **variables: object) -> Any:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.asker.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, headers=headers)

    def data(self, query: str, key: str = CHOSEN, **variables: object) -> Any:
        body = self.ask(query, key, **variables).json()
        assert "errors" not in body, body
        return body["data"]

    def codes(self, query: str, key: str, **variables: object) -> set[str]:
        return {error["extensions"]["code"] for error in self.ask(query, key, **variables).json()["errors"]}

    def key(self, *scopes: str, **only: str) -> tuple[str, str]:
        """The id and the secret of a new key."""
        given = {"name": f"key {next(NAMES)}", "scopes": scopes} | only
        made = self.data("mutation($i: ApiKeyInput!) { createApiKey(input: $i) { id secret } }", i=given)[
            "createApiKey"
        ]
        self.secrets.append(made["secret"])
        return made["id"], made["secret"]

    def link(self, customer: str = "acme", seconds: int = 3600) -> str:
        made = self.data(
            "mutation($c: ID!, $s: Int!) { createPortalLink(customer: $c, expiresInSeconds: $s) }",
            c=customer,
            s=seconds,
        )
        self.secrets.append(made["createPortalLink"].partition("#link=")[2])
        return self.secrets[-1]

    def browser(self, secret: str) -> httpx.Client:
        """A browser that has logged in."""
        client = self.open.enter_context(httpx.Client(base_url=self.url, timeout=60))
        answer = client.post("/session", json={"key": secret}, headers={"Origin": self.url})
        assert answer.status_code == 200, answer.text
        self.secrets.append(client.cookies["sidemeter"])
        return client


def started(program: Program, pattern: re.Pattern[str] = URL) -> str:
    program.spawn()
    return asyncio.run(program.says(pattern))[0]


def serve(directory: Path, *arguments: str, listen: str = "127.0.0.1:0", **environ: str) -> Program:
    options = ["serve", "--database", f"sqlite:///{directory}/control.db", "--listen", listen, *arguments]
    return Program([*COMMAND, *options], directory / "control.log", **environ)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    directory = tmp_path_factory.mktemp("attacked")
    trusted = {"SIDEMETER_PROXIES": "127.0.0.1", "SIDEMETER_ADMIN_KEY": CHOSEN}
    with serve(directory, **trusted) as program:
        made = Plane(program, directory / "control.db", started(program))
        for customer in ("acme", "globex"):
            made.data("mutation($c: ID!) { upsertCustomer(input: {key: $c}) { key } }", c=customer)
        with made.open:
            yield made


# --- without a key


@pytest.mark.parametrize("path", ["/graphql", "/metrics", "/v1/backup", "/v1/events", "/agent/v1/hello", "/session"])
def test_whoever_has_no_key_gets_nothing(plane: Plane, path: str) -> None:
    method = "GET" if path in {"/metrics", "/v1/backup", "/session"} else "POST"
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Cookie": "sidemeter=guess"}, {"Cookie": "sidemeter="}):
        own = headers | {"Origin": plane.url}
        answer = httpx.request(method, plane.url + path, headers=own, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_whoever_guesses_keys_waits_longer_and_longer(plane: Plane) -> None:
    with httpx.Client(base_url=plane.url, timeout=60) as client:

        def guess(key: str, source: str = "198.51.100.1") -> httpx.Response:
            headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": source}
            return client.get("/metrics", headers=headers)

        def until_it_waits() -> httpx.Response:
            answers = (guess(f"a-guess-{next(NAMES)}") for _ in range(FREE_GUESSES + 2))
            return next(answer for answer in answers if answer.status_code != 401)

        for _ in range(6):  # the first wait is a second, and may be over before the right key is tried
            late = until_it_waits()
            assert (late.status_code, late.json()["code"]) == (429, "too_many_attempts")
            assert int(late.headers["retry-after"]) >= 1
            right = guess(CHOSEN)
            if right.status_code == 429:
                break
        assert right.json()["code"] == late.json()["code"]  # it is not told apart from a wrong one
        assert guess(CHOSEN, "198.51.100.2").status_code == 200  # and nobody else waits


def test_a_made_up_address_does_not_help_where_no_proxy_is_trusted(tmp_path: Path) -> None:
    with serve(tmp_path, SIDEMETER_ADMIN_KEY=CHOSEN) as program:
        url = started(program)
        codes = []
        with httpx.Client(base_url=url, timeout=60) as client:
            for number in range(4 * FREE_GUESSES):
                headers = {"Authorization": f"Bearer guess-{number}", "X-Forwarded-For": f"198.51.100.{number}"}
                codes.append(client.get("/metrics", headers=headers).status_code)
        assert 429 in codes


def test_it_does_not_listen_to_other_machines_before_there_is_a_key(tmp_path: Path) -> None:
    database = ["--database", f"sqlite:///{tmp_path}/control.db"]
    command = [sys.executable, *COMMAND]
    said = run(*command, "serve", *database, "--listen", "0.0.0.0:0", exit_code=2)
    assert "there is no admin key yet" in said
    assert "sidemeter-control keys create" in said
    assert "smk_" not in said
    said = run(*command, "serve", *database, "--listen", "[::]:0", exit_code=2, SIDEMETER_ADMIN_KEY="short")
    assert "must have 16 characters or more" in said
    run(*command, "keys", "create", "admin", "--scope", "ADMIN", *database)
    with serve(tmp_path, listen="0.0.0.0:0") as program:
        assert started(program)
        assert "speaks no TLS" in program.log.read_text()


@pytest.mark.skipif(OPENSSL is None, reason="no openssl command to make a certificate with")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_what_is_sent_over_tls_can_be_read_by_nobody_else(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with serve(tmp_path, "--tls-cert", str(cert), "--tls-key", str(key), SIDEMETER_ADMIN_KEY=CHOSEN) as program:
        url = started(program, re.compile(r"https://[\d.]+:(\d+)"))
        trust = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=url, verify=trust, timeout=60) as client:
            answer = client.post("/session", json={"key": CHOSEN}, headers={"Origin": url})
            assert answer.status_code == 200
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-sidemeter=")
            assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in cookie.split(";")}
            assert "SameSite=strict" in cookie
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
        host, port = url.removeprefix("https://").split(":")
        old = ssl.create_default_context(cafile=str(cert))
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with socket.create_connection((host, int(port)), timeout=60) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw, server_hostname=host)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http") + "/healthz", timeout=60)


def test_files_that_are_no_certificate_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no certificate")
    given = ["--tls-cert", str(tmp_path / "cert.pem")]
    command = [sys.executable, *COMMAND, "serve", "--database", f"sqlite:///{tmp_path}/c.db", "--listen", "127.0.0.1:0"]
    assert "must be set beside tls_cert" in run(*command, *given, exit_code=2)
    said = run(*command, *given, "--tls-key", str(tmp_path / "key.pem"), exit_code=2)
    assert f"{tmp_path}/cert.pem and {tmp_path}/key.pem are not usable" in said


# --- with a stolen key, or with one that is for something else


def test_a_stolen_key_is_replaced_without_a_gap_or_ended_at_once(plane: Plane) -> None:
    key_id, stolen = plane.key("READ")
    assert plane.ask("{ __typename }", stolen).status_code == 200
    rotate = "mutation($id: ID!, $s: Int!) { rotateApiKey(id: $id, overlapSeconds: $s) { secret } }"
    fresh = plane.data(rotate, id=key_id, s=600)["rotateApiKey"]["secret"]
    plane.secrets.append(fresh)
    assert [plane.ask("{ __typename }", each).status_code for each in (stolen, fresh)] == [200, 200]
    shown = next(each for each in plane.data(KEYS)["apiKeys"]["edges"] if each["node"]["id"] == key_id)["node"]
    assert shown["formerSecretUntil"]
    assert shown["prefix"] == fresh[:8]
    latest = plane.data(rotate, id=key_id, s=0)["rotateApiKey"]["secret"]
    plane.secrets.append(latest)
    assert [plane.ask("{ __typename }", each).status_code for each in (fresh, latest)] == [401, 200]
    plane.data("mutation($id: ID!) { revokeApiKey(id: $id) }", id=key_id)
    assert [plane.ask("{ __typename }", each).status_code for each in (stolen, fresh, latest)] == [401, 401, 401]


KEYS = "{ apiKeys(first: 200) { edges { node { id prefix formerSecretUntil } } } }"


def test_nobody_but_an_administrator_makes_lists_or_ends_keys(plane: Plane) -> None:
    _, writer = plane.key("WRITE", "READ", "AGENT")
    for text in (
        'mutation { createApiKey(input: {name: "n", scopes: [ADMIN]}) { secret } }',
        'mutation { rotateApiKey(id: "k") { secret } }',
        'mutation { revokeApiKey(id: "k") }',
        "mutation { endPortalLinks }",
        KEYS,
        "{ auditCheck { head } }",
    ):
        assert plane.codes(text, writer) == {"FORBIDDEN"}


def test_a_key_of_one_customer_reaches_no_other(plane: Plane) -> None:
    _, key = plane.key("READ", customer="acme")
    assert plane.data(COST, key, c="acme")["customer"]["key"] == "acme"
    there, nowhere = (plane.ask(COST, key, c=other).json() for other in ("globex", "nobody"))
    assert there == nowhere  # not even whether there is such a customer
    assert there["data"] == {"customer": None}


def test_a_key_of_one_service_speaks_for_no_other_agents(plane: Plane) -> None:
    _, chat = plane.key("AGENT", service="chat")
    _, mail = plane.key("AGENT", service="mail")

    def hello(key: str, service: str) -> int:
        said = {
            "agent_id": "agent-of-chat",
            "hello_id": f"h-{next(NAMES)}",
            "boot_id": "b",
            "service": service,
            "version": "1",
            "losses": [],
        }
        headers = {
            "Authorization": f"Bearer {key}",
            "Sidemeter-Protocol": "1",
            "Content-Type": "application/msgpack",
        }
        answer = httpx.post(
            f"{plane.url}/agent/v1/hello", content=msgspec.msgpack.encode(said), headers=headers, timeout=60
        )
        return answer.status_code

    assert hello(mail, "chat") == 403
    assert hello(chat, "mail") == 403
    assert hello(chat, "chat") == 200
    assert hello(mail, "mail") == 403  # the agent is one of chat's: another's key takes nothing over


# --- with a link to a customer's pages


def test_a_link_that_was_forged_changed_or_has_ended_opens_nothing(plane: Plane) -> None:
    link = plane.link()
    assert plane.data(COST, link, c="acme")["customer"]["key"] == "acme"
    said, _, mac = link.partition(".")
    _, _, other_mac = plane.link("globex").partition(".")
    for forged in (f"{said}.{other_mac}", f"{said}.", said, f"{said}.{mac}x", f"{said[:-2]}AA.{mac}", "smp_", "smp_.."):
        assert plane.ask(COST, forged, c="acme").status_code in {401, 429}
    too_long = 'mutation { createPortalLink(customer: "acme", expiresInSeconds: 86401) }'
    assert plane.codes(too_long, CHOSEN) == {"INVALID_INPUT"}
    plane.data("mutation { endPortalLinks }")
    assert plane.ask(COST, link, c="acme").status_code == 401
    assert plane.data(COST, plane.link(), c="acme")["customer"]["key"] == "acme"


def test_a_link_reaches_its_customer_alone_and_changes_only_its_own_budgets(plane: Plane) -> None:
    link = plane.link()
    cap = (
        "mutation($k: ID!, $c: ID!, $a: Decimal!) { setBudget(input: {key: $k, customer: $c, amount: $a}) { amount } }"
    )
    plane.data('mutation { upsertCustomer(input: {key: "acme", currency: "EUR", subjects: ["acme"]}) { key } }')
    plane.data(cap, k="risk", c="acme", a="10")
    assert plane.codes(COST, link, c="globex") == {"FORBIDDEN"}
    assert plane.codes("{ customers { edges { node { key } } } }", link) == {"FORBIDDEN"}
    assert plane.codes(cap, link, k="risk", c="acme", a="99999") == {"FORBIDDEN"}
    assert plane.codes(cap, link, k="mine", c="globex", a="1") == {"FORBIDDEN"}
    assert plane.codes('mutation { grantCredits(input: {customer: "acme", amount: "1"}) { id } }', link) == {
        "FORBIDDEN"
    }
    assert plane.data(cap, link, k="mine", c="acme", a="5") == {"setBudget": {"amount": "5"}}


def test_a_link_names_no_host_that_its_caller_could_choose(plane: Plane) -> None:
    made = httpx.post(
        f"{plane.url}/graphql",
        json={"query": 'mutation { createPortalLink(customer: "acme") }'},
        headers={"Authorization": f"Bearer {CHOSEN}", "Host": "evil.test", "X-Forwarded-Host": "evil.test"},
        timeout=60,
    ).json()["data"]["createPortalLink"]
    plane.secrets.append(made.partition("#link=")[2])
    assert made.startswith("/portal/#link=smp_")


# --- another site, in the browser of somebody who is logged in


def test_another_site_changes_nothing_with_somebodys_session(plane: Plane) -> None:
    _, secret = plane.key("WRITE")
    browser = plane.browser(secret)
    change = {"query": 'mutation { createFeature(input: {key: "forged"}) { key } }'}
    for headers in (
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": plane.url, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sidemeter-Page": "1"},
        {},
    ):
        answer = browser.post("/graphql", json=change, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), headers
    form = browser.post("/graphql", data=change, headers={"Origin": plane.url})
    assert form.status_code == 415
    assert browser.get("/graphql", params=change).status_code == 405
    assert browser.delete("/session", headers={"Origin": "https://evil.test"}).status_code == 403
    assert not [each for each in plane.data("{ features { key } }")["features"] if each["key"] == "forged"]
    own = browser.post("/graphql", json={"query": "{ __typename }"}, headers={"Origin": plane.url})
    assert own.json() == {"data": {"__typename": "Query"}}


def test_another_site_logs_nobody_in(plane: Plane) -> None:
    _, secret = plane.key("READ")
    for headers in ({"Origin": "https://evil.test"}, {}):
        answer = httpx.post(f"{plane.url}/session", json={"key": secret}, headers=headers, timeout=60)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_another_site_reads_no_answer(plane: Plane) -> None:
    preflight = {"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}
    asked = httpx.options(f"{plane.url}/graphql", headers=preflight, timeout=60)
    answer = plane.ask("{ __typename }")
    for response in (asked, answer):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_only_sites_that_a_setting_names_ask_with_a_key_and_none_with_a_session(tmp_path: Path) -> None:
    shop = "https://shop.example.com"
    with serve(tmp_path, SIDEMETER_ADMIN_KEY=CHOSEN, SIDEMETER_ALLOWED_ORIGINS=shop) as program:
        url = started(program)
        for origin, allowed in ((shop, shop), ("https://evil.test", None)):
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            }
            answer = httpx.options(f"{url}/graphql", headers=asked, timeout=60)
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert "access-control-allow-credentials" not in answer.headers
        with httpx.Client(base_url=url, timeout=60) as browser:
            browser.post("/session", json={"key": CHOSEN}, headers={"Origin": url})
            answer = browser.post("/graphql", json={"query": "{ __typename }"}, headers={"Origin": shop})
            assert answer.status_code == 403


def test_a_script_reads_no_session_and_a_log_out_ends_it(plane: Plane) -> None:
    _, secret = plane.key("READ")
    with httpx.Client(base_url=plane.url, timeout=60) as browser:
        answer = browser.post("/session", json={"key": secret}, headers={"Origin": plane.url})
        cookie = answer.headers["set-cookie"]
        plane.secrets.append(browser.cookies["sidemeter"])
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Max-Age=" in cookie
        assert secret not in cookie
        assert browser.get("/session").json()["scopes"] == ["READ"]
        token = browser.cookies["sidemeter"]
        assert browser.delete("/session", headers={"Origin": plane.url}).status_code == 204
        assert (
            httpx.get(f"{plane.url}/session", headers={"Cookie": f"sidemeter={token}"}, timeout=60).status_code == 401
        )


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/", "text/html"),
        ("/graphql", "text/html"),
        ("/portal/", "text/html"),
        (f"/static/{DIGEST}/operator.js", "*/*"),
        ("/healthz", "*/*"),
        ("/none", "*/*"),
        ("/metrics", "*/*"),
        ("/session", "*/*"),
        ("/v1/events", "*/*"),
    ],
)
def test_every_answer_keeps_browsers_from_running_framing_and_telling(plane: Plane, path: str, accept: str) -> None:
    answer = httpx.get(plane.url + path, headers={"Accept": accept}, timeout=60)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]  # of GraphiQL, styles alone
    if path != "/graphql":
        assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    if path.startswith("/static/"):
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    else:
        asked_again = answer.status_code == 200 and path != "/healthz"
        assert answer.headers["cache-control"] == ("no-cache" if asked_again else "no-store")
    assert "server" not in answer.headers


# --- with the database, a backup or the logs in hand


def test_who_changes_the_audit_log_is_found_out(tmp_path: Path) -> None:
    database = ["--database", f"sqlite:///{tmp_path}/control.db"]
    command = [sys.executable, *COMMAND]
    for name in ("one", "two", "three"):
        run(*command, "keys", "create", name, "--scope", "READ", *database)
    said = run(*command, "audit", "verify", *database)
    head = re.search(r"3 entries, unbroken; head (3:[0-9a-f]{64})", said)
    assert head
    run(*command, "audit", "verify", "--head", head[1], *database)
    run(*command, "audit", "verify", "--head", "3:" + "0" * 64, *database, exit_code=1)
    with sqlite3.connect(tmp_path / "control.db") as raw:
        raw.execute("UPDATE audit SET actor = 'key_of_somebody_else' WHERE seq = 2")
    said = run(*command, "audit", "verify", *database, exit_code=1)
    assert "the audit log is not as it was written: entry 2 was changed" in said
    with sqlite3.connect(tmp_path / "control.db") as raw:
        raw.execute("DELETE FROM audit WHERE seq >= 2")
    assert "entry 2 is missing" in run(*command, "audit", "verify", *database, exit_code=1)


def test_the_audit_log_is_verified_while_it_is_written(plane: Plane) -> None:
    command = [sys.executable, *COMMAND, "audit", "verify", "--url", plane.url]
    said = run(*command, SIDEMETER_ADMIN_KEY=CHOSEN)
    assert re.search(r"\d+ entries, unbroken; head \d+:[0-9a-f]{64}", said)
    assert "must be set" in run(*command, exit_code=2)


def test_no_secret_is_in_the_log_and_none_of_a_key_or_session_in_the_database(plane: Plane) -> None:
    """Last: of all that was sent and given out by the tests before, and by this one."""
    _, secret = plane.key("WRITE")
    plane.browser(secret).post("/graphql", json={"query": "{"}, headers={"Origin": plane.url})
    plane.browser(plane.link()).get("/session")
    for path in (f"/{secret}", f"/graphql?query={secret}", f"/static/{secret}"):
        httpx.get(plane.url + path, headers={"Authorization": f"Bearer {secret}"}, timeout=60)
    httpx.post(f"{plane.url}/session", content=secret, headers={"Origin": plane.url}, timeout=60)
    assert asyncio.run(plane.program.stop()) == 0
    log = plane.program.log.read_text()
    assert "the audit log's head is " in log
    stored = b"".join(path.read_bytes() for path in plane.database.parent.glob("control.db*"))
    assert len(plane.secrets) > 4
    assert not [secret for secret in plane.secrets if secret in log or secret[4:44] in log]
    keys = [each for each in plane.secrets if not each.startswith("smp_")]
    assert not [secret for secret in keys if secret.encode() in stored]
    assert all(json.loads(line) for line in log.splitlines() if line.startswith("{"))
