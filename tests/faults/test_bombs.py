"""Bodies made to take all memory, against the real programs in little memory: each is answered, and nothing is lost."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from fakes import eventually
from processes import AgentProcess, ControlPlane

from faults.bombs import JSON, PACKED, Bomb, gzip_bombs, json_bombs, messages, packed_bombs
from faults.limited import with_only

MIB = 1 << 20
# Of address space, in which each thread has 8 MiB of stack, and 64 MiB that its heap may grow into.
MEMORY_BYTES = 1024 * MIB
# A body of 8 MiB is held a few times while it is read; what it says, where that is taken, is up to 25 times as much.
MAX_GROWTH_BYTES = 128 * MIB

USAGE = """{ usage(meter: "calls", from: "1970-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z") { value events } }"""
LETTERS = "{ deadLetters(first: 200) { edges { node { reason meter } } } }"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    with ControlPlane(tmp_path) as plane:
        plane.launch = with_only(AS=MEMORY_BYTES)
        async with plane.http:
            await plane.start()
            await plane.make("createMeter", "MeterInput", key="calls", eventType="call", aggregation="COUNT")
            yield plane


@asynccontextmanager
async def agent(directory: Path, plane: ControlPlane) -> AsyncIterator[AgentProcess]:
    with AgentProcess(directory, plane.url, await plane.new_key("AGENT")) as process:
        process.launch = with_only(AS=MEMORY_BYTES)
        async with process.http:
            await process.start()
            yield process


def peak_bytes(program: ControlPlane | AgentProcess) -> int:
    """The most memory that the process ever had."""
    assert program.process
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kib) * 1024


async def used(plane: ControlPlane) -> int:
    rows = (await plane.ask(USAGE))["usage"]
    return int(rows[0]["value"]) if rows else 0


class Range:
    """Where bombs go off: one door of a program, and the good event that has to pass it after each of them."""

    def __init__(self, program: ControlPlane | AgentProcess, url: str, **headers: str) -> None:
        self.program = program
        self.url = url
        self.headers = headers
        self.harmless = 0
        self.good = 0

    async def blow(self, bomb: Bomb) -> str | None:
        """What is wrong with the answer to a bomb, None for nothing."""
        headers = self.headers | {"Content-Type": bomb.form} | bomb.headers
        try:
            answer = await self.program.http.post(self.url, content=bomb.body, headers=headers)
        except httpx.TransportError as exc:
            return f"{bomb.name}: {exc!r}"
        if answer.status_code not in bomb.statuses:
            return f"{bomb.name}: {answer.status_code} {answer.text[:300]}"
        if answer.status_code >= 400 and not (answer.json().get("code") and answer.json().get("detail")):
            return f"{bomb.name}: {answer.text[:300]}"
        self.harmless += answer.status_code == 202
        return None

    async def all(self, bombs: Iterable[Bomb], good: Callable[[int], Awaitable[object]]) -> None:
        """Every bomb, with a good event after each; every answer is clear, and the memory stays bounded."""
        wrong = []
        for bomb in bombs:
            before = peak_bytes(self.program)
            wrong.append(await self.blow(bomb))
            assert self.program.running, bomb.name
            await good(self.good)
            self.good += 1
            grown = peak_bytes(self.program) - before
            if grown > MAX_GROWTH_BYTES:
                wrong.append(f"{bomb.name}: took {grown / MIB:.0f} MiB")
        assert [each for each in wrong if each] == []


async def accepted(http: httpx.AsyncClient, url: str, event_id: str) -> None:
    answer = await http.post(url, json={"id": event_id, "type": "call", "subject": "acme"})
    assert answer.status_code == 202, answer.text


async def test_no_body_takes_the_agents_memory_and_every_good_event_is_counted(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with agent(tmp_path / "agent", plane) as process:
        door = Range(process, "/v1/events")

        async def good(number: int) -> None:
            await accepted(process.http, "/v1/events", f"good-{number}")

        most_bytes = 8 * MIB
        await door.all([*json_bombs(most_bytes), *packed_bombs(most_bytes), *gzip_bombs(JSON, unzips=False)], good)
        questions = Range(process, "/v1/check")
        questions.good = door.good
        await questions.all(no_events([*json_bombs(MIB), *packed_bombs(MIB)]), good)

        ids = await stored_ids(plane, questions.good)
        assert {each for each in ids if each.startswith("good-")} == {f"good-{n}" for n in range(questions.good)}


def no_events(bombs: Iterable[Bomb]) -> list[Bomb]:
    """For a door that takes no events: there, none of them is harmless."""
    return [
        Bomb(each.name, each.body, each.form, each.headers)
        for each in bombs
        if 413 not in each.statuses or len(each.statuses) > 1
    ]


async def stored_ids(plane: ControlPlane, good: int) -> set[str]:
    """The ids of every stored event, once so many good ones are among them. Some of the bombs may be events, too."""
    expected = {f"good-{n}" for n in range(good)}

    async def arrived() -> set[str]:
        ids = await _stored_now(plane)
        return ids if expected <= ids else set()

    return await eventually(arrived, 60, every_s=0.2)


async def _stored_now(plane: ControlPlane) -> set[str]:
    ids: set[str] = set()
    after = None
    while True:
        query = "query($after: String) { events(first: 200, after: $after) { edges { node { id } } pageInfo { hasNextPage endCursor } } }"
        page = (await plane.ask(query, after=after))["events"]
        ids |= {edge["node"]["id"] for edge in page["edges"]}
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return ids


async def test_no_body_takes_the_control_planes_memory_and_every_good_event_is_counted(plane: ControlPlane) -> None:
    async def good(number: int) -> None:
        await accepted(plane.http, f"{plane.url}/v1/events", f"good-{number}")

    most_bytes = 8 * MIB
    doors = [
        (
            f"{plane.url}/v1/events",
            [*json_bombs(most_bytes), *packed_bombs(most_bytes), *gzip_bombs(JSON, unzips=True)],
        ),
        (f"{plane.url}/graphql", [*graphql_bombs(), *gzip_bombs(JSON, unzips=True)]),
    ]
    sent = [*messages(MIB + 64 * 1024), *gzip_bombs(PACKED, unzips=True)]
    doors += [
        (f"{plane.url}/agent/v1/{name}", some)
        for name, some in {"batch": sent, "hello": sent[::4], "sync": sent[1::4]}.items()
    ]
    count = 0
    for url, bombs in doors:
        door = Range(plane, url, **{"Sidemeter-Protocol": "1"})
        door.good = count
        await door.all(bombs, good)
        count = door.good
    ids = await stored_ids(plane, count)
    assert {each for each in ids if each.startswith("good-")} == {f"good-{n}" for n in range(count)}


def graphql_bombs() -> list[Bomb]:
    """Requests that cannot be GraphQL at all; how large one may be that is, is held beside its bounds."""
    whole = [Bomb(each.name, each.body) for each in json_bombs(MIB) if not each.body.startswith(b'{"id"')]
    return [each for each in whole if each.body[:1] != b" "]


async def test_a_batch_full_of_bombs_is_counted_but_for_them_and_they_are_dead_letters(plane: ControlPlane) -> None:
    """What a broken or hostile agent seals: valid as a batch, with events that are none."""
    headers = {"Content-Type": PACKED, "Sidemeter-Protocol": "1"}
    hello = {"agent_id": "a", "hello_id": "h", "boot_id": "b", "service": "s", "version": "1", "previous_epoch": None}
    answer = await plane.http.post(
        f"{plane.url}/agent/v1/hello", content=msgspec.msgpack.encode(hello), headers=headers
    )
    assert answer.status_code == 200, answer.text
    bombs = [*inner_bombs()]
    good = [msgspec.msgpack.encode([f"good-{n}", "s", "call", "acme", 0, "{}"]) for n in range(len(bombs))]
    prev, before = bytes(32), peak_bytes(plane)
    for number, (bomb, event) in enumerate(zip(bombs, good, strict=True), 1):
        body = b"\x92" + bomb + event
        digest = hashlib.sha256(prev + body).digest()
        batch = {"agent_id": "a", "epoch": 1, "batch_no": number, "prev_digest": prev, "digest": digest, "backlog": 0}
        sent = msgspec.msgpack.encode(batch | {"events": msgspec.Raw(body)})
        answer = await plane.http.post(f"{plane.url}/agent/v1/batch", content=sent, headers=headers)
        assert answer.status_code == 200, (number, answer.text)
        said = msgspec.msgpack.decode(answer.content)
        assert (said["status"], said["accepted"], said["dead_letters"]) == ("OK", 1, 1), (number, said)
        prev = digest
    assert peak_bytes(plane) - before < MAX_GROWTH_BYTES
    assert await used(plane) == len(bombs)
    letters = (await plane.ask(LETTERS))["deadLetters"]["edges"]
    assert len(letters) == len(bombs)


def inner_bombs() -> list[bytes]:
    """Elements of a batch, each whole as MessagePack, none of them an event."""
    data = {
        "deep": '{"a":' * 20_000 + "1" + "}" * 20_000,
        "arrays": '{"a":[' + "[]," * 300_000 + "0]}",
        "digits": '{"n":' + "9" * 900_000 + "}",
        "exponent": '{"n":1e99999999999999999999}',
        "no text": '{"n":"\\ud800"}',
        "NaN": '{"n":NaN}',
    }
    inner = [msgspec.msgpack.encode(["x", "s", "call", "acme", 0, text]) for text in data.values()]
    inner += [msgspec.msgpack.encode(["x", "s", "call", "x" * 900_000, 0, "{}"])]
    inner += [b"\x91" * 500 + b"\x90", b"\xd4\x05x", b"\xc7\x0c\xff" + b"\xff" * 12, b"\x96" + b"\xd4\x05x" * 6]
    inner += [b"\xdd\x00\x0f\x00\x00" + b"\xc0" * 0xF0000, b"\xdd\x00\x0f\x00\x00" + b"\x90" * 0xF0000]
    return inner


async def test_many_of_the_largest_bodies_at_once_are_bounded_together(plane: ControlPlane) -> None:
    body = b'{"type": "call", "subject": "acme"}'.ljust(8 * MIB)
    before = peak_bytes(plane)

    async def post() -> int:
        answer = await plane.http.post(f"{plane.url}/v1/events", content=body, headers={"Content-Type": JSON})
        assert answer.status_code == 202 or (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        return answer.status_code

    statuses = await asyncio.gather(*[post() for _ in range(24)])
    assert peak_bytes(plane) - before < MAX_GROWTH_BYTES
    await accepted(plane.http, f"{plane.url}/v1/events", "good")
    assert await used(plane) == statuses.count(202) + 1
