"""All runs that there are, and which of them somebody asks for; pure."""

from collections.abc import Iterable
from heapq import nlargest
from operator import attrgetter

from aggregator.books import RunBooks
from aggregator.changes import EndedRun
from aggregator.summaries import run_status, unknown_run
from protocol.messages import Headline, RunState
from protocol.rpc_messages import Age, RunStatus


class Register:
    """All runs: the active ones in full, the ended ones as a summary.

    Parameters
    ----------
    active, ended
        What the store holds.
    """

    def __init__(self, active: Iterable[RunBooks], ended: Iterable[EndedRun]) -> None:
        self.active = {books.run: books for books in active}
        self.ended = {run.status.run: run for run in ended}

    def status(self, run: str, now: float) -> RunStatus:
        """Return the summary of a run.

        Raises
        ------
        UnknownRunError
            There is no such run.
        """
        if run in self.active:
            return run_status(self.active[run], now)
        if run in self.ended:
            return self.ended[run].status
        raise unknown_run(run)

    def newest(
        self,
        now: float,
        limit: int | None = None,
        state: RunState | None = None,
        older_than: Age | None = None,
        search: str = "",
    ) -> tuple[list[RunStatus], int]:
        """Return the newest runs, the very newest first, and how many there are without the limit.

        Parameters
        ----------
        now
            Seconds since the epoch.
        limit
            How many at most; None for all.
        state, older_than
            Only runs in this state, and before this one in the order; None for any.
        search
            Only runs with this in their id or the name of their model, in any case.
        """
        found: list[RunBooks | RunStatus] = []
        if state in {None, RunState.RUNNING}:
            found += self.active.values()
        if state is not RunState.RUNNING:  # of those that have ended there may be very many
            found += [r.status for r in self.ended.values() if state in {None, r.status.state}]
        if older_than is not None:
            found = [run for run in found if run.age < older_than]
        if search:
            wanted = search.lower()
            found = [
                run for run in found if wanted in run.run.lower() or wanted in run.model.lower()
            ]
        page = nlargest(len(found) if limit is None else limit, found, key=attrgetter("age"))
        told = [run_status(run, now) if isinstance(run, RunBooks) else run for run in page]
        return told, len(found)

    def final_headline(self, run: str) -> Headline | None:
        """Return the first estimate of a run that has ended, None where there is none."""
        ended = self.ended.get(run)
        return None if ended is None else ended.headline
