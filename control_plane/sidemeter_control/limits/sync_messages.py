"""What an agent asks in a sync, and what it is answered, as both stand on the wire."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from sidemeter_control.metering.identity import NONCE_BYTES, SyncStatus

__all__ = [
    "MAX_DENIED",
    "MAX_LEASES",
    "MAX_SUBJECTS",
    "Denied",
    "Grant",
    "LeaseReport",
    "LimitMeter",
    "LimitState",
    "PriceCap",
    "PropertyRule",
    "Seen",
    "SyncAnswer",
    "SyncQuestion",
]

MAX_SUBJECTS = 1_000
"""That one question may ask for; an agent with more asks in turns."""

MAX_LEASES = 1_000
"""That one question may tell of; an agent with more tells of them in turns."""

MAX_DENIED = 1_000
"""Limits that one question may say something was refused at; an agent with more says so in turns."""

MAX_REASONS = 64
"""Reasons for refusals that one question may count; agents have a dozen."""

_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_LimitId = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern="^[^\x00]*$")]
_Reason = Annotated[str, msgspec.Meta(max_length=64, pattern="^[a-z_]+$")]
_Units = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Period = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]


class Seen(msgspec.Struct, frozen=True):
    """The state that an agent saw last."""

    generation: _Short
    state_version: int


class LeaseReport(msgspec.Struct, frozen=True):
    """What an agent says of one lease, as `leases.Report` does: counts in the limit's units since its epoch began."""

    limit: _LimitId
    period: _Period
    granted: _Units = 0
    returned: _Units = 0
    used: _Units = 0
    reserved: _Units = 0
    refunded: _Units = 0
    overrun: _Units = 0
    want_free: _Units = 0
    need: _Units = 0


class Denied(msgspec.Struct, frozen=True):
    """An agent refused something at this limit in this period, while it was `amount`: decimal text in the meter's unit."""

    limit: _LimitId
    period: _Period
    amount: Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)?$")]


class SyncQuestion(msgspec.Struct, frozen=True):
    """What an agent asks, how many events wait with it, and what shows that it is the one that was answered before.

    `hello_id`: that of its epoch, from agents that know of leases. `complete`: since it heard of the generation in `seen`, it
    has told of every lease that it holds. `denials` counts what the agent's process refused since its start, by reason.
    `knows_prices`: it debits limits in money at price caps.
    """

    agent_id: str
    epoch: int
    subjects: tuple[str, ...]
    backlog: int
    nonce: Annotated[bytes, msgspec.Meta(max_length=NONCE_BYTES)] | None = None
    oldest_pending_us: int | None = None
    seen: Seen | None = None
    sync_id: _Short | None = None
    settled_batch_no: int = 0
    hello_id: _Short | None = None
    complete: bool = False
    leases: tuple[LeaseReport, ...] = ()
    denied: tuple[Denied, ...] = ()
    denials: Annotated[dict[_Reason, _Units], msgspec.Meta(max_length=MAX_REASONS)] = {}
    knows_prices: bool = False


class PropertyRule(msgspec.Struct, frozen=True, rename={"is_in": "in"}):
    """A meter's filter, as agents apply it."""

    property: str
    is_in: Sequence[str] | None
    not_in: Sequence[str] | None


class LimitMeter(msgspec.Struct, frozen=True):
    """Which events count toward a limit, and what of them."""

    event_type: str
    aggregation: str
    value_property: str | None
    filters: Sequence[PropertyRule]


class PriceCap(msgspec.Struct, frozen=True):
    """What an event that a meter takes costs at most, as decimal text: `per_event`, and `per_unit` of what it adds."""

    meter: LimitMeter
    per_unit: str
    per_event: str


class LimitState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One limit of one customer. Quantities are decimal text in the meter's unit; `limit` None is unlimited.

    Of a HARD limit it is the quantity at which usage stops: overage that is allowed is in it, and while a grace lets
    usage run on without end it is None. An agent that is cut off goes on with what it heard last.

    `scale` is set where the limit is shared by leases, in units of 10^-scale; `period` names the period they are of.
    `prices`: it is in money, has no meter, and every event is debited at these caps, rounded up to a unit.
    """

    id: str
    customer: str
    feature: str
    kind: str
    enforcement: str
    value: str | None
    limit: str | None
    used: str | None
    meter: LimitMeter | None
    period_start_us: int | None
    resets_at_us: int | None
    policy_version: int
    period: int
    scale: int | None
    prices: Sequence[PriceCap] = ()


class Grant(msgspec.Struct, frozen=True):
    """What an agent is told of one lease, as `leases.Granted` says: `granted` is all that it ever was."""

    limit: str
    period: int
    granted: int
    mode: str
    limit_units: int
    unit: int
    policy_version: int
    period_now: int
    keep_free: int | None


class SyncAnswer(msgspec.Struct, frozen=True):
    """All of one snapshot: `used` contains the agent's batches up to `counted_batch_no`, and no later one.

    `subjects` names the limits of every subject asked for; none: nothing is granted to it. `sync_id` is the question's, empty
    where it has none.
    """

    status: SyncStatus
    nonce: bytes | None
    generation: str
    state_version: int
    as_of_us: int
    counted_batch_no: int
    next_sync_ms: int
    subjects: Mapping[str, Sequence[str]] = {}
    limits: Sequence[LimitState] = ()
    grants: Sequence[Grant] = ()
    sync_id: str = ""
