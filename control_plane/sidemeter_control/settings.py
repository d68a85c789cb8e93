"""What can be set, from the environment or the command line: one table of names, defaults, rules and help.

Every value passes the reader of its field, so a wrong one is refused at start wherever it came from.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from sidemeter_control.errors import SettingsError

__all__ = [
    "ENVIRON_PREFIX",
    "Settings",
    "each_server",
    "host_and_port",
    "is_postgres",
    "passwords_of",
    "without_password",
]

ENVIRON_PREFIX = "SIDEMETER_"

Reader = Callable[[str], object]
"""Takes the text of a setting, returns its value, or raises ValueError with the rule as its text."""


def host_and_port(listen: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPV6]:PORT`; raises ValueError naming the rule.

    >>> host_and_port("127.0.0.1:8780")
    ('127.0.0.1', 8780)
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be HOST:PORT with a port from 0 to 65535")
    host = host.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)), int(port)
    except ValueError:
        raise ValueError("must be HOST:PORT with an IP address or localhost as its host") from None


_DATABASES = (
    "must be sqlite:///PATH, sqlite:////PATH for an absolute path, or postgresql://USER:PASSWORD@HOST:PORT/NAME, with commas"
    " between several HOST:PORT"
)
_TAKES_WRITES = "must ask for no other target_session_attrs than read-write or primary: a control plane writes"
MAX_SERVERS = 8
"""In the URL of a database. A cluster has three, or five."""


def is_postgres(url: str) -> bool:
    """Whether the database of that URL is on a PostgreSQL server, not a file."""
    return url.startswith("postgresql://")


def without_password(url: str) -> str:
    """The URL of a database as it may be shown.

    >>> without_password("postgresql://meter:secret@db.example/sidemeter?sslmode=require")
    'postgresql://meter@db.example/sidemeter'
    """
    found = urlsplit(url)
    if not is_postgres(url):
        return url
    user, at, host = found.netloc.rpartition("@")
    return f"postgresql://{user.partition(':')[0]}{at}{host}{found.path}"


def each_server(url: str) -> tuple[str, ...]:
    """The URLs of the servers that the URL of a PostgreSQL database names, of which one takes writes at any time.

    >>> each_server("postgresql://meter@one.example:5433,two.example/sidemeter")
    ('postgresql://meter@one.example:5433/sidemeter', 'postgresql://meter@two.example/sidemeter')
    """
    found = urlsplit(url)
    user, at, hosts = found.netloc.rpartition("@")
    if "," not in hosts:
        return (url,)
    return tuple(found._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(","))


def passwords_of(url: str) -> frozenset[str]:
    """The password in the URL of a database, as it stands there and as it is meant; empty: there is none.

    >>> sorted(passwords_of("postgresql://meter:a%20secret@db.example/sidemeter"))
    ['a secret', 'a%20secret']
    """
    found = urlsplit(url)
    written = [found.netloc.rpartition("@")[0].partition(":")[2], *parse_qs(found.query).get("password", ())]
    return frozenset(form for each in written if each for form in (each, unquote(each)))


def _database(text: str) -> str:
    if is_postgres(text):
        try:
            servers = [urlsplit(each) for each in each_server(text)]
            are_sound = all(each.port != 0 and (each.hostname or len(servers) == 1) for each in servers)
        except ValueError:
            raise ValueError(_DATABASES) from None
        found = servers[0]
        if not are_sound or len(found.path) < 2 or not text.isprintable() or found.fragment:
            raise ValueError(_DATABASES)
        if len(servers) > MAX_SERVERS:
            raise ValueError(f"must name at most {MAX_SERVERS} servers")
        if not set(parse_qs(found.query).get("target_session_attrs", ())) <= {"read-write", "primary"}:
            raise ValueError(_TAKES_WRITES)
        return text
    if not text.startswith("sqlite:///") or len(text) == len("sqlite:///"):
        raise ValueError(_DATABASES)
    return text


def _listen(text: str) -> str:
    host_and_port(text)
    return text


def _admin_key(text: str) -> str:
    if not 1 <= len(text) <= 256 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be 1 to 256 printable ASCII characters without spaces")
    return text


def _count(low: int, high: int) -> Reader:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 20 or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _choice(*choices: str) -> Reader:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def _yes_or_no(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise ValueError("must be yes or no")
    return text == "yes"


def _url(text: str) -> str:
    found = urlsplit(text)
    if found.scheme not in {"http", "https"} or not found.netloc or found.path not in {"", "/"} or "@" in found.netloc:
        raise ValueError("must be https://HOST or http://HOST, with a port or without, and no path")
    if found.query or found.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be https://HOST or http://HOST, with a port or without, and no path")
    return text.rstrip("/")


def _urls(text: str) -> tuple[str, ...]:
    return tuple(_url(each.strip()) for each in text.split(","))


def _addresses(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_address(each.strip())) for each in text.split(","))
    except ValueError:
        raise ValueError("must be IP addresses with commas between") from None


def _file(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be the path of a file")
    return text


def _setting(read: Reader, help_text: str, default: Any, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"read": read, "help": help_text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a control plane runs. Each field's help is in its metadata; `from_environ` is the way in from outside.

    >>> Settings.from_environ({"SIDEMETER_LISTEN": "127.0.0.1:9000"}).listen
    '127.0.0.1:9000'
    """

    database: str = _setting(
        _database,
        "Database URL: sqlite:///PATH, whose file is made when absent, or postgresql://USER:PASSWORD@HOST:PORT/NAME, with"
        " commas between several HOST:PORT of which one takes writes at a time, whose password may stand in PGPASSWORD or ~/.pgpass instead.",
        "sqlite:///sidemeter.db",
        secret=True,
    )
    witness: str | None = _setting(
        _file,
        "With PostgreSQL: the file, outside of the database, by which it is told from an older copy of itself; by default one"
        " in the working directory, named after the database.",
        None,
    )
    archive_directory: str | None = _setting(
        _file,
        "Where the files of archived events are; by default a directory beside the database's file, or with PostgreSQL in the"
        " working directory, named after the database.",
        None,
    )
    archive_after_days: int = _setting(
        _count(0, 36_500),
        "Archive the events of a month once it has been over for so many days; 0: only `sidemeter-control archive` does. Needs"
        " sidemeter[archive].",
        0,
    )
    listen: str = _setting(_listen, "HOST:PORT to serve on; port 0 takes a free one.", "127.0.0.1:8780")
    admin_key: str | None = _setting(
        _admin_key, "The first admin key; absent: one is made and printed once.", None, secret=True
    )
    max_future_s: int = _setting(
        _count(0, 31_536_000), "How far ahead of this clock an event's time may be before it is a dead letter.", 3600
    )
    sync_interval_ms: int = _setting(_count(50, 60_000), "How often agents ask for limits.", 1000)
    rate_events_per_s: int = _setting(
        _count(10, 10_000_000),
        "Events a second that are taken from all agents together, by all control planes on the database; lower, it leaves more of the machine to questions.",
        100_000,
    )
    max_batches_at_once: int = _setting(
        _count(1, 1000),
        "Batches worked on at once, 9 MiB of memory each at most; further ones are sent away before they are read.",
        16,
    )
    close_after_s: int = _setting(
        _count(0, 2_592_000),
        "How long after its end a billing period is closed; usage that comes later adjusts the next.",
        3600,
    )
    requests_per_s: int = _setting(
        _count(0, 1_000_000),
        "GraphQL requests a second of one key at one control plane, further ones get 429; 0: as many as it likes.",
        1000,
    )
    private_webhooks: bool = _setting(
        _yes_or_no, "yes: webhooks may be at private and loopback addresses, and over plain http.", False
    )
    tls_cert: str | None = _setting(
        _file,
        "File with the certificate and those that it rests on (PEM); with it only TLS is spoken, 1.2 or newer.",
        None,
    )
    tls_key: str | None = _setting(_file, "File with the certificate's key (PEM).", None)
    public_url: str | None = _setting(
        _url, "Where browsers find the pages, if not where they are served: https://meter.example.com.", None
    )
    proxies: tuple[str, ...] = _setting(
        _addresses, "Addresses of proxies whose X-Forwarded-For is believed, with commas between.", ()
    )
    allowed_origins: tuple[str, ...] = _setting(
        _urls, "Sites whose pages may ask with a key of their own (CORS), with commas between; by default none.", ()
    )
    log_format: str = _setting(
        _choice("json", "text"), "What `serve` writes to stderr: one JSON object a line, or text.", "json"
    )
    log_level: str = _setting(
        _choice("debug", "info", "warning", "error"), "From which level on; debug has a line for every batch.", "info"
    )
    traces: bool = _setting(
        _yes_or_no,
        "yes: make OpenTelemetry spans of requests, ingest and rollup, and send them over OTLP as the OTEL_ variables say;"
        " needs sidemeter[otel].",
        False,
    )
    drain_s: int = _setting(_count(0, 600), "How long open requests may take to end after SIGTERM.", 10)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **options: str | None) -> Self:
        """Read SIDEMETER_<NAME> for every field; an option that is not None goes first.

        SettingsError names the option or the variable, and the rule.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            variable = ENVIRON_PREFIX + each.name.upper()
            option = options.get(each.name)
            text = environ.get(variable) if option is None else option
            if text is None or (option is None and text == ""):
                continue
            try:
                values[each.name] = each.metadata["read"](text)
            except ValueError as exc:
                raise SettingsError(variable if option is None else each.name, str(exc)) from None
        for name, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
            if name in values and other not in values:
                raise SettingsError(_named(other, options), f"must be set beside {_named(name, options)}")
        return cls(**values)


def _named(name: str, options: Mapping[str, str | None]) -> str:
    return name if options.get(name) is not None else ENVIRON_PREFIX + name.upper()
