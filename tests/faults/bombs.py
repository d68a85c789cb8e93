"""Bodies made to take a program's memory, its stack or its time; each is small as it is sent."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

__all__ = ["JSON", "PACKED", "Bomb", "gzip_bombs", "json_bombs", "messages", "packed_bombs"]

JSON: Final = "application/json"
PACKED: Final = "application/msgpack"
MIB: Final = 1 << 20
EVENT: Final = {"id": "bomb", "type": "call", "subject": "acme"}


@dataclass(frozen=True)
class Bomb:
    """What to send, and the statuses that are a clear answer to it: a refusal, or the few that are harmless after all."""

    name: str
    body: bytes
    form: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = frozenset({400, 413, 422})


def _json(data: str, **more: object) -> bytes:
    """One event whose data is that text."""
    return json.dumps(EVENT | more)[:-1].encode() + b', "data": ' + data.encode("utf-8", "surrogatepass") + b"}"


def _packed(data: bytes) -> bytes:
    """One event in MessagePack whose data is those bytes."""
    return b"\x84" + msgspec.msgpack.encode(EVENT)[1:] + b"\xa4data" + data


def json_bombs(most_bytes: int) -> Iterator[Bomb]:
    """For a door that takes events in JSON, bodies of up to so many bytes."""
    deep = most_bytes // 8
    yield Bomb("arrays in arrays", b"[" * most_bytes)
    yield Bomb("closed arrays in arrays", b"[" * deep + b"]" * deep)
    yield Bomb("objects in objects", b'{"a":' * deep)
    yield Bomb("closed objects in objects", b'{"a":' * deep + b"1" + b"}" * deep)
    yield Bomb("data of arrays in arrays", _json('{"a":' + "[" * deep + "]" * deep + "}"))
    yield Bomb("data one level too deep", _json('{"a":' * 17 + "1" + "}" * 17))
    yield Bomb("a thousand levels", _json('{"a":' * 1000 + "1" + "}" * 1000))
    yield Bomb("an array of numbers", b"[" + b"0," * (most_bytes // 2 - 1) + b"0]")
    yield Bomb("an array of empty arrays", b"[" + b"[]," * (most_bytes // 3 - 1) + b"0]")
    yield Bomb("an array of empty objects", b"[" + b"{}," * (most_bytes // 3 - 1) + b"0]")
    yield Bomb("data of empty arrays", _json('{"a":[' + "[]," * (most_bytes // 3 - 60) + "0]}"))
    yield Bomb("data with a million keys", _json("{" + ",".join(f'"{n}":0' for n in range(most_bytes // 12)) + "}"))
    yield Bomb("a number of a million digits", _json('{"n":' + "9" * (most_bytes // 2) + "}"))
    yield Bomb("a fraction of a million digits", _json('{"n":0.' + "9" * (most_bytes // 2) + "}"))
    yield Bomb("an exponent of a million digits", _json('{"n":1e' + "9" * (most_bytes // 2) + "}"))
    yield Bomb(
        "an exponent that no decimal holds", _json('{"n":1e99999999999999999999}'), statuses=frozenset({202, 422})
    )
    yield Bomb("a large exponent", _json('{"n":1e999999999}'), statuses=frozenset({202}))
    yield Bomb("a small exponent", _json('{"n":1e-999999999}', id="bomb-"), statuses=frozenset({202}))
    yield Bomb("NaN", _json('{"n":NaN}'))
    yield Bomb("a key twice", _json('{"n":1,"n":2}', id="bomb-twice"), statuses=frozenset({202}))
    yield Bomb(
        "a field twice", _json("{}").replace(b'"type"', b'"id": "bomb-other", "type"'), statuses=frozenset({202})
    )
    yield Bomb("half a character", _json('{"n":"\\ud800"}'))
    yield Bomb("bytes that are no text", _json('{"n":"x"}').replace(b'"x"', b'"\xff\xfe"'))
    yield Bomb("a name without end", json.dumps(EVENT | {"subject": "x" * (most_bytes // 2)}).encode())
    yield Bomb("a field without end", json.dumps(EVENT | {"x" * (most_bytes // 2): 1}).encode())
    yield Bomb("one byte too many", b" " * (most_bytes + 1), statuses=frozenset({413}))


def packed_bombs(most_bytes: int) -> Iterator[Bomb]:
    """For a door that takes events in MessagePack."""
    huge = struct.pack(">I", 0xFFFFFFFF)
    many = struct.pack(">I", most_bytes // 5)
    heads = {"array": b"\xdd", "map": b"\xdf", "text": b"\xdb", "binary": b"\xc6", "extension": b"\xc9"}
    for name, head in heads.items():
        yield Bomb(f"an {name} said to be huge", head + huge, PACKED)
        yield Bomb(f"data with an {name} said to be huge", _packed(b"\x81\xa1n" + head + huge), PACKED)
    yield Bomb("arrays said to be large in each other", (b"\xdd" + many) * (most_bytes // 5), PACKED)
    yield Bomb("data of arrays said to be large in each other", _packed(b"\x81\xa1n" + (b"\xdd" + many) * 1000), PACKED)
    yield Bomb(
        "maps said to be large in each other", _packed(b"\x81\xa1n" + (b"\xdf" + many + b"\xa1k") * 1000), PACKED
    )
    yield Bomb("arrays in arrays", b"\x91" * most_bytes, PACKED)
    yield Bomb("closed arrays in arrays", b"\x91" * (most_bytes - 1) + b"\x90", PACKED)
    yield Bomb("maps in maps", b"\x81\xa1a" * (most_bytes // 3), PACKED)
    yield Bomb("data of arrays in arrays", _packed(b"\x81\xa1n" + b"\x91" * (most_bytes // 2) + b"\x90"), PACKED)
    yield Bomb("data one level too deep", _packed(b"\x81\xa1a" * 17 + b"\x01"), PACKED)
    yield Bomb("an array of nothings", b"\xdd" + struct.pack(">I", most_bytes - 5) + b"\xc0" * (most_bytes - 5), PACKED)
    empty = most_bytes - 200
    yield Bomb("data of empty arrays", _packed(b"\x81\xa1n\xdd" + struct.pack(">I", empty) + b"\x90" * empty), PACKED)
    yield Bomb("data of empty maps", _packed(b"\x81\xa1n\xdd" + struct.pack(">I", empty) + b"\x80" * empty), PACKED)
    for name, data in {
        "an extension": b"\xd4\x05x",
        "an instant": b"\xd6\xff\x00\x00\x00\x00",
        "an instant beyond every calendar": b"\xc7\x0c\xff" + b"\xff" * 12,
        "NaN": b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        "Infinity": b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        "a short NaN": b"\xca\x7f\xc0\x00\x00",
        "binary": b"\xc4\x01x",
        "bytes that are no text": b"\xa2\xff\xfe",
        "a byte that means nothing": b"\xc1",
        "a key that is no text": b"\x81\x01\x01",
        "a key that is an array": b"\x81\x91\x01\x01",
        "a key that is an extension": b"\x81\xd4\x05x\x01",
    }.items():
        yield Bomb(f"data with {name}", _packed(b"\x81\xa1n" + data), PACKED)
    yield Bomb("a key twice", _packed(b"\x82\xa1n\x01\xa1n\x02"), PACKED, statuses=frozenset({202}))
    yield Bomb("an extension for an event", b"\xc7\x01\x05x", PACKED)
    yield Bomb("an extension for a name", msgspec.msgpack.encode(EVENT).replace(b"\xa4acme", b"\xd5\x05me"), PACKED)
    yield Bomb("one byte too many", b"\xc0" * (most_bytes + 1), PACKED, statuses=frozenset({413}))


def gzip_bombs(form: str, *, unzips: bool) -> Iterator[Bomb]:
    """For a door that unzips, or does not."""
    statuses = frozenset({400, 413}) if unzips else frozenset({415})
    zipped = {"Content-Encoding": "gzip"}
    giant = _zeros(1024 * MIB)
    assert len(giant) < MIB + 64 * 1024
    yield Bomb("a gibibyte of zeros, zipped", giant, form, zipped, statuses)
    yield Bomb("eight mebibytes and a byte, zipped", _zeros(8 * MIB + 1), form, zipped, statuses)
    yield Bomb("two streams, zipped", gzip.compress(b"{}") * 2, form, zipped, statuses)
    yield Bomb("half a stream, zipped", gzip.compress(b"{}")[:-4], form, zipped, statuses)
    yield Bomb("a zip of a zip", gzip.compress(giant), form, zipped, statuses)
    for encoding in ("deflate", "gzip, gzip", "br", "zstd", "x" * 1000):
        sent = {"Content-Encoding": encoding}
        yield Bomb(f"said to be {encoding[:12]}", zlib.compress(bytes(MIB)), form, sent, frozenset({415}))


def _zeros(size: int) -> bytes:
    """So many zeros as one gzip stream, made without ever holding them."""
    zipper = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([zipper.compress(bytes(min(MIB, size - at))) for at in range(0, size, MIB)]) + zipper.flush()


def messages(most_bytes: int) -> Iterator[Bomb]:
    """For the doors that take one message in MessagePack: what is none."""
    for bomb in packed_bombs(most_bytes):
        if bomb.statuses != {202}:
            yield bomb
