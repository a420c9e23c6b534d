"""A link is cancelled at every point of its opening and closing: it says and leaves nothing."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from itertools import count
from pathlib import Path
from types import coroutine
from typing import Any

import pytest

from protocol.amqp_aio import Link
from protocol.settings import Broker

PATIENCE_SECONDS = 20.0

Cancel = Callable[[asyncio.Task[Any], Any], object]
Work = Callable[[Broker, int, Cancel], Coroutine[Any, Any, None]]


def while_it_waits(task: asyncio.Task[Any], _: Any) -> None:
    """Cancel before what the task waits for has come."""
    asyncio.get_running_loop().call_soon(task.cancel)


def as_it_comes(task: asyncio.Task[Any], awaited: Any) -> None:
    """Cancel when what the task waits for has come, before the task is told."""
    if asyncio.isfuture(awaited):
        awaited.add_done_callback(lambda _: task.cancel())
    else:
        task.cancel()


@coroutine
def cancelled_at(
    suspension: int, work: Coroutine[Any, Any, Any], cancel: Cancel
) -> Generator[Any, None, Any]:
    """Await it, and cancel the task when it waits for the time of this number, from 0."""
    task = asyncio.current_task()
    step: Callable[[], Any] = partial(work.send, None)
    for number in count():
        try:
            awaited = step()
        except StopIteration as end:
            return end.value
        if number == suspension:
            cancel(task, awaited)  # type: ignore[arg-type] - it runs in one
        step = partial(work.send, None)
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001 - whatever it is goes where it belongs
            step = partial(work.throw, error)
    raise AssertionError


async def opening(broker: Broker, suspension: int, cancel: Cancel) -> None:
    link = await cancelled_at(suspension, Link.open(broker, "test"), cancel)
    await link.close()


async def closing(broker: Broker, suspension: int, cancel: Cancel) -> None:
    link = await Link.open(broker, "test")
    await cancelled_at(suspension, link.close(), cancel)


async def in_time(work: Coroutine[Any, Any, None]) -> None:
    """Await it, but not for ever where a cancellation gets lost."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await work


LEAST: dict[Work, int] = {opening: 2, closing: 2}
"""So often each of them waits at least, and is cancelled there: about half as often as it does."""


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("cancel", [while_it_waits, as_it_comes])
@pytest.mark.parametrize("work", LEAST)
def test_a_link_that_is_cancelled(
    broker: Broker, work: Work, cancel: Cancel, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_files()
    for suspension in count():
        try:
            asyncio.run(in_time(work(broker, suspension, cancel)))
        except asyncio.CancelledError:
            assert open_files() == before, suspension
            assert not caplog.text, suspension
        else:
            break
    assert suspension >= LEAST[work]
