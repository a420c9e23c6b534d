"""Answers visitors when montemq cannot: with a page that tells nothing of the broker's address."""

import logging
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

import producer

log = logging.getLogger(__name__)


class Unavailable:
    """Turns montemq's errors into responses, and writes what they say to the log."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Let the views answer."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer 503 where the broker or the aggregator cannot be used; leave all else alone."""
        if not isinstance(error, producer.BrokerError):
            return None
        log.error("montemq cannot be used: %s", error)
        return render(request, "pricing/unavailable.html", status=503)
