"""Fixtures for tests of the whole: a site around a clean broker, and models of tests only."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import registry
from protocol.settings import Broker
from tests.support.stack_site import PLUGIN, Site


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Iterator[Site]:
    """Return an installation without any process yet."""
    with Site(broker, tmp_path) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def plugin() -> Iterator[None]:
    """Install the models of the plug-in here, as `Site` does for its processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLUGIN)
        registry._entries.cache_clear()
        yield
    registry._entries.cache_clear()
    registry.load_model.cache_clear()
