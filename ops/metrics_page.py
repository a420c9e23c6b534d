"""What a consumer or a producer tells the aggregator of itself, served for Prometheus as well.

It is the aggregator's own bookkeeping, of one sender, so that the metrics are the same.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from aggregator.host_metrics import host_metrics
from aggregator.hosts import Hosts
from aggregator.leader_metrics import leader_metrics
from aggregator.leaders import Leaders
from protocol.errors import UsageError

log = logging.getLogger("montemq.metrics")


class LocalMetrics(Collector):
    """The metrics of this process, told by one thread and read by that of the page.

    Parameters
    ----------
    hear
        Takes what is told, and when: seconds since the epoch.
    show
        Yields the metrics of a time.
    """

    def __init__(
        self, hear: Callable[..., None], show: Callable[[float], Iterator[Metric]]
    ) -> None:
        self._hear, self._show = hear, show
        self._lock = threading.Lock()

    def hear(self, *told: object) -> None:
        """Take in what the aggregator is told."""
        word, *more = told
        with self._lock:
            self._hear(word, time.time(), *more)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        with self._lock:
            yield from list(self._show(time.time()))


def consumer_metrics() -> LocalMetrics:
    """Return the metrics of a consumer; its telemetry is what it is told."""
    hosts = Hosts()
    return LocalMetrics(hosts.hear, partial(host_metrics, hosts))


def producer_metrics() -> LocalMetrics:
    """Return the metrics of a producer; its words as a leader are what it is told."""
    leaders = Leaders()
    return LocalMetrics(leaders.hear, partial(leader_metrics, leaders))


METRICS = {"consumer": consumer_metrics, "producer": producer_metrics}
"""By the service that serves them."""


@contextmanager
def serving(metrics: Collector, address: tuple[str, int]) -> Iterator[str]:
    """Serve metrics over HTTP while the context lasts; gives the server's address.

    Raises
    ------
    UsageError
        The address cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    host, port = address
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(
            f"--metrics-port = '{host}:{port}' cannot be listened on: {error.strerror}"
        ) from None
    url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
    log.info("metrics at %s/metrics", url)
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
