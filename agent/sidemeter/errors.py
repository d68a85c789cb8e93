"""Everything the agent can raise, arranged by who must act.

    SidemeterError
    ├── InvalidInput          the caller sent something wrong: fix the call (HTTP 400, 413, 415, 422)
    │   └── SettingsError     the operator configured something wrong: fix the setting
    ├── NotRecorded           nothing was kept: the caller decides, and may try again
    │   ├── BufferFull        the buffer reached its bound (HTTP 503, Retry-After)
    │   ├── StorageRefused    the disk is full or read-only (HTTP 507)
    │   └── AgentStopped      the agent is starting, stopping or stopped (HTTP 503)
    ├── InDoubt               it may be kept or not: the caller repeats it, harmlessly if it has an id (HTTP 504)
    ├── DirectoryInUse        another agent holds the data directory: the operator stops one of the two
    └── ControlPlaneError     only ever seen by the loops that talk to the control plane; they retry
        ├── Unreachable       no answer, or one that says "later"
        └── Unacceptable      an answer that says "never like this": wrong key, wrong protocol

Expected answers are values (`Receipt`, `Decision`), never exceptions.
"""

__all__ = [
    "AgentStopped",
    "BufferFull",
    "ControlPlaneError",
    "DirectoryInUse",
    "InDoubt",
    "InvalidInput",
    "NotRecorded",
    "SettingsError",
    "SidemeterError",
    "StorageRefused",
    "Unacceptable",
    "Unreachable",
]


class SidemeterError(Exception):
    """Base of every error of this package. `code` is stable and machine-readable; the text is for people."""

    code = "error"


class InvalidInput(SidemeterError, ValueError):
    """A value breaks a rule. `field` is the dotted name of the value, `rule` what it must satisfy.

    >>> str(InvalidInput("subject", "must be 1 to 256 characters"))
    'subject: must be 1 to 256 characters'
    """

    code = "invalid_input"

    def __init__(self, field: str, rule: str, *, code: str | None = None) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule
        if code is not None:
            self.code = code


class SettingsError(InvalidInput):
    """A setting breaks its rule; raised before anything is opened."""

    code = "invalid_setting"


class NotRecorded(SidemeterError):
    """The event was not kept. Nothing was written; the same call may be repeated."""

    code = "not_recorded"


class BufferFull(NotRecorded):
    """The buffer holds as much as `max_buffer_bytes` allows. `retry_after_s` is when to try again."""

    code = "buffer_full"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageRefused(NotRecorded):
    """The operating system refused the write: disk full, read-only, or failing."""

    code = "storage_refused"


class AgentStopped(NotRecorded):
    """The agent does not take events now: it is not started, or it is draining."""

    code = "agent_stopped"


class InDoubt(SidemeterError):
    """The commit failed or hung, and the agent stopped before its disk said what is kept.

    Repeated with an id of its own it counts once whatever is kept; without one, what is kept would count twice.
    """

    code = "in_doubt"


class DirectoryInUse(SidemeterError):
    """Another agent holds the lock of the data directory."""

    code = "directory_in_use"


class ControlPlaneError(SidemeterError):
    """The control plane gave no usable answer."""

    code = "control_plane_error"


class Unreachable(ControlPlaneError):
    """No answer, or one that says "later". `retry_after_s` is what the answer asked for, if it did."""

    code = "unreachable"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unacceptable(ControlPlaneError):
    """The control plane refuses this agent as it is configured: key, scope or protocol version."""

    code = "unacceptable"
