"""Request bodies, read within a bound, unzipped within a bound."""

import zlib

from starlette.requests import ClientDisconnect, Request

from sidemeter_control.api.problems import Refused

__all__ = ["read_body"]

_GZIP = 16 + zlib.MAX_WBITS


async def read_body(request: Request, *, max_bytes: int, max_decoded_bytes: int) -> bytes:
    """The body, at most `max_bytes` as sent and `max_decoded_bytes` once unzipped, else Refused with 413."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in {"identity", "gzip"}:
        raise Refused(415, "unsupported_encoding", "send it as it is, or with Content-Encoding: gzip")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise Refused(413, "too_large", f"a body has at most {max_bytes} bytes here")
    except ClientDisconnect as exc:
        raise Refused(400, "incomplete", "the caller hung up before the body was whole") from exc
    return _unzipped(bytes(body), max_decoded_bytes) if encoding == "gzip" else bytes(body)


def _unzipped(body: bytes, max_bytes: int) -> bytes:
    """The content of one gzip stream. The bound holds while unzipping: 1 MiB of zeros unzips to 1 GiB."""
    unzip = zlib.decompressobj(_GZIP)
    try:
        content = unzip.decompress(body, max_bytes + 1)
    except zlib.error as exc:
        raise Refused(400, "malformed", f"the body is not gzip: {exc}") from exc
    if len(content) > max_bytes:
        raise Refused(413, "too_large", f"a body has at most {max_bytes} bytes unzipped")
    if not unzip.eof or unzip.unused_data:
        raise Refused(400, "malformed", "the body is not one whole gzip stream")
    return content
