"""The log of a process that is nothing but this agent: lines of JSON or of text on stderr, with ids and without secrets.

What a line is about stands in its `extra`: `agent_id`, `epoch`, `batch_no`, `request_id`, `incident_id`. The control
plane's lines have them under the same names, so that one search finds both sides of a batch.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

__all__ = ["Formatter", "configure"]

_OWN: Final = "sidemeter"
_GIVEN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every record has; the rest is what a line says besides its message."""

_HIDDEN: Final = "[secret]"

Ids = Callable[[], Mapping[str, str]]
"""What else is known of where a line comes from, at the moment it is written."""


class Formatter(logging.Formatter):
    """Lines of "json", one object each, or of "text"; whatever of `secrets` is in one is blotted out."""

    def __init__(self, form: str, secrets: Iterable[str] = (), ids: Ids = dict) -> None:
        super().__init__()
        self._form = form
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._ids = ids

    def format(self, record: logging.LogRecord) -> str:
        """One line, and for text also the lines of a trace."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extra = {name: value for name, value in vars(record).items() if name not in _GIVEN}
        about = {name: self._clean(value) for name, value in {**extra, **self._ids()}.items()}
        message = self._clean(record.getMessage())
        error = self._clean(self.formatException(record.exc_info)) if record.exc_info else None
        if self._form == "json":
            line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": message, **about}
            return json.dumps(line if error is None else {**line, "error": error})
        text = _on_one_line(f"{message}" + "".join(f" {name}={value}" for name, value in about.items()))
        return f"{time} {record.levelname:<7} {text}" + (f"\n{error}" if error else "")

    def _clean(self, value: object) -> object:
        if value is None or isinstance(value, bool | int):
            return value
        text = str(value)
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text


def _on_one_line(text: str) -> str:
    """Names that others chose cannot make lines of their own, nor move a terminal's cursor."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def configure(form: str, level: str, *, secrets: Iterable[str] = (), ids: Ids = dict) -> None:
    """Write to stderr what this agent logs from `level` on, and what its libraries have to warn of."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(form, secrets, ids))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger(_OWN).setLevel(level.upper())
