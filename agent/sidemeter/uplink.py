"""HTTP: the only module that knows httpx, and the three messages that the agent sends to the control plane."""

import gzip
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx
import msgspec

from sidemeter.batches import Batch, BatchAnswer, Counted, SyncStatus
from sidemeter.denials import Denied
from sidemeter.errors import Unacceptable, Unreachable
from sidemeter.holder import LeaseAnswer, LeaseGrant, LeaseReport
from sidemeter.limits import Limit
from sidemeter.losses import Loss

__all__ = [
    "MAX_LOSSES",
    "Answer",
    "BatchMessage",
    "Hello",
    "HelloAnswer",
    "Link",
    "Seen",
    "Sync",
    "SyncAnswer",
    "Uplink",
    "encode",
]

PROTOCOL: Final = "1"
MAX_LOSSES: Final = 100
"""In one hello; the control plane takes ten times as many, and more than one loss in an agent's life is rare."""
COMPRESS_FROM_BYTES: Final = 1024
MAX_RETRY_AFTER_S: Final = 3600.0
"""A longer wait is no answer of a control plane that is well; after it, asking costs nobody anything."""

NO_HEADERS: Final[Mapping[str, str]] = {}

T = TypeVar("T", bound=msgspec.Struct)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_s(self) -> float | None:
        """What `Retry-After` asks for, in seconds, if it says so in seconds."""
        return self._seconds("retry-after", 1)

    @property
    def wait_s(self) -> float | None:
        """What `Sidemeter-Wait-Ms` asks for, in seconds: only a control plane that spreads its agents sets it."""
        return self._seconds("sidemeter-wait-ms", 1000)

    def _seconds(self, header: str, parts: int) -> float | None:
        text = self.headers.get(header, "")
        return min(float(text) / parts, MAX_RETRY_AFTER_S) if text.isascii() and text.isdigit() else None


class Link:
    """One place to talk HTTP to: a base URL, or a Unix socket. One pool of connections.

    Raises `Unreachable` for whatever keeps an answer from coming; every answer that comes is returned.

    It is httpx's transport without httpx's client: that one logs every request at INFO, which would fill the log of the
    service that the agent runs in. What else it brings, redirects and cookies, has no place here.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        socket: Path | None = None,
        timeout_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._where = url if url is not None else str(socket)
        self._base = (url or "http://localhost").rstrip("/")
        self._headers = dict(headers or {})
        self._timeout = httpx.Timeout(timeout_s).as_dict()
        self._transport = (
            httpx.AsyncHTTPTransport(uds=str(socket))
            if socket is not None
            else httpx.AsyncHTTPTransport(proxy=_proxy_for(httpx.URL(self._base)))
        )

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read its whole answer."""
        request = httpx.Request(
            method,
            self._base + path,
            content=body,
            headers=self._headers | dict(headers or {}),
            extensions={"timeout": self._timeout},
        )
        try:
            answer = await self._transport.handle_async_request(request)
            try:
                content = await answer.aread()
            finally:
                await answer.aclose()
        except (httpx.HTTPError, httpx.StreamError) as exc:
            raise Unreachable(f"{self._where}: {type(exc).__name__} {exc}") from exc
        except (
            AttributeError
        ) as exc:  # of anyio, which asks a socket for its peer that was reset as soon as it was connected
            raise Unreachable(f"{self._where}: the connection was reset: {exc}") from exc
        return Answer(answer.status_code, dict(answer.headers), content)

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


def _proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment names for `url`, as `HTTPS_PROXY` and its like do."""
    return None if proxy_bypass(url.host) else getproxies().get(url.scheme)


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """An agent presents itself. The same `hello_id` gets the same epoch, however often it is sent.

    `previous_epoch` is the last one it had, `generation` the copy of the database that it heard of last; `losses` are
    those that the control plane has not stored, `counted` is the last batch that it knows to be counted.
    """

    agent_id: str
    hello_id: str
    boot_id: str
    previous_epoch: int | None
    service: str
    version: str
    generation: str | None = None
    losses: tuple[Loss, ...] = ()
    counted: Counted | None = None


class HelloAnswer(msgspec.Struct, frozen=True):
    """The epoch that the agent numbers its batches in, the bounds the control plane announces, the losses it stored.

    `rate_events_per_s` is what it takes from all agents together.
    """

    status: Literal["OK"]
    epoch: int
    next_batch_no: int
    generation: str
    sync_interval_ms: int
    max_batch_events: int
    max_batch_bytes: int
    losses_stored: tuple[str, ...] = ()
    rate_events_per_s: int | None = None


class Seen(msgspec.Struct, frozen=True):
    """The state of limits that the agent saw last."""

    generation: str
    state_version: int


class Sync(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question for the limits of some subjects, and what the holder `hello_id` says of its leases (`LeaseSync`).

    `nonce` is that of the last answer kept, and shows that this is the process which got it; `sync_id` is random,
    and stays the same until the sync is answered. `settled_batch_no` is the last batch of the epoch which the agent heard
    is counted. `denied` are limits that something was refused at, each told once; `denials` counts what was refused since the
    process began, by reason. `knows_prices`: limits in money are debited at price caps; without, they are told as reached.
    """

    agent_id: str
    epoch: int
    sync_seq: int
    nonce: bytes | None
    seen: Seen | None
    subjects: tuple[str, ...]
    leases: tuple[LeaseReport, ...]
    backlog: int
    oldest_pending_us: int | None
    sync_id: str | None = None
    settled_batch_no: int = 0
    hello_id: str = ""
    complete: bool = False
    denied: tuple[Denied, ...] = ()
    denials: dict[str, int] = {}
    knows_prices: bool = False


