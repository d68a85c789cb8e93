"""Salvage: the rows that can still be read in the bytes of a damaged SQLite file and its write-ahead log. Pure.

SQLite finds a row by way of other pages, and one wrong bit there hides thousands. Here every page is looked at for
itself, and a row is what its checksum proves to be one. The format: https://www.sqlite.org/fileformat2.html
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

import msgspec

from sidemeter.batches import checksum
from sidemeter.losses import Loss

__all__ = ["Content", "Found", "Numbers", "read"]

PAGE_BYTES: Final = 4096
"""SQLite's default, which every buffer is made with."""

MAX_PAYLOAD_BYTES: Final = 1 << 20
"""No row is larger: an event has 64 KiB of data and four names of up to 256 characters, and its JSON may be escaped."""

SEARCHED_PAGES: Final = 1024
"""A page that does not parse is searched byte by byte, at about 3 ms; a file of noise must not take hours."""

_LEAF: Final = 13
_INTERIOR: Final = 5
_OTHERS: Final = {0, 2, 10}
"""What a page begins with that is free, or that a long row goes on in; and an index's."""
_LONGEST_HEAD_BYTES: Final = 40
"""Of a record: at most eleven columns, whose serial types take three bytes at most."""
_LOG_HEAD_BYTES: Final = 32
_LOG_MAGIC: Final = {b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"}
"""The last bit tells the order of the bytes in what is summed up."""
_FRAME_HEAD_BYTES: Final = 24
_FRAME_BYTES: Final = _FRAME_HEAD_BYTES + PAGE_BYTES
_MOST_LOCAL: Final = PAGE_BYTES - 35
_LEAST_LOCAL: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_WIDTHS: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Bytes of a value of serial type 0 to 9."""


class Content(NamedTuple):
    """The bytes of a file: how many, and `read(at, length)` for some of them; fewer where they cannot be read."""

    size: int
    read: Callable[[int, int], bytes]


class Found(NamedTuple):
    """What one page gave: events by row number, events that were kept apart with the reason, losses."""

    events: list[tuple[int, bytes]]
    refused: list[tuple[int, bytes, str]]
    losses: list[Loss]


class Numbers:
    """A set of row numbers, at a bit for each where they are dense.

    >>> numbers = Numbers()
    >>> [numbers.add(seq) for seq in (3, 5, 3)]
    [True, True, False]
    >>> len(numbers), numbers.count(1, 4), numbers.absent(3, 6)
    (2, 1, (4, 6))
    """

    _BITS: Final = 4096

    def __init__(self, chunks: dict[int, int] | None = None) -> None:
        self._chunks = chunks or {}

    def add(self, seq: int) -> bool:
        """Take a number in; whether it is new."""
        chunk, bit = divmod(seq, self._BITS)
        before = self._chunks.get(chunk, 0)
        self._chunks[chunk] = before | 1 << bit
        return not before >> bit & 1

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._chunks.values())

    def __contains__(self, seq: int) -> bool:
        chunk, bit = divmod(seq, self._BITS)
        return bool(self._chunks.get(chunk, 0) >> bit & 1)

    def count(self, first: int, last: int) -> int:
        """How many there are from `first` to `last`."""
        return sum((bits & self._mask(chunk, first, last)).bit_count() for chunk, bits in self._chunks.items())

    def without(self, other: "Numbers") -> "Numbers":
        """Those that `other` does not have."""
        theirs = other._chunks  # noqa: SLF001 -- its own kind
        return Numbers({chunk: bits & ~theirs.get(chunk, 0) for chunk, bits in self._chunks.items()})

    def absent(self, first: int, last: int) -> tuple[int, int] | None:
        """The first and the last number from `first` to `last` that is not here; None when all are."""
        low = self._nearest(first, last, 1)
        return None if low is None else (low, self._nearest(last, first, -1) or low)

    def _nearest(self, start: int, end: int, step: int) -> int | None:
        full, seq = (1 << self._BITS) - 1, start
        while (end - seq) * step >= 0:
            chunk = seq // self._BITS
            if self._chunks.get(chunk) == full:
                seq = (chunk + 1) * self._BITS if step > 0 else chunk * self._BITS - 1
            elif seq in self:
                seq += step
            else:
                return seq
        return None

    def _mask(self, chunk: int, first: int, last: int) -> int:
        start = max(first - chunk * self._BITS, 0)
        end = min(last - chunk * self._BITS + 1, self._BITS)
        return (1 << end) - (1 << start) if end > start else 0


def read(main: Content, wal: Content, searched_pages: int = SEARCHED_PAGES) -> Iterator[Found]:
    """Everything that proves itself, one page after the other: the database's, then the log's as far as committed.

    Of the pages that do not parse, `searched_pages` are searched.
    """
    frames = _committed_frames(wal)
    latest: dict[int, int] = {}
    for frame in range(frames):
        latest[int.from_bytes(wal.read(_frame_at(frame), 4), "big")] = frame

    def page(number: int, *, logged: bool) -> bytes:
        frame = latest.get(number) if logged else None
        if frame is not None:
            return wal.read(_frame_at(frame) + _FRAME_HEAD_BYTES, PAGE_BYTES)
        return main.read((number - 1) * PAGE_BYTES, PAGE_BYTES)

    pages = _Pages(page, searched_pages)
    for number in range(-(-main.size // PAGE_BYTES)):
        yield pages.found(main.read(number * PAGE_BYTES, PAGE_BYTES), first=number == 0)
    for frame in range(frames):
        first = wal.read(_frame_at(frame), 4) == b"\0\0\0\1"
        yield pages.found(wal.read(_frame_at(frame) + _FRAME_HEAD_BYTES, PAGE_BYTES), first=first)


def _frame_at(frame: int) -> int:
    return _LOG_HEAD_BYTES + frame * _FRAME_BYTES


def _committed_frames(wal: Content) -> int:
    """How many frames of the log belong to transactions that were committed, by the salts of the header.

    A header that does not prove itself says nothing: then it is the first frame's salts, which are the same.
    """
    frames = (wal.size - _LOG_HEAD_BYTES) // _FRAME_BYTES
    if frames < 1:
        return 0
    head = wal.read(0, _LOG_HEAD_BYTES)
    salts = head[16:24] if _proves_itself(head) else wal.read(_frame_at(0) + 8, 8)
    for frame in reversed(range(frames)):
        frame_head = wal.read(_frame_at(frame), _FRAME_HEAD_BYTES)
        if frame_head[4:8] != b"\0\0\0\0" and frame_head[8:16] == salts:
            return frame + 1
    return 0


def _proves_itself(head: bytes) -> bool:
    if head[:4] not in _LOG_MAGIC:
        return False
    order: Literal["big", "little"] = "big" if head[3:4] == b"\x83" else "little"
    words = [int.from_bytes(head[at : at + 4], order) for at in range(0, 24, 4)]
    low = high = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        low = (low + even + high) & 0xFFFFFFFF
        high = (high + odd + low) & 0xFFFFFFFF
    return head[24:32] == low.to_bytes(4, "big") + high.to_bytes(4, "big")


class _Pages:
    """Reads pages one by one; `page(number, logged=…)` is how it gets at those that a long row goes on in."""

    def __init__(self, page: Callable[..., bytes], searched_pages: int) -> None:
        self._page = page
        self._left_to_search = searched_pages

    def found(self, content: bytes, *, first: bool) -> Found:
        """What `content` gives; the `first` page begins with the file's header."""
        found = Found([], [], [])
        head = 100 if first else 0
        kind = content[head] if len(content) == PAGE_BYTES else 0
        if kind == _LEAF and self._listed(content, head, found):
            return found
        if kind not in _OTHERS and not (kind == _INTERIOR and _leads_on(content)) and self._left_to_search:
            self._left_to_search -= 1
            found = Found([], [], [])
            for at in range(8, PAGE_BYTES - 8):
                self._cell(content, at, found)
        return found

    def _listed(self, content: bytes, head: int, found: Found) -> bool:
        """Take the cells that the page lists; whether they and what is free add up to the page."""
        free, cells, begin = (_two(content, head + at) for at in (1, 3, 5))
        pointers = head + 8
        if pointers + 2 * cells > PAGE_BYTES:
            return False
        used, sound = content[head + 7], True
        for at in range(pointers, pointers + 2 * cells, 2):
            size = self._cell(content, _two(content, at), found)
            used += size
            sound = sound and size > 0
        while 0 < free < PAGE_BYTES - 4 and used <= PAGE_BYTES:
            used += _two(content, free + 2)
            free = _two(content, free)
        return sound and begin + used == PAGE_BYTES

    def _cell(self, content: bytes, start: int, found: Found) -> int:
        """Take the cell at `start`, if it is one; how long it is, 0 for none or for one that does not prove itself."""
        size, at = _varint(content, start)
        if not 4 <= size <= MAX_PAYLOAD_BYTES:
            return 0
        seq, at = _varint(content, at)
        local = size
        if size > _MOST_LOCAL:
            local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE_BYTES - 4)
            local = local if local <= _MOST_LOCAL else _LEAST_LOCAL
        end = at + local
        if end + (4 if local < size else 0) > PAGE_BYTES:
            return 0
        record = _record(content, at, size)
        if record is None:
            return 0
        payload = content[at:end]
        if local == size:
            return end - start if _take(seq, payload, record, found) else 0
        begin = int.from_bytes(content[end : end + 4], "big")
        for logged in (True, False):
            if _take(seq, payload + self._rest(begin, size - local, logged), record, found):
                return end + 4 - start
        return 0

    def _rest(self, number: int, size: int, logged: bool) -> bytes:
        """Up to `size` bytes that a row has in other pages, from page `number` on."""
        parts = []
        while size > 0 and number:
            content = self._page(number, logged=logged)
            number = int.from_bytes(content[:4], "big")
            parts.append(content[4 : 4 + size])
            if not parts[-1]:
                break
            size -= len(parts[-1])
        return b"".join(parts)


