"""Webhooks by their rules: which URLs, which addresses, which secrets; how a message is signed, and when it is sent again."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.limits.alerts import AlertKind
from sidemeter_control.limits.webhooks import (
    MAX_ATTEMPTS,
    MAX_URL_CHARS,
    OVERLAP_S,
    RETRY_AFTER_S,
    Webhook,
    check_secret,
    check_url,
    headers_of,
    is_public,
    read_kinds,
    retry_after_ms,
    secret_of,
)

# Published with the libraries of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT_US = 1_614_265_330_000_000
BODY = b'{"test": 2432232314}'


def test_a_message_is_signed_as_the_published_example_is() -> None:
    assert headers_of((SECRET,), MESSAGE, AT_US + 999_999, BODY) == {
        "content-type": "application/json",
        "webhook-id": MESSAGE,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_another_id_instant_body_or_secret_is_another_signature() -> None:
    signed = [
        headers_of(*args)["webhook-signature"]
        for args in (
            ((SECRET,), MESSAGE, AT_US, BODY),
            ((SECRET,), MESSAGE + "x", AT_US, BODY),
            ((SECRET,), MESSAGE, AT_US + 1_000_000, BODY),
            ((SECRET,), MESSAGE, AT_US, BODY + b" "),
            ((secret_of(bytes(24)),), MESSAGE, AT_US, BODY),
        )
    ]
    assert len(set(signed)) == 5


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_is_24_to_64_bytes(size: int) -> None:
    check_secret(secret_of(bytes(size)))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        secret_of(bytes(23)),
        secret_of(bytes(65)),
        SECRET.removeprefix("whsec_"),
        SECRET + "!",
        "whsec_é" * 9,
    ],
)
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(InvalidInput, match="secret: must be whsec_ and 24 to 64 bytes in base64"):
        check_secret(secret)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hooks?tenant=1",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/x",
        "https://localhost.example.com/",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_a_url_of_the_internet_may_be_posted_to(url: str) -> None:
    check_url(url, private=False)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with https://"),
        ("example.com/x", "must begin with https://"),
        ("http://example.com/", "must begin with https://"),
        ("ftp://example.com/", "must begin with https://"),
        ("https:///x", "must begin with https://"),
        ("https://me@example.com/", "no user"),
        ("https://me:pw@example.com/", "no user"),
        ("https://example.com/#x", "fragment"),
        ("https://example.com:99999/", "is no URL"),
        ("https://example.com:x/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://exämple.com/", "printable ASCII"),
        ("https://example.com/a b", "printable ASCII"),
        ("https://example.com/\n", "printable ASCII"),
        ("https://127.0.0.1/", "private or loopback"),
        ("https://10.0.0.1/", "private or loopback"),
        ("https://169.254.169.254/latest/meta-data", "private or loopback"),
        ("https://[::1]/", "private or loopback"),
        ("https://[::ffff:10.0.0.1]/", "private or loopback"),
        ("https://localhost/", "private or loopback"),
        ("https://LOCALHOST./", "private or loopback"),
        ("https://a.localhost:1/", "private or loopback"),
    ],
)
def test_a_wrong_url_is_refused_by_rule(url: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=f"^url: .*{why}"):
        check_url(url, private=False)


def test_private_urls_may_be_posted_to_where_that_is_set() -> None:
    for url in ("http://127.0.0.1:8080/hook", "http://localhost/", "https://10.0.0.1/"):
        check_url(url, private=True)
    with pytest.raises(InvalidInput, match="must begin with https:// or http://"):
        check_url("file:///etc/passwd", private=True)


def test_a_url_is_bounded() -> None:
    url = "https://example.com/"
    check_url(url.ljust(MAX_URL_CHARS, "x"), private=False)
    with pytest.raises(InvalidInput, match=f"at most {MAX_URL_CHARS}"):
        check_url(url.ljust(MAX_URL_CHARS + 1, "x"), private=False)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.2.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:192.168.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "fc00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_the_internets_is_private(address: str) -> None:
    assert is_public(address) is False


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address) is True


@given(st.ip_addresses(v=4))
def test_an_address_is_as_private_within_ipv6_as_it_is_by_itself(address: ipaddress.IPv4Address) -> None:
    assert is_public(f"::ffff:{address}") == is_public(f"64:ff9b::{address}") == is_public(str(address))


def test_kinds_are_read_once_each_and_none_are_all() -> None:
    assert read_kinds(None) is None
    assert read_kinds(["overage_started", "budget_threshold", "overage_started"]) == (
        AlertKind.BUDGET_THRESHOLD,
        AlertKind.OVERAGE_STARTED,
    )
    for names, error in (
        ([], "events: must name"),
        (["budget_threshold", "x"], r"events\[1\]: must be one of budget_th"),
    ):
        with pytest.raises(InvalidInput, match=error):
            read_kinds(names)


def test_a_webhook_wants_the_kinds_that_it_names_or_all() -> None:
    some = Webhook("w", "u", (AlertKind.LIMIT_DENIED,), 0, SECRET)
    assert [some.wants(kind) for kind in (AlertKind.LIMIT_DENIED, AlertKind.OVERAGE_STARTED)] == [True, False]
    assert all(Webhook("w", "u", None, 0, SECRET).wants(kind) for kind in AlertKind)
    assert not any(Webhook("w", "u", None, 0, SECRET, disabled_at_us=0).wants(kind) for kind in AlertKind)


def test_a_new_secret_signs_beside_the_one_before_it_for_a_day_and_then_alone() -> None:
    new = secret_of(bytes(24))
    rotated = Webhook("w", "u", None, 0, SECRET).with_secret(new, AT_US)
    ends_us = AT_US + OVERLAP_S * 1_000_000
    assert rotated.secrets(ends_us - 1) == (new, SECRET)
    assert rotated.secrets(ends_us) == (new,)
    alone = [headers_of((each,), MESSAGE, AT_US, BODY)["webhook-signature"] for each in (new, SECRET)]
    assert headers_of((new, SECRET), MESSAGE, AT_US, BODY)["webhook-signature"] == " ".join(alone)


def test_of_two_rotations_within_a_day_the_first_secret_signs_no_more() -> None:
    second, third = secret_of(bytes(24)), secret_of(bytes(25))
    rotated = Webhook("w", "u", None, 0, SECRET).with_secret(second, AT_US).with_secret(third, AT_US + 1)
    assert rotated.secrets(AT_US + 2) == (third, second)
    assert rotated.with_secret(third, AT_US + 3) == rotated
    for secret in (second, third):
        assert secret not in repr(rotated)


@given(st.integers(1, MAX_ATTEMPTS - 1), st.integers(0))
def test_each_wait_is_the_documented_one_and_up_to_a_fifth_more(attempts: int, luck: int) -> None:
    waited_ms = retry_after_ms(attempts, luck)
    assert waited_ms is not None
    assert RETRY_AFTER_S[attempts - 1] * 1_000 <= waited_ms < RETRY_AFTER_S[attempts - 1] * 1_200


def test_waits_grow_and_end_after_ten_attempts() -> None:
    waits = [retry_after_ms(attempts, 0) for attempts in range(1, MAX_ATTEMPTS + 1)]
    seconds = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert waits == [*(each * 1_000 for each in seconds), None]
