"""Fixtures for all tests: one private RabbitMQ node per session, clean for each test."""

import os
from collections.abc import Iterator

import pytest

from ops.broker_directory import find_server
from ops.private_broker import PrivateBroker
from protocol.errors import UsageError
from protocol.settings import Broker
from tests.support.real_broker import reset


def require_rabbitmq() -> None:
    """Skip where RabbitMQ is not installed; in CI that is a failure."""
    try:
        find_server()
    except UsageError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def private_broker() -> Iterator[PrivateBroker]:
    """Start a RabbitMQ node that the whole session shares; leave it running and reachable."""
    require_rabbitmq()
    with PrivateBroker.start() as node:
        yield node


@pytest.fixture
def broker(private_broker: PrivateBroker) -> Broker:
    """Return the address of a RabbitMQ that has montemq's topology, empty, and nothing else."""
    reset(private_broker.broker)
    return private_broker.broker
