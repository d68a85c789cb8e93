"""Everything the control plane can raise, arranged by who must act.

    ControlError                 `code` is stable: GraphQL shows it as `extensions.code`, HTTP as the problem's `code`
    ├── InvalidInput             the caller sent something wrong: fix the call        INVALID_INPUT
    │   └── SettingsError        the operator configured something wrong              INVALID_SETTING
    ├── NotFound                 what the call names does not exist                   NOT_FOUND
    ├── Conflict                 it exists already, or its state forbids the change   CONFLICT
    ├── Unauthenticated          no key, or one that is unknown, expired, revoked     UNAUTHENTICATED
    ├── TooManyAttempts          wrong keys came from there before: wait              TOO_MANY_ATTEMPTS
    ├── Forbidden                the key lacks the scope, or is for something else    FORBIDDEN
    ├── Busy                     as much as may be is open or under way: try later    BUSY
    ├── RateLimited              the key asks too often: wait `retry_after_s`         RATE_LIMITED
    ├── StoreUnavailable         the database gave no answer: try again               STORE_UNAVAILABLE
    ├── ArchiveUnavailable       the operator must put a file of the archive back     ARCHIVE_UNAVAILABLE
    └── DatabaseUnfit            the operator must put a sound file in its place      DATABASE_UNFIT

Refusals that belong to an answer (a rejected event of an array, a batch status) are values, not exceptions.
"""

__all__ = [
    "ArchiveUnavailable",
    "Busy",
    "Conflict",
    "ControlError",
    "DatabaseUnfit",
    "Forbidden",
    "InvalidInput",
    "NotFound",
    "RateLimited",
    "SettingsError",
    "StoreUnavailable",
    "TooManyAttempts",
    "Unauthenticated",
]


class ControlError(Exception):
    """Base of every error the control plane answers on purpose."""

    code = "ERROR"


class InvalidInput(ControlError, ValueError):
    """A value breaks a rule. `field` is the dotted path of the value, `rule` what it must satisfy.

    >>> str(InvalidInput("charges.input.tiers[1].upTo", "must rise from tier to tier"))
    'charges.input.tiers[1].upTo: must rise from tier to tier'
    """

    code = "INVALID_INPUT"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class SettingsError(InvalidInput):
    """A setting breaks its rule; raised before anything is opened."""

    code = "INVALID_SETTING"


class NotFound(ControlError):
    """What the call names does not exist.

    >>> str(NotFound("meter", "tokens"))
    "there is no meter 'tokens'"
    """

    code = "NOT_FOUND"

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"there is no {kind} {key!r}")
        self.kind = kind
        self.key = key


class Conflict(ControlError):
    """It exists already, or its state forbids the change."""

    code = "CONFLICT"


class Unauthenticated(ControlError):
    """No key was given, or it is unknown, expired or revoked. The answer never says which."""

    code = "UNAUTHENTICATED"


class TooManyAttempts(ControlError):
    """Wrong keys came from the address before. `wait_s`: seconds until one is looked at again."""

    code = "TOO_MANY_ATTEMPTS"

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many wrong keys came from there: wait {wait_s} s")
        self.wait_s = wait_s


class Forbidden(ControlError):
    """The key is valid and lacks the scope that the call needs, or is for one customer or service, and not for this."""

    code = "FORBIDDEN"


class Busy(ControlError):
    """As much as there may be is open or under way. Later there may be room."""

    code = "BUSY"


class RateLimited(ControlError):
    """The key asks more often than it may. It will be answered again in `retry_after_s`, whole seconds.

    >>> str(RateLimited(2))
    'the key asks too often: wait 2 s'
    """

    code = "RATE_LIMITED"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the key asks too often: wait {retry_after_s} s")
        self.retry_after_s = retry_after_s


class StoreUnavailable(ControlError):
    """The database gave no answer. Nothing is known of the call's effect; repeat it."""

    code = "STORE_UNAVAILABLE"


class ArchiveUnavailable(ControlError):
    """Events that the answer needs are in a file of the archive that is missing, or not what was written. Nothing was answered
    in its place, and all that needs other events goes on.

    >>> str(ArchiveUnavailable("/archive/events-2026-07-000001-5e1f.parquet", "there is no such file"))
    '/archive/events-2026-07-000001-5e1f.parquet: there is no such file; put the file back there, or set archive_directory'
    """

    code = "ARCHIVE_UNAVAILABLE"

    def __init__(
        self, path: object, rule: str, todo: str = "put the file back there, or set archive_directory"
    ) -> None:
        super().__init__(f"{path}: {rule}; {todo}")
        self.path = path
        self.rule = rule


class DatabaseUnfit(ControlError):
    """A database file that cannot be used as it is: damaged, of something else, or of a newer version.

    >>> str(DatabaseUnfit("control.db", "is no database"))
    'control.db: is no database'
    """

    code = "DATABASE_UNFIT"

    def __init__(self, path: object, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = path
        self.rule = rule
