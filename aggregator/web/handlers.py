"""What answers to each path; it reads the ledger and the store, and changes nothing."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from aggregator.convergence import check_cell, has_bars, history, kept_failure
from aggregator.store.disk import disk_use
from aggregator.watch import FLEET, RUNS, topic_of
from aggregator.web import static_files
from aggregator.web.arguments import Listing, listing, number
from aggregator.web.guard import add_headers, guard
from aggregator.web.report import MAX_PLOTS, report
from aggregator.web.result_csv import result_csv
from aggregator.web.results import Results
from aggregator.web.streams import stream
from aggregator.web.views import fleet_view, plot_data, run_line, run_view
from protocol.audit_odds import odds_text
from protocol.errors import StoreError, UsageError
from protocol.messages import Headline, RunState
from protocol.results import Result
from protocol.rpc_messages import Failures, History, RunStatus
from protocol.sentences import counted, no_consumer

if TYPE_CHECKING:
    from aggregator.service import Aggregator
    from aggregator.session import Session

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(aggregator: "Aggregator", host: str) -> web.Application:
    """Return what serves an aggregator on this host."""
    handlers = _Handlers(aggregator)
    app = web.Application(middlewares=[guard(host)])
    app.add_routes([web.get(path, handler) for path, handler in handlers.routes().items()])
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(handlers.end)
    return app


class _Handlers:
    def __init__(self, aggregator: "Aggregator") -> None:
        self._aggregator = aggregator
        self._results = Results()

    def routes(self) -> dict[str, Handler]:
        """Return what answers to which path."""
        return {
            "/": self.page,
            "/fleet": self.page,
            "/runs/{run}": self.page,
            "/static/{name}": self.static,
            "/runbook": self.runbook,
            "/metrics": self.metrics,
            "/healthz": self.health,
            "/readyz": self.ready,
            "/api/runs": self.runs,
            "/api/runs/{run}": self.run,
            "/api/runs/{run}/view": self.view,
            "/api/runs/{run}/history": self.history,
            "/api/runs/{run}/result.csv": self.csv,
            "/api/runs/{run}/report.html": self.report,
            "/api/runs/{run}/events": self.run_events,
            "/api/fleet": self.fleet,
            "/api/fleet/events": self.fleet_events,
            "/api/events": self.events,
        }

    async def end(self, _: web.Application) -> None:
        """End the streams, which would go on for ever."""
        self._aggregator.watch.tell_all(end=True)

    # For people

    async def page(self, _: web.Request) -> web.StreamResponse:
        text = await asyncio.to_thread(static_files.page)
        return web.Response(text=text, content_type="text/html")

    async def static(self, request: web.Request) -> web.StreamResponse:
        path = static_files.files().get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def runbook(self, _: web.Request) -> web.StreamResponse:
        page = self._aggregator.settings.runbook
        if page is None:
            raise web.HTTPNotFound(text="this aggregator was started without a runbook")
        return web.FileResponse(page)

    # For machines

    async def metrics(self, _: web.Request) -> web.Response:
        metrics = self._aggregator.metrics
        with contextlib.suppress(OSError):  # the other metrics may say why
            # In a thread, because a disk may take long to answer.
            metrics.show_disk(await asyncio.to_thread(disk_use, self._aggregator.settings.store))
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(self, _: web.Request) -> web.Response:
        if self._aggregator.session is not None:
            return web.json_response({"status": "active"})
        waiting = self._aggregator.standby_for
        return web.json_response({"status": "standby", "waiting_for": waiting}, status=503)

    # For both

    async def runs(self, request: web.Request) -> web.Response:
        session = self._session()
        try:
            wanted = listing(request.query)
        except UsageError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        ledger, now = session.ledger, session.clock()
        upto = wanted.page * wanted.limit
        found, total = ledger.newest(now, upto, wanted.state, search=wanted.search)
        page = found[upto - wanted.limit :]
        lines = [self._line(run) for run in page]
        # In a thread, because a model is looked at that may have to be loaded first.
        return await _json(lambda: _listing(wanted, total, [run_line(*line) for line in lines]))

    async def run(self, request: web.Request) -> web.Response:
        found = await self._result(request)
        return await _json(lambda: found.model_dump(mode="json"))

    async def view(self, request: web.Request) -> web.Response:
        found, failures = await self._result(request), await self._failures(request)
        session = self._session()
        line = self._line(session.ledger.status(found.run, session.clock()))
        return await _json(lambda: {"line": run_line(*line)} | run_view(found, failures))

    async def history(self, request: web.Request) -> web.Response:
        found = await self._result(request)
        output = request.query.get("output", next(iter(found.cells[0].outputs)))
        try:
            told = await self._history(found, number(request.query, "cell", 0))
            return await _json(lambda: plot_data(found, told, output))
        except UsageError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        except KeyError:
            text = "output is not allowed: the run does not report it"
            raise web.HTTPBadRequest(text=text) from None

    async def csv(self, request: web.Request) -> web.Response:
        found = await self._result(request)
        text = await asyncio.to_thread(result_csv, found)
        return _download(text, "text/csv", f"{found.run}.csv")

    async def report(self, request: web.Request) -> web.Response:
        found, failures = await self._result(request), await self._failures(request)
        cells = min(len(found.cells), MAX_PLOTS)
        histories = [await self._history(found, cell) for cell in range(cells)]
        text = await asyncio.to_thread(report, found, failures, histories, self._session().clock())
        return _download(text, "text/html", f"{found.run}.html")

    async def fleet(self, _: web.Request) -> web.Response:
        session = self._session()
        now = session.clock()
        consumers, fleet = session.hosts.consumers(now), session.ledger.fleet
        live, slots = fleet.consumers(), fleet.slots()
        standings = session.ledger.standings
        return await _json(
            lambda: {
                "clock": now,
                "text": f"{counted(live, 'live consumer')} with {counted(slots, 'slot')}",
                "live_consumers": live,
                "slots": slots,
                "consumers": fleet_view(consumers, now),
                "audits": odds_text(standings.share),
                "refused_hosts": sorted(standings.refused),
            }
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, RUNS)

    async def fleet_events(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, FLEET)

    async def run_events(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, topic_of(request.match_info["run"]))

    # Within

    async def _stream(self, request: web.Request, topic: str) -> web.StreamResponse:
        def state() -> dict[str, Any]:
            active = self._aggregator.session is not None
            return {"active": active, "waiting_for": self._aggregator.standby_for}

        return await stream(request, self._aggregator.watch, topic, state)

    def _session(self) -> "Session":
        if self._aggregator.session is None:
            raise web.HTTPServiceUnavailable(text="this aggregator stands by")
        return self._aggregator.session

    async def _result(self, request: web.Request) -> Result:
        with _store_errors():
            found = await self._results.get(self._session(), request.match_info["run"])
        if found is None:
            raise web.HTTPNotFound(text="no such run")
        return found

    async def _failures(self, request: web.Request) -> Failures:
        session, run = self._session(), request.match_info["run"]
        books = session.ledger.active.get(run)
        with _store_errors():
            kept = books.failures if books else await session.failures(run)
        return Failures(run=run, failures=tuple(map(kept_failure, kept)))

    async def _history(self, found: Result, cell: int) -> History:
        session = self._session()
        check_cell(found, cell)
        status = session.ledger.status(found.run, session.clock())
        with _store_errors():
            points = await session.points(found.run, cell)
            counted = await session.statistics(found.run, cell) if has_bars(found) else None
        return await asyncio.to_thread(history, status, found, cell, points, counted)

    def _line(self, run: RunStatus) -> tuple[RunStatus, Headline | None, float | None, str | None]:
        session = self._session()
        ledger, now = session.ledger, session.clock()
        headline = ledger.headline(run, now) or ledger.final_headline(run.run)
        idle = run.state is RunState.RUNNING and not ledger.fleet.slots(run.pool)
        waits = no_consumer(run.pool) if idle and ledger.fleet.is_known(now) else None
        return run, headline, session.watch.rate(run.run), waits


@contextlib.contextmanager
def _store_errors() -> Any:
    try:
        yield
    except StoreError as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from None


def _listing(wanted: Listing, total: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "total": total,
        "page": wanted.page,
        "pages": max(1, -(-total // wanted.limit)),
        "search": wanted.search,
        "state": wanted.state.value if wanted.state else None,
        "runs": lines,
        "states": [state.value for state in RunState],
    }


async def _json(make: Callable[[], Any]) -> web.Response:
    """Answer with what is made in a thread, because it may be much."""
    text = await asyncio.to_thread(lambda: json.dumps(make(), allow_nan=False))
    return web.json_response(text=text)


def _download(text: str, content_type: str, name: str) -> web.Response:
    # A run's id has no character that could end the name.
    disposition = f'attachment; filename="{name}"'
    return web.Response(
        text=text, content_type=content_type, headers={"Content-Disposition": disposition}
    )
