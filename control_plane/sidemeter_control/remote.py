"""A control plane that runs, asked over GraphQL: the way of commands that must not stop it."""

from decimal import Decimal
from typing import Any, Final, Self

import httpx
import msgspec

from sidemeter_control.errors import Conflict, ControlError, InvalidInput, StoreUnavailable

__all__ = ["ANSWERS_WITHIN_S", "Remote"]

ANSWERS_WITHIN_S: Final = 120.0
"""A draft plan is priced for 5,000 customers in some 5 s, on a machine that does nothing else."""

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class Remote:
    """The control plane at `url` (`http://HOST:PORT`), asked with the secret `key`. A context manager."""

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._url = url.rstrip("/")
        self._http = httpx.Client(headers=headers, timeout=ANSWERS_WITHIN_S, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The data of the answer; its fractions are Decimals.

        InvalidInput or Conflict as the control plane said it, ControlError for its other refusals, StoreUnavailable when
        there is no answer of a control plane.
        """
        answer = self._answer(_encode({"query": query, "variables": variables}))
        if errors := answer.get("errors"):
            raise _refusal(errors[0])
        data: dict[str, Any] = answer["data"]
        return data

    def read(self, path: str) -> str:
        """What is at `path`, as text. ControlError when it is refused, StoreUnavailable when there is no answer."""
        try:
            answer = self._http.get(f"{self._url}{path}")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise StoreUnavailable(f"{self._url}: {type(exc).__name__} {exc}") from exc
        if answer.status_code != httpx.codes.OK:
            raise ControlError(f"{self._url}: answered {answer.status_code} for {path}")
        return answer.text

    def _answer(self, body: bytes) -> dict[str, Any]:
        try:
            answer = self._http.post(f"{self._url}/graphql", content=body)
            said = _decode(answer.content)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise StoreUnavailable(f"{self._url}: {type(exc).__name__} {exc}") from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise StoreUnavailable(f"{self._url}: answered {answer.status_code}, and not as a control plane") from exc
        match said:
            case {"errors": [_, *_]} | {"data": {}}:
                return dict(said)
            case {"detail": detail}:
                raise ControlError(f"{self._url}: answered {answer.status_code}: {detail}")
        raise StoreUnavailable(f"{self._url}: answered {answer.status_code}, and not as a control plane")


def _refusal(error: dict[str, Any]) -> ControlError:
    message, extensions = str(error.get("message")), error.get("extensions") or {}
    match extensions:
        case {"code": InvalidInput.code, "field": str(field)}:
            return InvalidInput(field, message.removeprefix(f"{field}: "))
        case {"code": Conflict.code}:
            return Conflict(message)
    return ControlError(message)
