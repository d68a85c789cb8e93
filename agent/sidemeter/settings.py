"""What can be set, from code, the environment or the command line: one table of names, defaults, bounds and help.

Every value, text or typed, passes the reader of its field, so a wrong one is refused at start wherever it came from.
"""

import ipaddress
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from sidemeter.errors import SettingsError

__all__ = ["ENVIRON_PREFIX", "Settings", "host_and_port"]

ENVIRON_PREFIX = "SIDEMETER_"

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path on Linux, without its terminating zero
DAY_S = 86_400

Reader = Callable[[Any], object]
"""Takes text or a typed value, returns the typed one, or raises ValueError with the rule as its text."""


def host_and_port(listen: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPV6]:PORT`; raises ValueError naming the rule.

    >>> host_and_port("[::1]:8126")
    ('::1', 8126)
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be HOST:PORT with a port from 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _setting(read: Reader, help_text: str, default: Any = ...) -> Any:
    metadata = {"read": read, "help": help_text}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


def _optional(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


def _text(longest: int) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= longest or not value.isprintable():
            raise ValueError(f"must be 1 to {longest} printable characters")
        return value

    return read


def _count(low: int, high: int) -> Reader:
    rule = f"must be a whole number from {low} to {high}"

    def read(value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(rule)
        return value

    return read


def _seconds(low: float, high: float) -> Reader:
    rule = f"must be a number of seconds from {low:g} to {high:g}"

    def read(value: Any) -> float:
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = math.nan
        if isinstance(value, bool) or not low <= seconds <= high:  # NaN compares false
            raise ValueError(rule)
        return seconds

    return read


def _choice(*choices: str) -> Reader:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return read


def _switch(value: Any) -> bool:
    switches = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    switch = value if isinstance(value, bool) else switches.get(str(value).lower())
    if switch is None:
        raise ValueError("must be true or false")
    return switch


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path) or "\0" in str(value):
        raise ValueError("must be a path")
    return Path(value).expanduser()


def _socket_path(value: Any) -> Path:
    path = _path(value)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"must be at most {MAX_SOCKET_PATH_BYTES} bytes: the operating system takes no longer one")
    return path


def _url(value: Any) -> str:
    rule = "must be an http:// or https:// URL without query or fragment"
    try:
        parts = urlsplit(str(value))
        well_formed = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        raise ValueError(rule) from None
    if not well_formed or parts.query or parts.fragment or parts.username:
        raise ValueError(rule)
    return str(value).rstrip("/")


def _key(value: Any) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value or not value:
        raise ValueError("must be printable ASCII without spaces")
    return value


def _loopback(value: Any) -> str:
    host, _ = host_and_port(str(value))
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError("must be a loopback address: the agent's door asks for no key, so it opens to this host only")
    return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One agent's settings; immutable, checked when made. Durations are seconds, sizes bytes.

    Raises SettingsError, naming the setting and its rule.

    >>> Settings(service="chat").max_batch_events
    5000
    >>> Settings(service="chat", listen="0.0.0.0:80")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sidemeter.errors.SettingsError: listen: must be a loopback address: ...
    """

    service: str = _setting(
        _text(256), "Name of the service beside the agent: the default `source` of its events, so it has no default."
    )
    data_dir: Path = _setting(  # noqa: RUF009 -- it makes a field
        _path,
        "Directory of the buffer; one agent at a time, one local disk of 8 MiB or more. 24 MiB, of a small disk a quarter,"
        " are set aside in it: on a full disk, what was recorded is forwarded with that room.",
        Path("sidemeter-data"),
    )
    control_plane: str | None = _setting(
        _optional(_url),
        "URL of the control plane. Without one, events are kept and every check is by `on_unknown`.",
        None,
    )
    api_key: str | None = field(
        default=None,
        repr=False,
        metadata={"read": _optional(_key), "help": "Key with scope AGENT; needed with a control plane."},
    )
    socket: Path | None = _setting(  # noqa: RUF009 -- it makes a field
        _optional(_socket_path), "Unix socket to serve on; `agent.sock` in the data directory if no door is set.", None
    )
    listen: str | None = _setting(
        _optional(_loopback), "Loopback HOST:PORT to serve on as well; port 0 takes a free one.", None
    )
    cell_dir: Path | None = _setting(  # noqa: RUF009 -- it makes a field
        _optional(_path),
        "Directory in memory (tmpfs) for what is spent of hard limits, so that a kill does not forget it; by default the"
        " first of /dev/shm, $XDG_RUNTIME_DIR and /run that takes it. A data directory that is deleted leaves its file there"
        " until the machine starts again.",
        None,
    )
    flush_after_s: float = _setting(_seconds(0, 60), "Age of a waiting event at which a batch is sealed and sent.", 0.2)
    group_window_s: float = _setting(
        _seconds(0, 1), "How long events that nobody waits for gather between two commits.", 0.002
    )
    group_max_events: int = _setting(_count(1, 100_000), "Events in one commit.", 1000)
    max_pending_events: int = _setting(
        _count(1, 10_000_000), "Accepted events in memory, not yet durable; more are refused.", 100_000
    )
    max_buffer_bytes: int = _setting(
        _count(256 * KIB, 1 << 46), "Bytes of events that may wait to be counted; a full buffer refuses more.", GIB
    )
    when_full: Literal["refuse", "wait"] = _setting(
        _choice("refuse", "wait"),
        "What a full buffer does with a caller: refuse it, or let it wait up to `full_wait_s` for room. `record_nowait`"
        " is always refused.",
        "refuse",
    )
    full_wait_s: float = _setting(
        _seconds(0, 3600), "How long a caller waits for room; of `max_pending_events` events and 64 MiB at most.", 30.0
    )
    keep_sent_s: float = _setting(
        _seconds(0, 366 * DAY_S), "How long counted events are kept for a restored control plane.", DAY_S
    )
    keep_sent_bytes: int = _setting(_count(0, 1 << 46), "How many bytes of counted events are kept at most.", 256 * MIB)
    max_batch_events: int = _setting(_count(1, 5000), "Events in one batch; the control plane takes no more.", 5000)
    max_batch_bytes: int = _setting(
        _count(128 * KIB, MIB),
        "Bytes of one batch; at least the largest event, and the control plane takes no more.",
        MIB,
    )
    max_array_events: int = _setting(_count(1, 1_000_000), "Events in one request.", 10_000)
    max_body_bytes: int = _setting(_count(KIB, GIB), "Bytes of one request body.", 8 * MIB)
    sync_interval_s: float = _setting(_seconds(0.01, 3600), "Time between two fetches of limits.", 1.0)
    first_check_wait_s: float = _setting(
        _seconds(0, 60), "How long the first check of an unknown subject waits for its limits.", 0.25
    )
    on_unknown: Literal["deny", "allow"] = _setting(
        _choice("deny", "allow"),
        "The answer to every check of a subject whose limits cannot be learned, so to all without a control plane. What is"
        " allowed so counts against hard limits once the control plane hears of it, part of it perhaps twice; until then"
        " others may spend the same.",
        "deny",
    )
    drain_s: float = _setting(
        _seconds(0, 3600),
        "How long a stop waits for reservations, and then goes on forwarding; the rest stays in the buffer.",
        5.0,
    )
    request_timeout_s: float = _setting(_seconds(0.01, 600), "Bound of one request to the control plane.", 10.0)
    compress: bool = _setting(_switch, "gzip batches on the wire.", True)
    log_format: Literal["json", "text"] = _setting(
        _choice("json", "text"), "What `sidemeter agent` writes to stderr: one JSON object a line, or text.", "json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        _choice("debug", "info", "warning", "error"),
        "From which level on; debug has a line for every batch and every sync.",
        "info",
    )
    traces: bool = _setting(
        _switch,
        "Make OpenTelemetry spans of what is recorded, committed, sealed and sent; needs sidemeter[otel]. `sidemeter agent`"
        " sends them over OTLP as the OTEL_ variables say; in a service they go where its own spans go.",
        False,
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            try:
                object.__setattr__(self, each.name, each.metadata["read"](getattr(self, each.name)))
            except ValueError as exc:
                raise SettingsError(each.name, str(exc)) from None
        if self.control_plane is not None and self.api_key is None:
            raise SettingsError("api_key", "must be set when a control plane is")
        if self.max_array_events > self.max_pending_events:
            raise SettingsError(
                "max_array_events", "must be at most max_pending_events: a larger array could never fit"
            )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **overrides: Any) -> Self:
        """Settings from `SIDEMETER_<NAME>` variables; an override that is not None wins, an empty variable is unset.

        Raises SettingsError whose `field` is the variable's name, or the setting's when the override is wrong.

        >>> Settings.from_environ({"SIDEMETER_DRAIN_S": "1"}, service="chat").drain_s
        1.0
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        variables = {each.name: ENVIRON_PREFIX + each.name.upper() for each in fields(cls)}
        found = {name: environ[variable] for name, variable in variables.items() if environ.get(variable)}
        if "service" not in found | given:
            raise SettingsError("SIDEMETER_SERVICE", "must be set: it names whose events these are")
        try:
            return cls(**(found | given))
        except SettingsError as exc:
            if exc.field in given:
                raise
            raise SettingsError(variables[exc.field], exc.rule) from None
