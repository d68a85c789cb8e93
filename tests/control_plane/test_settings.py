"""Settings of the control plane: every wrong value is refused by name and rule."""

import pytest

from sidemeter_control.errors import SettingsError
from sidemeter_control.settings import MAX_SERVERS, Settings, each_server, host_and_port, passwords_of, without_password


def test_nothing_set_gives_the_documented_defaults() -> None:
    settings = Settings.from_environ({})
    assert (settings.database, settings.listen, settings.admin_key) == (
        "sqlite:///sidemeter.db",
        "127.0.0.1:8780",
        None,
    )


def test_the_password_of_a_database_is_in_no_printed_settings() -> None:
    url = "postgresql://meter:hidden@db.example/meter?sslmode=require"
    settings = Settings.from_environ({"SIDEMETER_DATABASE": url})
    assert settings.database == url
    assert "hidden" not in repr(settings)
    assert without_password(url) == "postgresql://meter@db.example/meter"
    assert passwords_of(url) == {"hidden"}


@pytest.mark.parametrize(
    "hosts", ["one.example:5433,two.example,[::1]:5434", ",".join("s" * MAX_SERVERS), "%2Frun%2Fa,%2Frun%2Fb"]
)
@pytest.mark.parametrize(
    "query", ["", "?target_session_attrs=read-write", "?sslmode=require&target_session_attrs=primary"]
)
def test_a_database_may_be_on_several_servers_each_with_a_url_of_its_own(hosts: str, query: str) -> None:
    url = f"postgresql://meter:hid%2Cden@{hosts}/meter{query}"
    assert Settings.from_environ({"SIDEMETER_DATABASE": url}).database == url
    assert without_password(url) == f"postgresql://meter@{hosts}/meter"
    assert each_server(url) == tuple(f"postgresql://meter:hid%2Cden@{host}/meter{query}" for host in hosts.split(","))


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("no", False)])
def test_a_switch_is_yes_or_no(text: str, value: bool) -> None:
    assert Settings.from_environ({"SIDEMETER_PRIVATE_WEBHOOKS": text}).private_webhooks is value


def test_an_option_goes_before_the_environment() -> None:
    settings = Settings.from_environ({"SIDEMETER_LISTEN": "127.0.0.1:1"}, listen="127.0.0.1:2")
    assert settings.listen == "127.0.0.1:2"


def test_an_empty_variable_counts_as_absent() -> None:
    assert Settings.from_environ({"SIDEMETER_ADMIN_KEY": ""}).admin_key is None