class _Record(NamedTuple):
    """What the head of a record says: the serial types of its values, and where they begin."""

    types: tuple[int, ...]
    begin: int


def _record(content: bytes, at: int, size: int) -> _Record | None:
    """The head of a record of `size` bytes; None when it is none that the buffer keeps."""
    length = content[at]
    if not 3 <= length <= _LONGEST_HEAD_BYTES or length > size:
        return None
    types, end, at = [], at + length, at + 1
    while at < end:
        kind, at = _varint(content, at)
        types.append(kind)
        size -= _width(kind)
    return _Record(tuple(types), length) if at == end and size == length else None


def _take(seq: int, payload: bytes, record: _Record, found: Found) -> bool:
    """Put a record where it belongs. False when it is of a form that has a checksum, and that is wrong."""
    types = record.types
    if len(types) not in {3, 4} or not 0 < types[-1] < 10:
        return True
    match tuple(map(_kind, types[:-1])):
        case ("null", "blob"):
            body, crc = _values(payload, record)[1:]
            if proven := checksum(seq, body) == int(crc):
                found.events.append((seq, body))
        case ("null", "blob", "text"):
            body, reason, crc = _values(payload, record)[1:]
            if proven := checksum(seq, body) == int(crc):
                found.refused.append((seq, body, reason.decode(errors="replace")))
        case ("text", "blob"):
            _, body, crc = _values(payload, record)
            proven = checksum(0, body) == int(crc) and _take_loss(body, found)
        case _:
            proven = True  # a caller's id, or a line of the schema: nothing that has to be read back
    return proven


