"""The control plane's side of leases, for the double: its real rules over dictionaries."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sidemeter_control.limits.leases import Holding, Key, Known, Pool, Report, Standing, Sync, Taken, others, take
from sidemeter_control.limits.recovery import HolderId, Recovery
from sidemeter_control.metering.identity import NO_NONCES, Nonces

Message = dict[str, Any]


@dataclass
class HolderRow:
    epoch: int
    standing: Standing = Standing.CURRENT
    nonces: Nonces = NO_NONCES


@dataclass
class LeaseBooks:
    """`pools` has what each limit is in units, `periods` which one counts now. `alerts`: two processes spoke as one."""

    pools: dict[str, int] = field(default_factory=dict)
    periods: dict[str, int] = field(default_factory=dict)
    holders: dict[HolderId, HolderRow] = field(default_factory=dict)
    holdings: dict[Key, dict[HolderId, Holding]] = field(default_factory=dict)
    turns: dict[Key, int] = field(default_factory=dict)
    recovery: Recovery | None = None
    version: int = 1
    alerts: list[HolderId] = field(default_factory=list)
    interval_ms: int = 10

    def hello(self, holder: HolderId, epoch: int) -> None:
        if holder in self.holders:
            return
        for (agent_id, _), row in self.holders.items():
            if agent_id == holder[0] and row.standing is Standing.CURRENT:
                row.standing = Standing.SUPERSEDED
        self.holders[holder] = HolderRow(epoch)

    def concerns(self, message: Message) -> bool:
        """Whether a sync is one of leases."""
        holder = (message["agent_id"], message["hello_id"])
        return bool(message["leases"]) or any(holder in own for own in self.holdings.values())

    def sync(self, message: Message, generation: str) -> Message:
        """The part of an answer that is of leases."""
        seen = message.get("seen") or {"generation": "", "state_version": 0}
        sync = Sync(
            (message["agent_id"], message["hello_id"]),
            message["epoch"],
            message["sync_id"],
            message["nonce"],
            seen["generation"],
            seen["state_version"],
            tuple(Report(**each) for each in message["leases"]),
            message.get("complete", False),
        )
        taken = take(sync, self._known(sync, generation))
        row = self.holders.setdefault(sync.holder, HolderRow(sync.epoch, taken.standing))
        row.standing, row.nonces, self.recovery = taken.standing, taken.nonces, taken.recovery
        for key, holding in taken.holdings.items():
            self.holdings.setdefault(key, {})[sync.holder] = holding
            self.turns[key] = self.turns.get(key, 0) + 1
        self.version += 1
        self.alerts += [sync.holder] if taken.alert else []
        return self._answer(taken)

    def held(self, limit: str) -> int:
        """What all holders together have of a limit's present period."""
        return sum(each.held for each in self.holdings.get((limit, self.periods[limit]), {}).values())

    def total(self, limit: str, name: str) -> int:
        """A count, of all holders together."""
        return sum(getattr(each, name) for each in self.holdings.get((limit, self.periods[limit]), {}).values())

    def _known(self, sync: Sync, generation: str) -> Known:
        row = self.holders.get(sync.holder)
        pools, holdings = {}, {}
        for each in sync.reports:
            own = self.holdings.get(each.key, {})
            holdings[each.key] = own.get(sync.holder, Holding())
            if each.limit in self.pools:
                pool = Pool(
                    self.pools[each.limit], each.period, self.periods[each.limit], turn=self.turns.get(each.key, 0)
                )
                rest = [(self.holders[name].standing, one) for name, one in own.items() if name != sync.holder]
                pools[each.key] = pool, others(pool, rest)
        return Known(
            generation,
            self.version,
            row and row.standing,
            row.nonces if row else NO_NONCES,
            self.recovery,
            len(self.holders),
            pools,
            holdings,
        )

    def _answer(self, taken: Taken) -> Message:
        return {
            "status": taken.status,
            "nonce": taken.nonces.current,
            "state_version": self.version,
            "next_sync_ms": min(taken.next_sync_ms, self.interval_ms),
            "grants": [asdict(each) for each in taken.grants],
        }
