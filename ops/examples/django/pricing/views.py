"""The pages: a form with the visitor's runs, a run, its progress as JSON, and cancel."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

import producer
from pricing import visitor
from pricing.forms import PriceForm
from pricing.runs import client, submit


@never_cache
@require_http_methods(["GET", "POST"])
def home(request: HttpRequest) -> HttpResponse:
    """Show the form, or submit what came with it and go to the run's page."""
    form = PriceForm(request.POST or None, visitor=visitor.name(request.session))
    if request.method == "POST" and form.is_valid() and form.submission is not None:
        submit(form.submission)
        visitor.remember(request.session, form.submission.run)
        return redirect("run", form.submission.run)
    context = {"form": form, "runs": visitor.runs(request.session)}
    return render(request, "pricing/home.html", context, status=400 if form.errors else 200)


@never_cache
@require_GET
def run(request: HttpRequest, run: str) -> HttpResponse:
    """Show how far a run is, then its result."""
    now = _own_run(request, run).progress()
    interval = producer.interval_text(now.estimate) if now.estimate else None
    context = {"now": now, "price": _price(now), "interval": interval}
    return render(request, "pricing/run.html", context)


@never_cache
@require_GET
def progress(request: HttpRequest, run: str) -> JsonResponse:
    """Return how far a run is, for the page's script."""
    return JsonResponse(_json(_own_run(request, run).progress()))


@require_POST
def cancel(request: HttpRequest, run: str) -> HttpResponse:
    """End a run and go back to its page."""
    _own_run(request, run).cancel()
    return redirect("run", run)


def _own_run(request: HttpRequest, run: str) -> producer.Run:
    visitor.expect_own(request.session, run)
    try:
        return client.attach(run)
    except producer.UnknownRunError:
        raise Http404("montemq does not know this run any more") from None


def _json(now: producer.Snapshot) -> dict[str, Any]:
    return {
        "run": now.run,
        "state": now.state.value,
        "ended": now.ended,
        "share": now.share,
        "samples": now.samples,
        "total_samples": now.total_samples,
        "slots": now.slots,
        "price": _price(now),
    }


def _price(now: producer.Snapshot) -> str:
    """Return the price so far, with as many digits as its standard error says are known."""
    estimate = now.estimate
    if estimate is None or estimate.mean is None:
        return "not yet known"
    return producer.with_error(estimate.mean, estimate.standard_error)
