"""What keeps an agent from working, or soon will: each thing it needs is looked at, and said with what to do about it.

It changes nothing, asks nothing of the control plane that would be counted, and may run beside an agent at work.
"""

import asyncio
import difflib
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from sidemeter import host
from sidemeter.clock import Clock
from sidemeter.errors import SidemeterError, Unreachable
from sidemeter.premises import Finding, Status, directory, memory
from sidemeter.settings import ENVIRON_PREFIX, Settings
from sidemeter.top import Look, look
from sidemeter.uplink import PROTOCOL, Answer, Link
from sidemeter.version import VERSION

__all__ = ["CLOCK_FAIL_S", "CLOCK_WARN_S", "examine", "misspelled"]

CLOCK_WARN_S: Final = 2
CLOCK_FAIL_S: Final = 300
"""Events would be counted in other hours than they happened in; by an hour ahead, they become dead letters."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class About(msgspec.Struct, frozen=True, rename="camel"):
    """What a control plane says of itself."""

    version: str
    protocol: str
    now_us: int
    scopes: tuple[str, ...]


async def examine(
    settings: Settings, environ: Mapping[str, str], clock: Clock, *, agent: Link, plane: Link | None
) -> list[Finding]:
    """Everything, in the order in which a problem explains those after it."""
    findings = [Finding("configuration", "ok", f"service {settings.service}"), *misspelled(environ)]
    running = await _running(agent, clock)
    findings += await asyncio.to_thread(lambda: [*directory(settings), *memory(settings)])
    findings += _agent(settings, running)
    if plane is None:
        advice = "set SIDEMETER_CONTROL_PLANE and SIDEMETER_API_KEY"
        findings.append(Finding("control plane", "warn", "none is set: events are kept, and sent nowhere", advice))
    else:
        findings += await _plane(settings, plane, clock)
    return findings


def misspelled(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that are nearly those of a setting, and so are read by nobody."""
    known = {ENVIRON_PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    for name in sorted(environ.keys() - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.87) if name.startswith(ENVIRON_PREFIX) else []
        if near:
            yield Finding("configuration", "warn", f"{name} is read by nothing here", f"{near[0]} may be meant")


async def _running(agent: Link, clock: Clock) -> Look | SidemeterError:
    try:
        return await look(agent, clock)
    except SidemeterError as exc:
        return exc


def _agent(settings: Settings, running: Look | SidemeterError) -> Iterator[Finding]:
    """The one that runs there, if one does."""
    if isinstance(running, SidemeterError):
        if host.is_locked(settings.data_dir / "lock"):
            yield Finding("agent", "fail", f"one has the directory, and does not answer: {running}",
                          "look at its log; give doctor the same --socket or --listen")  # fmt: skip
        else:
            yield Finding("agent", "ok", "none runs here now")
        return
    yield Finding("agent", "ok", f"version {running.version} runs here, epoch {running.of('epoch')}")
    if running.version != VERSION:
        yield Finding("agent", "warn", f"it is {running.version}, and this command {VERSION}", "restart the agent")
    yield from _figures(running)


def _figures(running: Look) -> Iterator[Finding]:
    conditions: tuple[tuple[bool, Status, str, str], ...] = (
        (not running.of("ready"), "fail", "it takes no events", "look at its log"),
        (bool(running.of("disk_refusing")), "fail", "its disk is full: nothing is recorded", "make room on the disk"),
        (
            running.of("lost_events_total") > 0,
            "fail",
            f"{running.of('lost_events_total')} acknowledged events were lost by the disk",
            "replace the disk; lossDeclarations in GraphQL says which",
        ),
        (
            running.of("set_aside_events") > 0,
            "warn",
            f"{running.of('set_aside_events')} events are set aside, which the control plane can never take",
            "its log says why",
        ),
        (
            not running.of("connected") and running.of("backlog_events") > 0,
            "warn",
            f"{running.of('backlog_events')} events wait, and nothing is sent",
            "see the lines on the control plane below",
        ),
    )
    for holds, status, found, advice in conditions:
        if holds:
            yield Finding("agent", status, found, advice)


async def _plane(settings: Settings, plane: Link, clock: Clock) -> list[Finding]:
    """The control plane, asked who it is."""
    where = str(settings.control_plane)
    before_us = clock.now_us()
    try:
        answer = await plane.request("GET", "/v1/about", headers={"Authorization": f"Bearer {settings.api_key}"})
    except Unreachable as exc:
        advice = "is it running, is the URL right, is the way open?"
        return [Finding("control plane", "fail", f"no answer: {exc}", advice)]
    after_us = clock.now_us()
    findings = [Finding("control plane", "ok", f"{where} answers, after {(after_us - before_us) / 1000:.0f} ms")]
    parts = urlsplit(where)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        advice = "use https, by a proxy before the control plane"
        findings.append(Finding("control plane", "warn", "the key goes over the network as it is", advice))
    about = _about(answer)
    findings.append(_key(answer, about))
    if about is not None:
        findings.append(_version(about))
    if (theirs_us := _their_time(answer, about)) is not None:
        findings.append(_clocks((before_us + after_us) // 2 - theirs_us, (after_us - before_us) // 2))
    return findings


def _about(answer: Answer) -> About | None:
    try:
        return msgspec.json.decode(answer.body, type=About) if answer.status == 200 else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _key(answer: Answer, about: About | None) -> Finding:
    make = 'make another: createApiKey(input: {name: "agents", scopes: [AGENT]})'
    if about is not None and "AGENT" in about.scopes:
        return Finding("key", "ok", f"in force, with {', '.join(about.scopes)}")
    if about is not None and "ADMIN" in about.scopes:
        return Finding("key", "warn", "it may do everything", f"an agent needs AGENT alone; {make}")
    if about is not None:
        return Finding("key", "fail", f"it lacks the scope AGENT, and has {', '.join(about.scopes)}", make)
    if answer.status == 401:
        return Finding("key", "fail", "unknown, expired or revoked", make)
    return Finding("key", "warn", f"cannot be looked at: the answer was {answer.status}",
                   "an older control plane, a proxy, or no control plane at all")  # fmt: skip


def _version(about: About) -> Finding:
    if about.protocol != PROTOCOL:
        return Finding("version", "fail", f"it speaks protocol {about.protocol}, and this agent {PROTOCOL}",
                       "upgrade the older of the two; events are kept until then")  # fmt: skip
    said = f"control plane {about.version}, this agent {VERSION}, protocol {PROTOCOL}"
    if _numbers(VERSION) > _numbers(about.version):
        return Finding("version", "warn", said, "upgrade the control plane before its agents")
    return Finding("version", "ok", said)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split(".") if each.isdigit())


def _their_time(answer: Answer, about: About | None) -> int | None:
    """Its clock, in microseconds; a `Date` header is of whole seconds."""
    if about is not None:
        return about.now_us
    try:
        return int(parsedate_to_datetime(answer.headers["date"]).timestamp()) * 1_000_000 + 500_000
    except (KeyError, ValueError):
        return None


def _clocks(ahead_us: int, unsure_us: int) -> Finding:
    off_us = max(abs(ahead_us) - unsure_us, 0)
    word = "ahead of" if ahead_us > 0 else "behind"
    said = f"{abs(ahead_us) // 1000:,} ms {word} the control plane's, give or take {unsure_us // 1000:,} ms"
    for status, bound_s in (("fail", CLOCK_FAIL_S), ("warn", CLOCK_WARN_S)):
        if off_us > bound_s * 1_000_000:
            return Finding("clock", "fail" if status == "fail" else "warn", said, "set both clocks by NTP")
    return Finding("clock", "ok", said)
