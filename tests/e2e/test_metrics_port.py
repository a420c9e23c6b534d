"""Consumers and producers that serve their own metrics: the same ones, and nothing by default."""

import signal
import socket
from urllib.parse import urlsplit

import pytest

from tests.support.metrics_table import documented, exposed
from tests.support.stack_jobs import pi
from tests.support.stack_processes import Service, eventually
from tests.support.stack_site import Site

PREFIXES = {
    "consumer": ("montemq_host_", "montemq_model_"),
    "producer": ("montemq_producer_",),
}


def assert_serves_its_part_of_the_table(service: Service, role: str) -> None:
    found = exposed(service.http("/metrics")[1])
    assert found == {
        name: metric for name, metric in documented().items() if name.startswith(PREFIXES[role])
    }


def test_consumer_and_producer_serve_what_the_aggregator_shows_of_them(site: Site) -> None:
    aggregator = site.aggregator()
    consumer, producer = (
        site.consumer(1, "--metrics-port", "0"),
        site.producer("--metrics-port", "127.0.0.1:0"),
    )
    for service in (aggregator, consumer, producer):
        service.ready()
    job = pi("metered")
    assert site.run(job, "--detach").wait().code == 0
    counters = {
        "montemq_host_samples_total": consumer,
        "montemq_host_cpu_seconds_total": consumer,
        "montemq_producer_chunks_published_total": producer,
    }
    for name, service in counters.items():
        eventually(lambda name=name, service=service: service.metric(name), f"{name} counts")
        eventually(lambda name=name: aggregator.metric(name), f"the aggregator shows {name}")
    assert_serves_its_part_of_the_table(consumer, "consumer")
    assert_serves_its_part_of_the_table(producer, "producer")
    for service in (consumer, producer):
        address = urlsplit(service.ready()["http_url"])
        service.send(signal.SIGINT)
        assert service.wait().code == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address.hostname or "", address.port or 0))


def test_a_port_that_is_taken_is_one_sentence(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for role in ("consumer", "producer"):
            ended = site.command(role, "--metrics-port", port)
            assert ended.code == 2
            said = f"--metrics-port = '127.0.0.1:{port}' cannot be listened on: Address already"
            assert said in ended.err.splitlines()[-1]


def test_nothing_is_served_unless_asked_for(site: Site) -> None:
    site.aggregator().ready()
    assert "http_url" not in site.producer().ready()
    assert "http_url" not in site.consumer().ready()
