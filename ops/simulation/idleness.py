"""For how long a run that waits for audits alone keeps machines idle that could compute them."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from aggregator.ledger import Ledger
from ops.simulation.aggregator import SimulatedAggregator
from ops.simulation.consumer import Scope, SimulatedConsumer
from ops.simulation.party import Party

LOOK_SECONDS = 0.5

FEWEST_HOSTS = 2
"""One machine has nobody to look after it."""


@dataclass
class Idleness:
    """What was seen of all runs.

    Attributes
    ----------
    longest
        For how many seconds at most each run waited for audits that nobody computed.
    """

    longest: dict[str, float] = field(default_factory=dict)
    _since: dict[tuple[str, int], float] = field(default_factory=dict)
    _looked: float = 0.0

    def look(self, now: float, parties: Iterable[Party]) -> None:
        """See, now and then, which runs wait; a wait ends once another number of audits is left."""
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        present = [party for party in parties if party.alive and party.awake and party.channel]
        consumers = [party for party in present if isinstance(party, SimulatedConsumer)]
        idle = {party.name for party in consumers if not party.computes}
        computed = {scope for party in consumers for scope in party.computes}
        ledgers = [party.ledger for party in present if isinstance(party, SimulatedAggregator)]
        waiting = [wait for ledger in ledgers if ledger for wait in waits(ledger, idle, computed)]
        self._since = {wait: self._since.get(wait, now) for wait in waiting}
        for (run, _), since in self._since.items():
            self.longest[run] = max(self.longest.get(run, 0.0), now - since)


def waits(
    ledger: Ledger, idle: AbstractSet[str], computed: AbstractSet[Scope]
) -> Iterable[tuple[str, int]]:
    """Yield the runs of which idle hosts could compute an audit, and how many of these are left."""
    for books in ledger.active.values():
        hosts = ledger.fleet.hosts(books.pool) & idle
        if not books.complete or len(hosts) < FEWEST_HOSTS:
            continue
        if any((books.run, *audit.key) not in computed for audit in books.audits.open_to(hosts)):
            yield books.run, len(books.audits.pending)