def _take_loss(body: bytes, found: Found) -> bool:
    try:
        found.losses.append(msgspec.msgpack.decode(body, type=Loss))
    except msgspec.MsgspecError:
        return False
    return True


def _values(payload: bytes, record: _Record) -> list[Any]:
    """The values of a record: bytes of a blob or a text, else a whole number."""
    values: list[Any] = []
    at = record.begin
    for kind in record.types:
        raw = payload[at : at + _width(kind)]
        at += _width(kind)
        values.append(raw if kind >= 12 else kind - 8 if kind >= 8 else int.from_bytes(raw, "big", signed=True))
    return values


def _leads_on(content: bytes) -> bool:
    """Whether a page that says it is an interior one lists what such a page has: cells behind the list."""
    cells, begin = _two(content, 3), _two(content, 5)
    return 12 + 2 * cells <= begin and all(_two(content, at) >= begin for at in range(12, 12 + 2 * cells, 2))


def _two(content: bytes, at: int) -> int:
    return content[at] << 8 | content[at + 1]


def _kind(serial_type: int) -> str:
    if serial_type >= 12:
        return "text" if serial_type % 2 else "blob"
    return "null" if serial_type == 0 else "real" if serial_type == 7 else "int"


def _width(serial_type: int) -> int:
    return (serial_type - 12) // 2 if serial_type >= 12 else _WIDTHS[serial_type] if serial_type < 10 else 0


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends. Beyond the end of the page it is 0."""
    value = 0
    for byte in content[at : at + 8]:
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | (content[at] if at < len(content) else 0), at + 1