@pytest.mark.parametrize(
    ("variable", "text", "rule"),
    [
        ("SIDEMETER_DATABASE", "mysql://x", "must be sqlite:///PATH"),
        ("SIDEMETER_DATABASE", "sqlite:///", "must be sqlite:///PATH"),
        ("SIDEMETER_DATABASE", "postgresql://db.example", "or postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("SIDEMETER_DATABASE", "postgresql://db.example:none/meter", "or postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("SIDEMETER_DATABASE", "postgresql://one,two:none/meter", "with commas between several HOST:PORT"),
        ("SIDEMETER_DATABASE", "postgresql://one,/meter", "with commas between several HOST:PORT"),
        ("SIDEMETER_DATABASE", f"postgresql://{','.join('s' * (MAX_SERVERS + 1))}/meter", "at most 8 servers"),
        ("SIDEMETER_DATABASE", "postgresql://one,two/meter?target_session_attrs=standby", "a control plane writes"),
        ("SIDEMETER_DATABASE", "postgres://db.example/meter", "or postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("SIDEMETER_LISTEN", "127.0.0.1", "must be HOST:PORT"),
        ("SIDEMETER_LISTEN", "127.0.0.1:65536", "port from 0 to 65535"),
        ("SIDEMETER_LISTEN", "example:80", "an IP address or localhost"),
        ("SIDEMETER_ADMIN_KEY", "two words", "without spaces"),
        ("SIDEMETER_ADMIN_KEY", "x" * 257, "1 to 256"),
        ("SIDEMETER_MAX_FUTURE_S", "-1", "whole number from 0 to 31536000"),
        ("SIDEMETER_SYNC_INTERVAL_MS", "49", "from 50 to 60000"),
        ("SIDEMETER_RATE_EVENTS_PER_S", "9", "from 10 to 10000000"),
        ("SIDEMETER_RATE_EVENTS_PER_S", "10000001", "from 10 to 10000000"),
        ("SIDEMETER_MAX_BATCHES_AT_ONCE", "0", "from 1 to 1000"),
        ("SIDEMETER_MAX_BATCHES_AT_ONCE", "1001", "from 1 to 1000"),
        ("SIDEMETER_PRIVATE_WEBHOOKS", "true", "must be yes or no"),
        ("SIDEMETER_PUBLIC_URL", "meter.example.com", "must be https://HOST"),
        ("SIDEMETER_PUBLIC_URL", "https://meter.example.com/app", "and no path"),
        ("SIDEMETER_PUBLIC_URL", "https://user@meter.example.com", "must be https://HOST"),
        ("SIDEMETER_PUBLIC_URL", "https://meter.example.com/?a", "and no path"),
        ("SIDEMETER_ALLOWED_ORIGINS", "*", "must be https://HOST"),
        ("SIDEMETER_ALLOWED_ORIGINS", "https://a.test,null", "must be https://HOST"),
        ("SIDEMETER_PROXIES", "proxy", "must be IP addresses"),
        ("SIDEMETER_PROXIES", "10.0.0.0/8", "must be IP addresses"),
        ("SIDEMETER_DRAIN_S", "soon", "from 0 to 600"),
    ],
)
def test_a_wrong_variable_is_refused_by_name_and_rule(variable: str, text: str, rule: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ({variable: text})
    assert refused.value.field == variable
    assert rule in refused.value.rule


def test_a_wrong_option_is_refused_by_its_own_name() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ({}, drain_s="601")
    assert refused.value.field == "drain_s"


def test_the_admin_key_never_shows() -> None:
    assert "hunter2" not in repr(Settings.from_environ({"SIDEMETER_ADMIN_KEY": "hunter2"}))


@pytest.mark.parametrize(
    ("listen", "parts"),
    [("[::1]:80", ("::1", 80)), ("localhost:0", ("127.0.0.1", 0)), ("0.0.0.0:8780", ("0.0.0.0", 8780))],
)
def test_an_address_is_split_into_host_and_port(listen: str, parts: tuple[str, int]) -> None:
    assert host_and_port(listen) == parts


def test_what_is_a_list_is_written_with_commas() -> None:
    given = {"SIDEMETER_PROXIES": "10.0.0.1, ::1", "SIDEMETER_ALLOWED_ORIGINS": "https://a.test/,http://b.test:81"}
    settings = Settings.from_environ(given | {"SIDEMETER_PUBLIC_URL": "https://meter.example.com/"})
    assert settings.proxies == ("10.0.0.1", "::1")
    assert settings.allowed_origins == ("https://a.test", "http://b.test:81")
    assert settings.public_url == "https://meter.example.com"


@pytest.mark.parametrize(
    ("environ", "options", "field", "rule"),
    [
        ({"SIDEMETER_TLS_CERT": "c"}, {}, "SIDEMETER_TLS_KEY", "must be set beside SIDEMETER_TLS_CERT"),
        ({"SIDEMETER_TLS_KEY": "k"}, {}, "SIDEMETER_TLS_CERT", "must be set beside SIDEMETER_TLS_KEY"),
        ({}, {"tls_cert": "c"}, "SIDEMETER_TLS_KEY", "must be set beside tls_cert"),
    ],
)
def test_a_certificate_and_its_key_come_together(
    environ: dict[str, str], options: dict[str, str], field: str, rule: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environ(environ, **options)
    assert (refused.value.field, refused.value.rule) == (field, rule)
    both = Settings.from_environ({"SIDEMETER_TLS_CERT": "c", "SIDEMETER_TLS_KEY": "k"})
    assert (both.tls_cert, both.tls_key) == ("c", "k")
