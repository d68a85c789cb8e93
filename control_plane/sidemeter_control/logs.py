"""The log: lines of JSON or of text on stderr, with the ids of what they are about and without secrets.

What a line is about stands in its `extra`, or is said once for a whole request by `about`: `agent_id`, `epoch`,
`batch_no`, `request_id`, `incident_id`. Agents name them the same, so that one search finds both sides of a batch.
"""

import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

__all__ = ["Formatter", "about", "configure"]

_OWN: Final = "sidemeter_control"
_GIVEN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every record has; the rest is what a line says besides its message."""

_HIDDEN: Final = "[secret]"
_KEYS: Final = re.compile(r"\bsm[kl]_[A-Za-z0-9_-]{16,}")
"""What every key begins with, and no word does."""

Ids = Callable[[], Mapping[str, str]]
"""What else is known of where a line comes from, at the moment it is written."""

_said: ContextVar[Mapping[str, object]] = ContextVar("said", default={})  # noqa: B039 -- never changed, only replaced


@contextlib.contextmanager
def about(**ids: object) -> Iterator[None]:
    """Every line that is logged in the block is about this as well; what is None is not known."""
    token = _said.set({**_said.get(), **{name: value for name, value in ids.items() if value is not None}})
    try:
        yield
    finally:
        _said.reset(token)


class Formatter(logging.Formatter):
    """Lines of "json", one object each, or of "text"; keys and whatever of `secrets` is in one are blotted out."""

    def __init__(self, form: str, secrets: Iterable[str] = (), ids: Ids = dict) -> None:
        super().__init__()
        self._form = form
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._ids = ids

    def format(self, record: logging.LogRecord) -> str:
        """One line, and for text also the lines of a trace."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extra = {name: value for name, value in vars(record).items() if name not in _GIVEN}
        said = {name: self._clean(value) for name, value in {**_said.get(), **extra, **self._ids()}.items()}
        message = self._clean(record.getMessage())
        error = self._clean(self.formatException(record.exc_info)) if record.exc_info else None
        if self._form == "json":
            line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": message, **said}
            return json.dumps(line if error is None else {**line, "error": error})
        text = _on_one_line(f"{message}" + "".join(f" {name}={value}" for name, value in said.items()))
        return f"{time} {record.levelname:<7} {text}" + (f"\n{error}" if error else "")

    def _clean(self, value: object) -> object:
        if value is None or isinstance(value, bool | int):
            return value
        text = _KEYS.sub(_HIDDEN, str(value))
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text


def _on_one_line(text: str) -> str:
    """Names that others chose cannot make lines of their own, nor move a terminal's cursor."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def configure(form: str, level: str, *, secrets: Iterable[str] = (), ids: Ids = dict) -> None:
    """Write to stderr what the control plane logs from `level` on, and what its libraries have to warn of."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(form, secrets, ids))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger(_OWN).setLevel(level.upper())
