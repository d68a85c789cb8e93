"""Settings: defaults, where each comes from, and every refusal with its name and rule."""

import dataclasses
from pathlib import Path

import pytest

from sidemeter.errors import SettingsError
from sidemeter.settings import Settings, host_and_port


def test_a_service_name_is_all_that_is_needed() -> None:
    settings = Settings.from_environ({"SIDEMETER_SERVICE": "chat"})
    assert (settings.service, settings.data_dir, settings.control_plane) == ("chat", Path("sidemeter-data"), None)


def test_without_a_service_name_the_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="SIDEMETER_SERVICE: must be set"):
        Settings.from_environ({})


def test_every_setting_is_documented() -> None:
    assert all(each.metadata["help"].endswith(".") for each in dataclasses.fields(Settings))


def test_every_setting_can_come_from_the_environment() -> None:
    given = {
        "SERVICE": "chat",
        "DATA_DIR": "/data",
        "CONTROL_PLANE": "https://meter.example/",
        "API_KEY": "smk_1",
        "SOCKET": "/run/agent.sock",
        "LISTEN": "[::1]:0",
        "COMPRESS": "no",
        "ON_UNKNOWN": "allow",
        "MAX_PENDING_EVENTS": "20000",
        "FLUSH_AFTER_S": "0.5",
    }
    settings = Settings.from_environ({f"SIDEMETER_{name}": text for name, text in given.items()})
    assert dataclasses.replace(settings) == Settings(
        service="chat",
        data_dir=Path("/data"),
        control_plane="https://meter.example",
        api_key="smk_1",
        socket=Path("/run/agent.sock"),
        listen="[::1]:0",
        compress=False,
        on_unknown="allow",
        max_pending_events=20_000,
        flush_after_s=0.5,
    )


def test_an_override_wins_and_none_or_empty_is_unset() -> None:
    environ = {"SIDEMETER_SERVICE": "chat", "SIDEMETER_DRAIN_S": "1", "SIDEMETER_SOCKET": ""}
    settings = Settings.from_environ(environ, service="mail", drain_s=None)
    assert (settings.service, settings.drain_s, settings.socket) == ("mail", 1.0, None)


def test_the_key_is_never_shown() -> None:
    assert "smk_secret" not in repr(Settings(service="chat", api_key="smk_secret"))


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("service", "", "1 to 256 printable"),
        ("service", "x" * 257, "1 to 256 printable"),
        ("service", "a\nb", "1 to 256 printable"),
        ("data_dir", "a\0b", "must be a path"),
        ("control_plane", "meter.example", "http:// or https://"),
        ("control_plane", "ftp://meter.example", "http:// or https://"),
        ("control_plane", "http://", "http:// or https://"),
        ("control_plane", "http://meter.example:70000", "http:// or https://"),
        ("control_plane", "http://me:secret@meter.example", "http:// or https://"),
        ("control_plane", "http://meter.example/?x=1", "without query"),
        ("api_key", "two words", "printable ASCII"),
        ("api_key", "clé", "printable ASCII"),
        ("socket", "/" + "x" * 107, "at most 107 bytes"),
        ("listen", "8126", "HOST:PORT"),
        ("listen", "127.0.0.1:65536", "HOST:PORT"),
        ("listen", "127.0.0.1:-1", "HOST:PORT"),
        ("listen", "0.0.0.0:8126", "loopback address: the agent's door asks for no key"),
        ("listen", "192.168.1.4:8126", "loopback"),
        ("listen", "meter.example:80", "loopback"),
        ("listen", "[::]:80", "loopback"),
        ("flush_after_s", "soon", "a number of seconds from 0 to 60"),
        ("flush_after_s", "nan", "a number of seconds"),
        ("flush_after_s", "-0.1", "a number of seconds"),
        ("flush_after_s", True, "a number of seconds"),
        ("drain_s", "inf", "a number of seconds"),
        ("group_max_events", "0", "a whole number from 1"),
        ("group_max_events", "1.5", "a whole number"),
        ("group_max_events", True, "a whole number"),
        ("group_max_events", "9" * 5000, "a whole number"),
        ("max_batch_bytes", "1000", "from 131072 to 1048576"),
        ("max_buffer_bytes", 1, "from 262144"),
        ("on_unknown", "maybe", "one of deny, allow"),
        ("compress", "perhaps", "true or false"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_rule(name: str, value: object, rule: str) -> None:
    with pytest.raises(SettingsError) as from_code:
        Settings.from_environ({"SIDEMETER_SERVICE": "chat"}, **{name: value})
    assert from_code.value.field == name
    assert rule in from_code.value.rule
    if isinstance(value, str) and value:
        with pytest.raises(SettingsError) as from_environ:
            Settings.from_environ({"SIDEMETER_SERVICE": "chat", f"SIDEMETER_{name.upper()}": value})
        assert from_environ.value.field == f"SIDEMETER_{name.upper()}"


def test_a_control_plane_needs_a_key() -> None:
    with pytest.raises(SettingsError, match="SIDEMETER_API_KEY: must be set when a control plane is"):
        Settings.from_environ({"SIDEMETER_SERVICE": "chat"}, control_plane="http://127.0.0.1:1")


def test_an_array_must_fit_into_memory() -> None:
    with pytest.raises(SettingsError, match="SIDEMETER_MAX_ARRAY_EVENTS: must be at most max_pending_events"):
        Settings.from_environ({"SIDEMETER_SERVICE": "chat", "SIDEMETER_MAX_PENDING_EVENTS": "100"})


@pytest.mark.parametrize(
    ("listen", "parts"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("localhost:80", ("localhost", 80)), ("[::1]:1", ("::1", 1))],
)
def test_host_and_port_are_split(listen: str, parts: tuple[str, int]) -> None:
    assert host_and_port(listen) == parts
