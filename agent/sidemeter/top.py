"""An agent seen from a terminal: what it does now, what waits, and which limits end soon. `screen` is pure."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from sidemeter.answers import Nearest, Quota
from sidemeter.clock import Clock
from sidemeter.errors import SidemeterError, Unacceptable
from sidemeter.uplink import Link

__all__ = ["Look", "look", "screen", "watch"]

SHOWN: Final = 15
"""Limits on one screen, and so asked for."""

_AGENT: Final = "sidemeter_agent_"
_BOLD, _RED, _GREEN, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"
_NEW_SCREEN, _OLD_SCREEN, _HOME, _REST, _LINE = (
    "\x1b[?1049h\x1b[?25l",
    "\x1b[?25h\x1b[?1049l",
    "\x1b[H",
    "\x1b[J",
    "\x1b[K",
)
_FLOWS: Final = (
    ("recorded", "recorded_events_total"),
    ("sent", "sent_events_total"),
    ("checked", "checks_total"),
    ("denied", "denials_total"),
    ("refused", "refused_events_total"),
)
_WRONG: Final = (
    ("disk_refusing", "the disk is too full to record: make room"),
    ("lost_events_total", "events were lost by the disk, and are declared"),
    ("set_aside_events", "events are set aside: the control plane can never take them"),
    ("reservations_in_doubt", "reservations ran out before their end: they are charged, and not billed"),
    ("rebuilds_total", "damaged buffers were begun anew since the start"),
)


@dataclass(frozen=True, slots=True)
class Look:
    """An agent at one moment: its figures by name, those with a label as `name{label}`; the limits nearest to their end."""

    at_s: float
    now_us: int
    version: str
    figures: Mapping[str, float]
    quotas: Sequence[Quota]

    def of(self, name: str) -> int:
        """A whole figure; 0 where this agent has none of the name."""
        return int(self.figures.get(name, 0))


async def look(link: Link, clock: Clock) -> Look:
    """Ask the agent. Raises Unreachable when it does not answer, Unacceptable when that is no agent."""
    metrics = await link.request("GET", "/metrics")
    quotas = await link.request("GET", f"/v1/quotas?nearest={SHOWN}")
    figures, version = _read(metrics.body)
    known = msgspec.json.decode(quotas.body, type=Nearest).quotas if quotas.status == 200 else []
    return Look(clock.monotonic_s(), clock.now_us(), version, figures, known)


def _read(text: bytes) -> tuple[dict[str, float], str]:
    figures: dict[str, float] = {}
    version = ""
    try:
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                name = sample.name.removeprefix(_AGENT)
                version = sample.labels.get("version", version) if name == "build_info" else version
                figures["".join([name, *(f"{{{value}}}" for value in sample.labels.values())])] = sample.value
    except (ValueError, UnicodeDecodeError) as exc:
        raise Unacceptable(f"these are no figures: {exc}") from exc
    if "ready" not in figures:
        raise Unacceptable("what answers there is no agent")
    return figures, version


def screen(where: str, before: Look, now: Look, width: int, *, coloured: bool = False) -> list[str]:
    """The lines to show, none longer than `width`; rates are those between the two looks."""
    paint = _painter(coloured)
    lines = [(f"sidemeter {now.version}  {_standing(now)}", _BOLD), (where, ""), ("", "")]
    lines += [(each, "") for each in _flows(before, now)]
    lines += [("", ""), *((each, "") for each in _waiting(now))]
    lines += [(f"{'attention':<14}{each}", _RED) for each in _attention(now)]
    lines += [("", ""), *_limits(now)]
    return [paint(_printable(text)[:width], style) for text, style in lines]


def _painter(coloured: bool) -> Callable[[str, str], str]:
    return (lambda text, style: f"{style}{text}{_PLAIN}" if style else text) if coloured else (lambda text, _: text)


def _printable(text: str) -> str:
    """Names of customers come from anywhere: none moves the cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _standing(now: Look) -> str:
    taking = "takes events" if now.of("ready") else "takes NO events"
    connected = "connected" if now.of("connected") else "NOT connected"
    return f"{taking}, {connected}, epoch {now.of('epoch')}"


def _flows(before: Look, now: Look) -> Iterator[str]:
    yield f"{'':<14}{'a second':>12}{'since start':>16}"
    took_s = max(now.at_s - before.at_s, 0.001)
    for word, name in _FLOWS:
        since = max(now.of(name) - before.of(name), 0)  # less: it started anew meanwhile
        line = f"{word:<14}{round(since / took_s):>12,}{now.of(name):>16,}"
        yield f"{line}  {_reasons(now)}" if word == "denied" else line


