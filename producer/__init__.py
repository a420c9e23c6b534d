"""Declares runs, cuts them into chunks, schedules these and follows the run to its end.

`Client` and `AsyncClient` are the Python API. The broker is the one that MONTEMQ_AMQP_URL names,
unless an address is given:

>>> import producer
>>> with producer.Client() as client:
...     run = client.submit("pi", id="pi-1", seed=20, stop={"samples": 1_000_000})
...     result = run.result(timeout=60)
>>> pi = result.cells[0].outputs["pi"]
>>> print(producer.with_error(pi.mean, pi.standard_error), f"from {result.samples:,} samples")
3.1417 ± 0.0016 from 1,048,576 samples

Whatever a run file can say, a call can say, in the same sections and with the same complaints:

>>> with producer.Client() as client:
...     run = client.submit(
...         "european", id="smile-1", seed=2,
...         params={"rate": 0.02},
...         sweep={"strike": [90.0, 100.0, 110.0]},
...         sampling={"method": "sobol", "control_variates": True},
...         outputs={"names": ["price"]},
...         stop={"samples": 65_536},
...     )
...     for cell in run.result(timeout=60).cells:
...         print(cell.params["strike"], f"{cell.outputs['price'].mean:.2f}")
90.0 14.81
100.0 8.92
110.0 4.94

>>> with producer.Client() as client:
...     try:
...         client.submit("european", params={"strike": -1.0})
...     except producer.UsageError as error:
...         print(error)
params.strike = -1.0 is not allowed: it should be greater than or equal to 0

A run goes on when whoever waits for it does not, and an error carries what there is so far:

>>> with producer.Client() as client:
...     run = client.submit("asian", id="long-1", seed=3, stop={"samples": 1_000_000_000})
...     try:
...         run.result(timeout=0.5)
...     except producer.TimedOutError as error:
...         print(error, "merged so far:", error.partial.samples >= 0)
...     print(run.cancel())
run 'long-1' is not finished after 0.5 s, and goes on merged so far: True
cancelled

The client that submits a run schedules it while it is open. A web service declares runs instead,
`client.submit(..., detach=True)`, leaves them to the service `montemq producer`, and finds them
again by their ids:

>>> with producer.Client() as client:
...     snapshot = client.attach("pi-1").progress()
>>> print(snapshot.state, f"{snapshot.share:.0%}")
finished 100%

The same with asyncio:

>>> import asyncio
>>> async def watch(id):
...     async with producer.AsyncClient() as client:
...         run = await client.submit("pi", id=id, seed=4, stop={"samples": 1_000_000})
...         async for snapshot in run:
...             last = snapshot
...         return last.state, (await run.result()).samples
>>> state, samples = asyncio.run(watch("pi-2"))
>>> print(state, samples)
finished 1048576
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.async_client import AsyncClient
    from producer.client import Client, Run
    from producer.handle import AsyncRun, Snapshot
    from producer.runfile import Submission
    from producer.sections import prepare
    from protocol.errors import (
        BrokerError,
        ClientClosedError,
        MontemqError,
        RunCancelledError,
        RunFailedError,
        RunIdTakenError,
        TimedOutError,
        UnfinishedError,
        UnknownRunError,
        UsageError,
    )
    from protocol.messages import RunState
    from protocol.result_texts import interval_text, with_error
    from protocol.results import CellResult, Estimate, Result
    from protocol.rpc_messages import RunStatus, Status

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "BrokerError",
    "CellResult",
    "Client",
    "ClientClosedError",
    "Estimate",
    "MontemqError",
    "Result",
    "Run",
    "RunCancelledError",
    "RunFailedError",
    "RunIdTakenError",
    "RunState",
    "RunStatus",
    "Snapshot",
    "Status",
    "Submission",
    "TimedOutError",
    "UnfinishedError",
    "UnknownRunError",
    "UsageError",
    "interval_text",
    "prepare",
    "with_error",
]

_HOMES = {
    "AsyncClient": "producer.async_client",
    "Client": "producer.client",
    "Run": "producer.client",
    "AsyncRun": "producer.handle",
    "Snapshot": "producer.handle",
    "Submission": "producer.runfile",
    "prepare": "producer.sections",
    "BrokerError": "protocol.errors",
    "ClientClosedError": "protocol.errors",
    "MontemqError": "protocol.errors",
    "RunCancelledError": "protocol.errors",
    "RunFailedError": "protocol.errors",
    "RunIdTakenError": "protocol.errors",
    "TimedOutError": "protocol.errors",
    "UnfinishedError": "protocol.errors",
    "UnknownRunError": "protocol.errors",
    "UsageError": "protocol.errors",
    "RunState": "protocol.messages",
    "interval_text": "protocol.result_texts",
    "with_error": "protocol.result_texts",
    "CellResult": "protocol.results",
    "Estimate": "protocol.results",
    "Result": "protocol.results",
    "RunStatus": "protocol.rpc_messages",
    "Status": "protocol.rpc_messages",
}

if not TYPE_CHECKING:  # a checker reads the imports above, and complains of any other name

    def __getattr__(name: str) -> Any:
        """Import a name of the API when it is first asked for: most commands need none of them."""
        if name not in _HOMES:
            raise AttributeError(f"module 'producer' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
