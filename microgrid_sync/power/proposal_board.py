"""Keeps the proposals of pools: who has which, for how long, and who is in whose way. Pure."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

from microgrid_sync.power.proposals import Proposal

ChargerIds = frozenset[int]
"""A set of chargers, by their IDs."""


@dataclass(frozen=True)
class _Held:
    """A proposal, and when it was made."""

    chargers: ChargerIds
    proposal: Proposal
    made_at: float


class ProposalBoard:
    """At most one proposal of each pool. The control loop's thread owns it; time is passed in."""

    def __init__(self, lifetime: float) -> None:
        """Make an empty board.

        Args:
            lifetime: Seconds after which a proposal that was not renewed lapses.
        """
        self._lifetime = lifetime
        self._held: dict[Hashable, _Held] = {}
        self._lapsed: dict[Hashable, ChargerIds] = {}
        self._gone: set[Hashable] = set()

    def propose(self, pool: Hashable, chargers: ChargerIds, proposal: Proposal, now: float) -> None:
        """Make or renew the one proposal of a pool.

        Raises:
            ValueError: If it is for some, but not all, of the chargers of another proposal.
        """
        for other, held in self._held.items():
            shared = held.chargers & chargers
            alive = now - held.made_at < self._lifetime
            if other != pool and alive and shared and held.chargers != chargers:
                raise ValueError(
                    f"chargers {listed(shared)} have a proposal in another set, "
                    f"{listed(held.chargers)}; proposed sets must be equal or apart"
                )
        self._held[pool] = _Held(chargers, proposal, now)
        self._lapsed.pop(pool, None)

    def withdraw(self, pool: Hashable) -> ChargerIds | None:
        """Drop a pool's proposal, if it has one.

        One that has lapsed counts, too: the chargers may still be held by it.

        Returns:
            The chargers that are to be released, because it was the last one for them.
        """
        held = self._held.pop(pool, None)
        chargers = self._lapsed.pop(pool, None) if held is None else held.chargers
        if chargers is None or any(other.chargers == chargers for other in self._held.values()):
            return None
        return chargers

    def grow(self, before: ChargerIds, after: ChargerIds) -> list[Hashable]:
        """Let all proposals for a set be for a larger one from now on; give their pools."""
        moved = [pool for pool, held in self._held.items() if held.chargers == before]
        for pool in moved:
            self._held[pool] = replace(self._held[pool], chargers=after)
        lapsed = [pool for pool, chargers in self._lapsed.items() if chargers == before]
        self._lapsed.update(dict.fromkeys(lapsed, after))
        return moved + lapsed

    def lapse(self, now: float) -> list[ChargerIds]:
        """Drop proposals whose time is over; give the sets that have none left because of that."""
        lapsed = [pool for pool, held in self._held.items() if now - held.made_at >= self._lifetime]
        without: set[ChargerIds] = set()
        for pool in lapsed:
            chargers = self._held.pop(pool).chargers
            without.add(chargers)
            if pool in self._gone:
                self._gone.discard(pool)
            else:
                self._lapsed[pool] = chargers
        return sorted(without - {held.chargers for held in self._held.values()}, key=sorted)

    def forget(self, pool: Hashable) -> None:
        """Forget that a proposal has lapsed: nobody has its pool any more to withdraw it.

        One that is alive stays until its time is over.
        """
        self._lapsed.pop(pool, None)
        if pool in self._held:
            self._gone.add(pool)

    def proposals(self, chargers: ChargerIds) -> list[Proposal]:
        """Give the proposals for a set, in the order in which they were first made."""
        return [held.proposal for held in self._held.values() if held.chargers == chargers]

    def proposed(self) -> ChargerIds:
        """Give all chargers that have a proposal."""
        return frozenset[int]().union(*(held.chargers for held in self._held.values()))

    def remembered(self) -> set[ChargerIds]:
        """Give the sets that have a proposal, or had one that can still be withdrawn."""
        return {held.chargers for held in self._held.values()} | set(self._lapsed.values())


def listed(chargers: Iterable[int]) -> str:
    """Name chargers for an error or a log line."""
    return ", ".join(str(charger) for charger in sorted(chargers))
