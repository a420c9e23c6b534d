"""Load the compiled kernels of the built-in models, so that what is forked from here has them.

The first time on a processor this compiles them, which takes a while; other processes wait for the
result instead of compiling as well.
"""

import contextlib
import logging
import time
from collections.abc import Iterator

from pydantic import ValidationError

from consumer.kernels.cache import one_at_a_time
from protocol.definition import Method, Sampling
from protocol.errors import UsageError
from protocol.model import PORTABLE_ENGINE, Model
from protocol.registry import load_model, model_names
from protocol.streams import BlockStream

PACKAGE = "consumer."
"""Where the built-in models live; other people's are loaded when a chunk asks for them."""

SLOW_SECONDS = 3.0

log = logging.getLogger(__name__)


def warm_up() -> None:
    """Simulate the smallest block of every built-in model by every method that it offers."""
    start = time.monotonic()
    with one_at_a_time():
        for model in built_in_models():
            try:
                _simulate(model)
            except Exception as error:  # noqa: BLE001 - a chunk of this model will say it again
                log.warning("model '%s' cannot be loaded: %s", model.name, error)
    if time.monotonic() - start > SLOW_SECONDS:
        log.info("compiled the kernels for this processor in %.0f s", time.monotonic() - start)


def built_in_models() -> Iterator[type[Model]]:
    """Yield the models of this package that compute the same bits everywhere."""
    for name in model_names():
        with contextlib.suppress(UsageError):
            model = load_model(name)
            if model.engine == PORTABLE_ENGINE and model.__module__.startswith(PACKAGE):
                yield model


def _simulate(model: type[Model]) -> None:
    from consumer.kernels.moments import moments  # noqa: PLC0415 - compiles

    try:
        cell = model()
    except ValidationError:  # it has no defaults
        return
    for method in model.methods:
        for control_variates in {False, bool(model.controls)}:
            sampling = Sampling(method=Method(method), control_variates=control_variates)
            stream = BlockStream(seed=0, cell=0, block=0, size=2)
            cell.simulate(stream, sampling, model.outputs)
            moments(cell.samples(stream, sampling, model.outputs), len(model.outputs))