class SyncAnswer(msgspec.Struct, frozen=True):
    """Each subject's limits, and up to which batch of this agent's epoch their totals count; and what is granted.

    `sync_id` is that of the sync which it answers; empty from a control plane that knows no leases.
    """

    status: SyncStatus
    generation: str
    state_version: int
    as_of_us: int
    counted_batch_no: int
    next_sync_ms: int
    subjects: dict[str, tuple[str, ...]]
    limits: tuple[Limit, ...]
    nonce: bytes | None = None
    sync_id: str = ""
    grants: tuple[LeaseGrant, ...] = ()

    def of_leases(self, sync_id: str) -> LeaseAnswer:
        """What it says to the holder that asked with `sync_id`."""
        return LeaseAnswer(
            self.status,
            self.sync_id or sync_id,
            self.nonce,
            self.generation,
            self.state_version,
            self.grants,
            self.next_sync_ms,
        )


class BatchMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sealed batch under way; `backlog` counts the events that wait behind it.

    `generation` is the copy of the control plane's database that the agent heard of last.
    """

    agent_id: str
    epoch: int
    batch_no: int
    prev_digest: bytes
    digest: bytes
    backlog: int
    oldest_pending_us: int | None
    events: msgspec.Raw
    generation: str | None = None

    @classmethod
    def of(
        cls,
        agent_id: str,
        batch: Batch,
        events: bytes,
        *,
        backlog: int,
        oldest_pending_us: int | None,
        generation: str | None = None,
    ) -> "BatchMessage":
        """The message that carries `batch`, whose encoded events go in as they are."""
        return cls(
            agent_id=agent_id,
            epoch=batch.epoch,
            batch_no=batch.batch_no,
            prev_digest=batch.prev_digest,
            digest=batch.digest,
            backlog=backlog,
            oldest_pending_us=oldest_pending_us,
            events=msgspec.Raw(events),
            generation=generation,
        )


encode: Final = msgspec.msgpack.Encoder().encode
"""A message as the wire carries it."""


class Uplink:
    """The control plane, as the agent sees it.

    Every method raises `Unreachable` when the answer says "later" or does not come, and `Unacceptable` when it says
    "never like this".
    """

    def __init__(self, link: Link, *, api_key: str, compress: bool, protocol: str = PROTOCOL) -> None:
        self._link = link
        self._compress = compress
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/msgpack",
            "Sidemeter-Protocol": protocol,
        }

    async def hello(self, hello: Hello) -> HelloAnswer:
        """Present the agent; get its epoch."""
        return _decoded(await self._post("/agent/v1/hello", encode(hello), {"agent_id": hello.agent_id}), HelloAnswer)

    async def batch(self, message: BatchMessage, events: int, headers: Mapping[str, str] = NO_HEADERS) -> BatchAnswer:
        """Send a sealed batch of so many events. What the door says to it as a whole is a `BatchAnswer` as well.

        The headers say what comes, so that the door can send it away unread while there is no place for it, and `headers`
        of whose trace it is a part.
        """
        waiting = {
            **headers,
            "Sidemeter-Agent": message.agent_id,
            "Sidemeter-Events": str(events),
            "Sidemeter-Waiting": str(events + message.backlog),
        }
        about = {"agent_id": message.agent_id, "epoch": message.epoch, "batch_no": message.batch_no}
        answer = await self._post("/agent/v1/batch", encode(message), about, waiting)
        if answer.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            return BatchAnswer("REFUSED", message.batch_no, "too large for the control plane")
        if answer.status in {429, 503} and answer.wait_s is not None:
            return BatchAnswer("LATER", message.batch_no, wait_ms=round(answer.wait_s * 1000))
        decoded = _decoded(answer, BatchAnswer)
        if decoded.status == "DAMAGED":
            raise Unreachable(f"batch {message.batch_no} did not arrive as it was sealed")
        return decoded

    async def sync(self, sync: Sync) -> SyncAnswer:
        """Ask for limits."""
        about = {"agent_id": sync.agent_id, "epoch": sync.epoch}
        return _decoded(await self._post("/agent/v1/sync", encode(sync), about), SyncAnswer)

    async def _post(
        self, path: str, body: bytes, about: Mapping[str, object], also: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """The answer to this request: it names the request by what was asked. One from a cache, or of a connection that
        lost count, would settle events that nobody has. A control plane without that header is believed.

        A line of log says what it was `about`.
        """
        name = hashlib.blake2b(body, digest_size=8).hexdigest()
        headers = self._headers | {"Sidemeter-Request": name} | dict(also)
        if self._compress and len(body) > COMPRESS_FROM_BYTES:
            body, headers = gzip.compress(body, 1, mtime=0), headers | {"Content-Encoding": "gzip"}
        answer = await self._link.request("POST", path, body=body, headers=headers)
        log.debug("%s answered %d", path, answer.status, extra={**about, "request_id": name})
        if answer.headers.get("sidemeter-request", name) != name:
            raise Unreachable("the answer that came was to another request")
        return answer


def _decoded(answer: Answer, shape: type[T]) -> T:
    if answer.status in {408, 429} or answer.status >= 500:
        raise Unreachable(f"the control plane answered {answer.status}", retry_after_s=answer.retry_after_s)
    if answer.status != httpx.codes.OK:
        raise Unacceptable(f"the control plane answered {answer.status}: {_problem(answer)}")
    try:
        return msgspec.msgpack.decode(answer.body, type=shape)
    except msgspec.MsgspecError as exc:
        raise Unacceptable(f"the control plane's answer cannot be read: {exc}") from exc


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""


def _problem(answer: Answer) -> str:
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "no reason given"
    return f"{problem.code} {problem.detail}".strip()
