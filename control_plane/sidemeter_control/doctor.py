"""What keeps a control plane from working, or soon will: each thing it needs is looked at, and said with what to do.

It changes nothing, and may run beside a control plane at work: that one is then asked how it is.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Final

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from sidemeter_control import premises
from sidemeter_control.api.health import About
from sidemeter_control.clock import Clock
from sidemeter_control.nearby import url_of
from sidemeter_control.premises import Finding, Status
from sidemeter_control.settings import ENVIRON_PREFIX, Settings

__all__ = ["CLOCK_FAIL_S", "CLOCK_WARN_S", "examine", "misspelled"]

CLOCK_WARN_S: Final = 2
CLOCK_FAIL_S: Final = 300
"""Where periods end, and which events are too far ahead, is told by this clock."""

Figures = Mapping[str, float]


def examine(
    settings: Settings, environ: Mapping[str, str], clock: Clock, http: httpx.Client, *, url: str | None, version: str
) -> Iterator[Finding]:
    """Everything, in the order in which a problem explains those after it.

    `http` asks the control plane at `url`, None: the one that runs on this database, if one does; with its key.
    """
    yield Finding("configuration", "ok", "every setting keeps its rule")
    yield from misspelled(environ)
    running = premises.is_running(settings, clock)
    if url is None:
        yield from premises.database(settings, clock)
        yield from premises.address(settings, running=running)
    if url is not None or running:
        yield from _asked(http, url or url_of(settings), clock, version)


def misspelled(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that are nearly those of a setting, and so are read by nobody."""
    known = {ENVIRON_PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    for name in sorted(environ.keys() - known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.87) if name.startswith(ENVIRON_PREFIX) else []
        if near:
            yield Finding("configuration", "warn", f"{name} is read by nothing here", f"{near[0]} may be meant")


def _asked(http: httpx.Client, url: str, clock: Clock, version: str) -> Iterator[Finding]:
    before_us = clock.now_us()
    try:
        about = http.get(f"{url}/v1/about")
        after_us = clock.now_us()
        ready = http.get(f"{url}/readyz")
        figures = http.get(f"{url}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        found = f"{url}: {type(exc).__name__} {exc}"
        yield Finding("connection", "fail", found, "is it running, is --url right, is the way open?")
        return
    yield Finding("connection", "ok", f"{url} answers, after {(after_us - before_us) / 1000:.0f} ms")
    yield _ready(ready)
    said = _about(about)
    if said is None:
        yield _no_key(about)
        return
    yield Finding("key", "ok", f"in force, with {', '.join(said.scopes)}")
    yield _version(said, version)
    yield _clocks((before_us + after_us) // 2 - said.now_us, (after_us - before_us) // 2)
    if figures.status_code == httpx.codes.OK:
        yield from _figures(_read(figures.text))


def _ready(answer: httpx.Response) -> Finding:
    if answer.status_code != httpx.codes.OK:
        return Finding("readiness", "fail", f"it answers {answer.status_code}: {answer.text.strip()[:200]}",
                       "its log says why; mostly the disk is full or read-only")  # fmt: skip
    if "recovering" in answer.text:
        return Finding("readiness", "warn", "recovering: nothing more is granted of hard limits",
                       "let every agent reach it; endRecovery, in GraphQL, where one is gone for good")  # fmt: skip
    return Finding("readiness", "ok", "it takes events")


def _about(answer: httpx.Response) -> About | None:
    try:
        return msgspec.json.decode(answer.content, type=About) if answer.status_code == httpx.codes.OK else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _no_key(answer: httpx.Response) -> Finding:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return Finding("key", "warn", "none that is in force, so no figures",
                       "set SIDEMETER_ADMIN_KEY or SIDEMETER_API_KEY to one with READ")  # fmt: skip
    return Finding("version", "warn", f"what answers there is older, or something else: {answer.status_code}",
                   "look at --url, and restart it if it was upgraded")  # fmt: skip


def _version(about: About, version: str) -> Finding:
    if about.version == version:
        return Finding("version", "ok", f"{version}, protocol {about.protocol}")
    return Finding("version", "warn", f"{about.version} runs, and this command is {version}", "restart it")


def _clocks(ahead_us: int, unsure_us: int) -> Finding:
    off_us = max(abs(ahead_us) - unsure_us, 0)
    word = "ahead of" if ahead_us > 0 else "behind"
    said = f"{abs(ahead_us) // 1000:,} ms {word} the control plane's, give or take {unsure_us // 1000:,} ms"
    status: Status = "ok"
    if off_us > CLOCK_WARN_S * 1_000_000:
        status = "fail" if off_us > CLOCK_FAIL_S * 1_000_000 else "warn"
    return Finding("clock", status, said, "" if status == "ok" else "set both clocks by NTP")


def _read(text: str) -> Figures:
    return {
        "".join([sample.name, *(f"{{{value}}}" for value in sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _figures(figures: Figures) -> Iterator[Finding]:
    """What its figures tell of that somebody has to look at."""
    wrong: tuple[tuple[str, str, str], ...] = (
        ("sidemeter_dead_letters", "dead letters wait", "deadLetters says why; then replayDeadLetters"),
        ("sidemeter_agents_by_state{SILENT_WITH_BACKLOG}", "agents are silent and had events left", "look after them"),
        ("sidemeter_lost_events", "events were lost by agents' disks", "lossDeclarations says which"),
        ("sidemeter_leases_in_doubt", "parts of limits are held by agents that are gone", "writeOffLease frees them"),
        ("sidemeter_syncs_total{FENCED}", "syncs came of a clone of an agent since the start", "end one of the two"),
    )
    found = [(int(figures.get(name, 0)), what, advice) for name, what, advice in wrong]
    yield Finding("agents", "ok", f"{int(figures.get('sidemeter_agents', 0))} are known")
    for count, what, advice in found:
        if count:
            yield Finding("to look at", "warn", f"{count:,} {what}", advice)
