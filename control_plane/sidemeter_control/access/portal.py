"""Portal links are made, taken and ended here: what opens a customer's own pages, and nothing else, for a while."""

from sidemeter_control.access.keyring import MAX_OVERLAP_S
from sidemeter_control.access.links import MAX_LINK_S, Link, LinkKey, key_id_of, read, signed
from sidemeter_control.clock import Clock
from sidemeter_control.errors import InvalidInput, NotFound
from sidemeter_control.store import audit, customers, links
from sidemeter_control.store.database import Database
from sidemeter_control.store.keys import Key, Scope

__all__ = ["Portal"]


class Portal:
    """All links of a database. No link is stored: it is known by its signature."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._signing: list[LinkKey] | None = None
        self._changes = 0

    async def make(self, customer: str, expires_in_s: int, *, by: str = audit.OPERATOR) -> str:
        """The token of a new link. NotFound without such a customer, InvalidInput when it would live too long."""
        if not 1 <= expires_in_s <= MAX_LINK_S:
            raise InvalidInput("expiresInSeconds", f"must be from 1 to {MAX_LINK_S}")
        now_us = self._clock.now_us()
        link = Link(self._clock.new_id("link"), customer, now_us + expires_in_s * 1_000_000)
        async with self._database.write() as conn:
            if not await customers.get(conn, [customer]):
                raise NotFound("customer", customer)
            signing = await links.in_force(conn, now_us)
            if not signing or signing[-1].ends_at_us is not None:
                signing.append(LinkKey(self._clock.new_id("lnk"), self._clock.new_secret(), now_us))
                await links.create(conn, signing[-1])
            detail = {"link": link.id, "expiresAtUs": link.expires_at_us}
            await audit.add(conn, now_us, by, "createPortalLink", f"customer {customer}", **detail)
        self._forget()
        return signed(link, signing[-1])

    async def end_all(self, overlap_s: int, *, by: str = audit.OPERATOR) -> None:
        """Take no link that was made until now, after so many seconds; what is made from now on is signed anew."""
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise InvalidInput("overlapSeconds", f"must be from 0 to {MAX_OVERLAP_S}")
        now_us = self._clock.now_us()
        async with self._database.write() as conn:
            await links.end(conn, now_us + overlap_s * 1_000_000)
            await audit.add(conn, now_us, by, "endPortalLinks", "portal links", overlapSeconds=overlap_s)
        self._forget()

    async def open(self, token: str) -> Key | None:
        """What the token allows, in the form of a key; None when it is no link of ours, or has ended."""
        wanted, now_us = key_id_of(token), self._clock.now_us()
        if wanted is None:
            return None
        key = next((each for each in await self._in_force(now_us) if each.id == wanted), None)
        if key is None or not key.valid_at(now_us):
            return None
        link = read(token, key)
        if link is None or link.expires_at_us <= now_us:
            return None
        ends_at_us = min(link.expires_at_us, key.ends_at_us or link.expires_at_us)
        return Key(
            link.id,
            "portal link",
            frozenset({Scope.READ, Scope.WRITE}),
            key.created_at_us,
            ends_at_us,
            customer=link.customer,
            is_link=True,
        )

    async def _in_force(self, now_us: int) -> list[LinkKey]:
        if self._signing is not None:
            return self._signing
        changes = self._changes
        async with self._database.point() as conn:
            found = await links.in_force(conn, now_us)
        # Keys read before a change must not be remembered after it, nor where others may change them.
        if changes == self._changes and not self._database.is_shared:
            self._signing = found
        return found

    def _forget(self) -> None:
        self._changes += 1
        self._signing = None
