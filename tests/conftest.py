"""Fixtures for all tests: one private RabbitMQ node per session, clean for each test; a site."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.private_broker import PrivateBroker
from ops.rabbitmq_programs import rabbitmq_command
from protocol import registry
from protocol.errors import UsageError
from protocol.settings import Broker
from tests.support.real_broker import reset
from tests.support.stack_site import PLUGIN, Site


def require_rabbitmq() -> None:
    """Skip where RabbitMQ is not installed; in CI that is a failure."""
    try:
        rabbitmq_command()
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


@pytest.fixture
def site(broker: Broker, tmp_path: Path, plugin: None) -> Iterator[Site]:
    """Return an installation around a clean broker, without any process yet."""
    del plugin
    with Site(broker, tmp_path) as made:
        yield made


@pytest.fixture
def plugin() -> Iterator[None]:
    """Install the models of the plug-in here, as `Site` does for its processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLUGIN)
        registry._entries.cache_clear()
        yield
    registry._entries.cache_clear()
    registry.load_model.cache_clear()