def _reasons(now: Look) -> str:
    found = {name[len("denied_total{") : -1]: now.of(name) for name in now.figures if name.startswith("denied_total{")}
    most = sorted(found.items(), key=lambda each: -each[1])
    return ", ".join(f"{reason} {count:,}" for reason, count in most[:3] if count)


def _waiting(now: Look) -> Iterator[str]:
    oldest = now.figures.get("oldest_backlog_timestamp_seconds", 0)
    age = f", the oldest of {_age(now.now_us - int(oldest * 1_000_000))} ago" if oldest else ""
    yield f"{'backlog':<14}{now.of('backlog_events'):,} events{age}; {now.of('pending_events'):,} not on disk yet"
    yield f"{'buffer':<14}{_size(now.of('buffer_bytes'))} on disk, {_size(now.of('ballast_bytes'))} set aside"
    held, rest = now.of("leases"), now.of("leases_with_rest")
    yield f"{'leases':<14}{held:,} held, {rest:,} with something left; {now.of('open_reservations'):,} reservations open"
    if paced := now.of("paced_seconds_total"):
        yield f"{'paced':<14}{paced:,} s waited for the control plane's pace since the start"


def _attention(now: Look) -> Iterator[str]:
    if not now.of("connected"):
        yield "the control plane does not answer, or there is none; sidemeter doctor says more"
    for name, meaning in _WRONG:
        if count := now.of(name):
            yield meaning if name == "disk_refusing" else f"{count:,} {meaning}"


def _limits(now: Look) -> Iterator[tuple[str, str]]:
    if not now.quotas:
        yield "no limits are known here yet: they are learned of customers that are seen", ""
        return
    yield f"{'nearest to their end':<26}{'feature':<18}{'used':>14}{'limit':>14}{'left':>7}  resets", _BOLD
    for each in now.quotas:
        used, limit = each.used or Decimal(0), each.limit or Decimal(0)
        left = 100 * max(limit - used, Decimal(0)) / limit if limit else Decimal(0)
        resets = (each.resets_at or "never")[:16].replace("T", " ")
        names = f"{each.customer[:25]:<26}{each.feature[:17]:<18}"
        yield f"{names}{_amount(used):>14}{_amount(limit):>14}{int(left):>5} %  {resets}", "" if left else _RED


def _amount(value: Decimal) -> str:
    return (
        f"{value.quantize(Decimal('0.01')).normalize():,f}" if value != value.to_integral_value() else f"{value:,.0f}"
    )


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def _age(passed_us: int) -> str:
    seconds = max(passed_us, 0) // 1_000_000
    for unit, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {word}"
    return f"{seconds} s"


async def watch(link: Link, where: str, clock: Clock, *, every_s: float, once: bool) -> None:
    """Show it on the terminal until it is interrupted; `once`, or where there is no terminal, as plain text and one screen.

    Raises as `look` does, at the first one; later ones are shown, and tried again.
    """
    before = await look(link, clock)
    live = sys.stdout.isatty() and not once
    with _alternate_screen(live):
        while True:
            await asyncio.sleep(every_s)
            problem = ""
            try:
                now = await look(link, clock)
            except SidemeterError as exc:
                if not live:
                    raise
                now, problem = before, f"no answer since then: {exc}"
            _show(screen(where, before, now, _width(live), coloured=live), problem, live=live)
            before = now
            if not live:
                return


def _width(live: bool) -> int:
    return shutil.get_terminal_size().columns if live else 120


def _show(lines: Sequence[str], problem: str, *, live: bool) -> None:
    shown = [*([problem] if problem else []), *lines]
    if live:
        height = shutil.get_terminal_size().lines
        sys.stdout.write(_HOME + f"{_LINE}\n".join(shown[: height - 1]) + _LINE + "\n" + _REST)
    else:
        sys.stdout.write("\n".join(shown) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _alternate_screen(live: bool) -> Iterator[None]:
    """A screen of its own meanwhile, so that what was in the terminal is there again afterwards."""
    if not live:
        yield
        return
    sys.stdout.write(_NEW_SCREEN)
    try:
        yield
    finally:
        sys.stdout.write(_OLD_SCREEN)
        sys.stdout.flush()
