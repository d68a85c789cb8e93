"""The files of the pages, read once: each plain and packed, under an address that changes with any of them."""

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["DIGEST", "FILES", "File", "imported"]

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# `import … from "./x.js"` at the beginning of a module; a view that is imported when it is opened is not one of them.
_IMPORT = re.compile(rb'^(?:import|export|\}) .*?from "(\.[^"]+)";$', re.MULTILINE)
# One request for all of them; each later one may rely on the earlier.
_STYLE, _STYLES = "pages.css", ("ground", "shell", "parts", "charts", "print")
_ENTRY = re.compile(r'<script type="module" src="/static/\{digest\}/([^"]+)">')


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent: `packed` is `content` under gzip."""

    media_type: str
    content: bytes
    packed: bytes


def imported(entry: str, contents: Mapping[str, bytes]) -> list[str]:
    """The paths of all modules that `entry` cannot begin without, itself the first.

    >>> imported("a.js", {"a.js": b'import { b } from "./x/b.js";', "x/b.js": b'import a from "../a.js";'})
    ['a.js', 'x/b.js']
    """
    found = [entry]
    for path in found:
        for name in _IMPORT.findall(contents[path]):
            wanted = _joined(PurePosixPath(path).parent, name.decode())
            if wanted not in found:
                found.append(wanted)
    return found


def _joined(folder: PurePosixPath, name: str) -> str:
    parts = list(folder.parts)
    for part in PurePosixPath(name).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _read() -> tuple[str, dict[str, File]]:
    paths = sorted(path for path in _STATIC.rglob("*") if path.suffix in _MEDIA_TYPES)
    contents = {path.relative_to(_STATIC).as_posix(): path.read_bytes() for path in paths}
    contents[_STYLE] = b"".join(contents.pop(f"css/{name}.css") for name in _STYLES)
    digest = _digest(contents.items())
    pages = {
        name: _filled(page.decode(), digest, contents) for name, page in contents.items() if name.endswith(".html")
    }
    contents |= {name: page.encode() for name, page in pages.items()}
    return digest, {name: _file(name, content) for name, content in contents.items()}


def _digest(contents: Iterable[tuple[str, bytes]]) -> str:
    hashed = hashlib.sha256()
    for name, content in contents:
        hashed.update(f"{name}:{len(content)}:".encode() + content)
    return hashed.hexdigest()[:12]


def _filled(page: str, digest: str, contents: Mapping[str, bytes]) -> str:
    """The page with its addresses, and with all of its modules named, so that they are fetched side by side."""
    entry = _ENTRY.search(page)
    modules = imported(entry[1], contents)[1:] if entry else []
    preloads = "\n  ".join(f'<link rel="modulepreload" href="/static/{digest}/{name}">' for name in modules)
    return page.replace("{modules}", preloads).replace("{digest}", digest)


def _file(name: str, content: bytes) -> File:
    return File(_MEDIA_TYPES[PurePosixPath(name).suffix], content, gzip.compress(content, 9, mtime=0))


DIGEST, FILES = _read()
